"""A run: the training loop, the run directory and the files that it writes there."""
