"""The exception for bad input, as opposed to errors of the program, and the warnings."""

import re
from collections.abc import Sequence

_LONGEST_LINE = 2000
_CONTROLS = re.compile(r"[^\n\t\x20-\x7e\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff]")


class InputError(ValueError):
    """Bad data, settings or files.

    The message is written for the person who made the input: it names the field, the file and the
    row, what was expected and what was found. The command line prints it without a traceback and
    exits with status 2.
    """


class NoSamplesError(InputError):
    """The error that none of the samples that were to be read are left."""


class EMLCWarning(UserWarning):
    """A warning that a result differs in some respect from what was asked for, or takes longer."""


class SteepNetworkWarning(EMLCWarning):
    """A warning that finite differences are too coarse for a network, and another engine is used."""


class RivalWarning(EMLCWarning):
    """A warning that simple classifiers do as well, or that the result is worth nothing."""


def raise_together(problems: Sequence[str], heading: str, *, shown: int | None = None) -> None:
    """Raise one :class:`InputError` that lists the problems, or return if there are none.

    Args:
        problems: One message each.
        heading: What the problems are in, such as ``the settings``.
        shown: How many of them are listed, by default all; the others are counted.

    Raises:
        InputErrors: There is at least one problem.
    """
    if problems:
        raise InputErrors(problems, heading, shown=shown)


class InputErrors(InputError):
    """An :class:`InputError` for several problems that were found at once.

    Attributes:
        problems: One message each.
    """

    def __init__(self, problems: Sequence[str], heading: str, *, shown: int | None = None) -> None:
        self.problems = list(problems)
        listed = self.problems[:shown]
        lines = [f"{heading}, {len(problems)} problems:", *(f"  - {p}" for p in listed)]
        lines += [f"  and {more:,} more"] if (more := len(problems) - len(listed)) else []
        super().__init__(problems[0] if len(problems) == 1 else "\n".join(lines))


def readable(message: str) -> str:
    """Return a message that is safe to print: control characters are spelt out, and long lines cut.

    A name or a cell of somebody's file may be in it, which could move the cursor, or fill the screen.
    """
    lines = [
        line
        if len(line) <= _LONGEST_LINE
        else f"{line[: _LONGEST_LINE // 2]} [... {len(line) - _LONGEST_LINE:,} characters ...] "
        f"{line[-_LONGEST_LINE // 2 :]}"
        for line in message.split("\n")
    ]
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], "\n".join(lines))
