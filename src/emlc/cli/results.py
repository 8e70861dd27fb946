"""Print results on standard output, where names of somebody's files may be in them."""

from emlc.errors import readable


def show(line: object) -> None:
    """Print a line with control characters spelt out, since they could move a terminal's cursor."""
    print(readable(str(line)))
