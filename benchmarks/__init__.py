"""Benchmarks, one per module: run them with python -m benchmarks.NAME."""
