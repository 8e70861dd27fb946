"""Measurements of `emlc bench`: what a training step costs, methods in turns within one process."""
