"""List the methods that `emlc train --method NAME` knows, with what they are from.

docs/methods.md says of each what it does, where it departs from its paper, and how it fares.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.config.methods import CATALOGUE

USAGE = ""


def add_arguments(parser: ArgumentParser) -> None:
    """There are none."""


def run(arguments: Namespace) -> None:
    width = max(map(len, CATALOGUE))
    for name, facts in CATALOGUE.items():
        print(f"{name:{width}}  {facts.reference}")
