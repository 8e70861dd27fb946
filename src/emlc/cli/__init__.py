"""The command line: one module per command, each a thin layer over the Python API."""

from emlc.cli.main import main

__all__ = ["main"]
