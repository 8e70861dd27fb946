"""List the methods of `emlc train --method NAME`, with the paper that each comes from.

docs/methods.md says what each does, where it departs from its paper, and how it fares.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.config.methods import METHODS, method_reference

USAGE = ""


def add_arguments(parser: ArgumentParser) -> None:
    """Add no arguments: the command has none."""


def run(arguments: Namespace) -> None:
    width = max(map(len, METHODS))
    for name in METHODS:
        print(f"{name:{width}}  {method_reference(name)}")
