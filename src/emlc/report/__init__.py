"""The report of a run: one HTML file that opens offline, with a gallery for reviewing labels.

``facts`` collects the data of the report, ``sections`` arranges them (with ``tiles``, ``figures`` and
``tables``), ``rendering`` writes the HTML. ``page/`` holds its templates, styles and scripts: keyboard
shortcuts are in ``page/shortcuts.js``.
"""

from emlc.report.facts import Facts, collect
from emlc.report.rendering import render

__all__ = ["Facts", "collect", "render"]
