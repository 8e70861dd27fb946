"""The one exception that means "what you gave us is wrong", as opposed to "we are wrong"."""

from collections.abc import Sequence


class InputError(ValueError):
    """Bad data, settings or files.

    The message is written for the person who made the input: it names the field, the file and the
    row, what was expected and what was found. The command line prints it without a traceback and
    exits with status 2.
    """


def raise_together(problems: Sequence[str], heading: str) -> None:
    """Raise one :class:`InputError` that lists every problem, or return if there are none."""
    if problems:
        raise InputErrors(problems, heading)


class InputErrors(InputError):
    """Several problems found at once.

    Attributes:
        problems: One message each.
    """

    def __init__(self, problems: Sequence[str], heading: str) -> None:
        self.problems = list(problems)
        lines = [f"{heading}, {len(problems)} problems:", *(f"  - {p}" for p in problems)]
        super().__init__(problems[0] if len(problems) == 1 else "\n".join(lines))
