"""The engine: exact gradients through inner training at constant memory."""
