"""What runs leave in the store, and how they compare."""
