"""A run: the one training loop, its directory, and what it leaves there."""
