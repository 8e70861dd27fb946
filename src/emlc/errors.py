"""The one exception that means "what you gave us is wrong", as opposed to "we are wrong"; and warnings."""

from collections.abc import Sequence


class InputError(ValueError):
    """Bad data, settings or files.

    The message is written for the person who made the input: it names the field, the file and the
    row, what was expected and what was found. The command line prints it without a traceback and
    exits with status 2.
    """


class EMLCWarning(UserWarning):
    """What emlc warns of: a result is not what was asked for in every respect, or comes more slowly."""


class SteepNetworkWarning(EMLCWarning):
    """Finite differences are too coarse for a network: another engine has been taken."""


def raise_together(problems: Sequence[str], heading: str, *, shown: int | None = None) -> None:
    """Raise one :class:`InputError` that lists the problems, or return if there are none.

    ``shown`` is how many of them it lists, by default all.
    """
    if problems:
        raise InputErrors(problems, heading, shown=shown)


class InputErrors(InputError):
    """Several problems found at once.

    Attributes:
        problems: One message each.
    """

    def __init__(self, problems: Sequence[str], heading: str, *, shown: int | None = None) -> None:
        self.problems = list(problems)
        listed = self.problems[:shown]
        lines = [f"{heading}, {len(problems)} problems:", *(f"  - {p}" for p in listed)]
        lines += [f"  and {more:,} more"] if (more := len(problems) - len(listed)) else []
        super().__init__(problems[0] if len(problems) == 1 else "\n".join(lines))
