"""Samples written as a data set that can be read back."""
