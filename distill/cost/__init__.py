"""What a recipe costs before it runs: time, memory, storage."""
