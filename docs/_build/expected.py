"""Pages of the navigation that are still being written: left out of it as long as they are absent."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

EXPECTED = {"text.md", "report.md", "review.md", "export.md", "deploy.md", "python.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Drop the entries of expected pages that are not there."""
    absent = {name for name in EXPECTED if not (Path(config.docs_dir) / name).exists()}
    config.nav = _without(config.nav, absent)
    return config


def _without(entries: list[Any], absent: set[str]) -> list[Any]:
    kept = []
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            kept.append({title: _without(target, absent)})
        elif target not in absent:
            kept.append(entry)
    return kept


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: object) -> str:
    """Make plain text of links to expected pages that are not there."""
    for name in EXPECTED:
        if not (Path(config.docs_dir) / name).exists():
            markdown = re.sub(rf"\[([^\]]*)\]\((?:\.\./)?{name}[^)]*\)", r"\1", markdown)
    return markdown
