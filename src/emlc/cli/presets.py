"""List the presets: settings of published experiments, or for a kind of data, for `emlc train --preset NAME`.

Noise and k are given as options: `emlc train --preset cifar10 --noise symmetric --noise_rate 0.8
--look_ahead 5`. A preset for a kind of data needs DATA as well: `emlc train DATA --preset text --trusted T`.
The presets of `emlc pretrain` make the weights that the paper's experiments start from.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.config.presets import COMMANDS, preset_names, preset_summary

USAGE = ""


def add_arguments(parser: ArgumentParser) -> None:
    """Add no arguments: the command has none."""


def run(arguments: Namespace) -> None:
    for command in COMMANDS:
        print(f"emlc {command} --preset NAME")
        for name in preset_names(command):
            print(f"  {name:26}{preset_summary(name, command)}")
