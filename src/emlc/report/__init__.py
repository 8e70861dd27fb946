"""The report of a run: one HTML file that opens offline, with a gallery to review labels in.

``facts`` gathers what is known; ``tiles``, ``figures``, ``tables`` and, above them, ``sections`` say how
it is shown; ``rendering`` writes it.
"""

from emlc.report.facts import Facts, collect
from emlc.report.rendering import render

__all__ = ["Facts", "collect", "render"]
