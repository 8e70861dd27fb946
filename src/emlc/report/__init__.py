"""The report of a run: one HTML file that opens offline, with a gallery to review labels in.

``collect`` gathers the facts, ``figures`` and ``sections`` say how they are shown,
``render`` writes the page.
"""

from emlc.report.collect import Facts, collect
from emlc.report.render import render

__all__ = ["Facts", "collect", "render"]
