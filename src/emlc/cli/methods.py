"""List the methods that `emlc train --method NAME` knows, with what they are from.

docs/methods.md says of each what it does, where it departs from its paper, and how it fares.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.config.methods import METHODS, method_reference

USAGE = ""


def add_arguments(parser: ArgumentParser) -> None:
    """There are none."""


def run(arguments: Namespace) -> None:
    width = max(map(len, METHODS))
    for name in METHODS:
        print(f"{name:{width}}  {method_reference(name)}")
