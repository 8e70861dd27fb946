"""Render a report as one HTML file that needs no other file.

Names, ids and texts come from the user's data and must never act as markup or code: Jinja escapes them in the
HTML, :func:`script_json` in the data, :func:`emlc.report.figures.base.plot_text` in the figures. A
Content-Security-Policy forbids the page to fetch anything and to run scripts other than its own.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from emlc.report.facts import Facts
from emlc.report.gallery import Gallery
from emlc.report.sections import describe

_SCRIPTS = (
    *("page", "csv", "figures", "storage", "decisions", "filters", "cards", "zoom", "standing", "people"),
    *("context", "shortcuts", "review"),
)
"""Scripts of the page, each after those that it uses."""


def render(facts: Facts) -> str:
    """Render the report as HTML."""
    view = describe(facts)
    scripts = {"plotly": _normal(get_plotlyjs()), "page": _page_script()}
    data = {
        "identity": facts.identity,
        "classes": list(facts.classes),
        "figures": {figure.key: figure.spec for figure in view.figures},
        "gallery": None if facts.gallery is None else vars(facts.gallery),
    }
    return _fill("report.html.j2", data, scripts, view=view, facts=facts, served=False)


def render_drawn(gallery: Gallery, classes: tuple[str, ...], title: str, command: str) -> str:
    """Render a page on which samples are labelled without suggestions.

    Args:
        gallery: The samples: see :func:`emlc.report.gallery.plain_gallery`.
        classes: Class names.
        title: Name of the data.
        command: The command that uses the decisions.
    """
    shown = json.dumps([title, classes, gallery.records])  # other labels or contents are other data
    data = {
        "identity": hashlib.blake2b(shown.encode(), digest_size=12).hexdigest(),
        "classes": list(classes),
        "figures": {},
        "gallery": vars(gallery),
    }
    facts, view = {"gallery": gallery}, {"title": title, "apply": command}
    return _fill("drawn.html.j2", data, {"page": _page_script()}, view=view, facts=facts, served=False)


def render_served(gallery: Gallery, classes: tuple[str, ...], identity: str, view: dict[str, Any]) -> str:
    """Render the review page of a server, which fetches pictures and keeps decisions there.

    Args:
        gallery: The samples: see :func:`emlc.report.gallery.make_gallery`; records have a ``row``, too.
        classes: Class names.
        identity: Hash that identifies the run.
        view: title, apply (the command that applies the decisions), advice, and interrupted.
    """
    data = {
        "identity": identity,
        "classes": list(classes),
        "figures": {},
        "gallery": vars(gallery),
        "server": True,
    }
    facts, scripts = {"gallery": gallery}, {"page": _page_script()}
    return _fill("served.html.j2", data, scripts, view=view, facts=facts, served=True)


def _fill(template: str, data: dict[str, Any], scripts: dict[str, str], **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("emlc.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cells": _cells, "numeric": _numeric, "number": _number}
    return environment.get_template(template).render(
        **values,
        data=script_json(data),
        style=_page_file("report.css"),
        scripts=scripts,
        policy=_policy(list(scripts.values()), is_served=values["served"]),
        version=version("emlc"),
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def script_json(value: Any) -> str:
    """Encode a value as JSON for an HTML ``<script>``: nothing in it ends the script or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _policy(scripts: list[str], *, is_served: bool) -> str:
    """Return a Content-Security-Policy: requests to the server alone, if there is one; only these scripts."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    own = "'self' " if is_served else ""
    connect = "connect-src 'self'; " if is_served else ""
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src {own}data: blob:; "
        f"{connect}base-uri 'none'; form-action 'none'"
    )


@cache
def _page_script() -> str:
    parts = "\n".join(_page_file(f"{name}.js") for name in _SCRIPTS)
    return _normal(f'(() => {{\n"use strict";\n{parts}}})();\n')


def _page_file(name: str) -> str:
    return (resources.files("emlc.report") / "page" / name).read_text(encoding="utf-8")


def _normal(script: str) -> str:
    """Normalise line ends as browsers do before they compare a script's hash with the policy."""
    return script.replace("\r\n", "\n").replace("\r", "\n")


# --- filters ------------------------------------------------------------------------------------


def _number(value: object, digits: int = 1) -> str:
    """Format a number with thousands separators, a float with ``digits`` decimals; unknown ones as a dash."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:,.{digits}f}" if isinstance(value, float | np.floating) else f"{value:,}"


def _cells(table: pd.DataFrame) -> list[list[str]]:
    """Format the cells of a table as texts, row by row."""
    columns = [[_cell(value) for value in table.iloc[:, k].tolist()] for k in range(table.shape[1])]
    return [list(row) for row in zip(*columns, strict=True)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        if np.isnan(value):
            return "-"
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numeric(table: pd.DataFrame) -> list[bool]:
    """Return for each column whether it holds numbers only."""
    return [
        all(isinstance(value, int | float) and not isinstance(value, bool) for value in table.iloc[:, k])
        for k in range(table.shape[1])
    ]
