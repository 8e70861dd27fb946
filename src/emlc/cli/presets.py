"""List the presets: the rows of the paper's tables, and kinds of data, for `emlc train --preset NAME`.

Those for kinds of data name none: `emlc train DATA --preset text --trusted T`. Those of `emlc pretrain`
make the weights that the rows start from.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.config.presets import COMMANDS, preset_names, preset_summary

USAGE = ""


def add_arguments(parser: ArgumentParser) -> None:
    """There are none."""


def run(arguments: Namespace) -> None:
    for command in COMMANDS:
        print(f"emlc {command} --preset NAME")
        for name in preset_names(command):
            print(f"  {name:26}{preset_summary(name, command)}")
