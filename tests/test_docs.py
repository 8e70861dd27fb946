"""README and docs: no dead links, nothing left to fill in, every setting explained."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert re.findall(r"\b(?:TODO|FIXME|TBD|[A-Z]{4,}_[A-Z]+)\b", page.read_text(encoding="utf-8")) == []


def test_the_columns_of_the_label_table_are_explained() -> None:
    import torch

    import tiny
    from emlc.labels import label_table
    from emlc.teacher import Correction

    samples = tiny.samples(12)
    soft = torch.full((12, 3), 1 / 3)
    table = label_table(samples, Correction(soft, soft, torch.full((12,), 0.5)), soft)
    text = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    assert [column for column in table.columns if f"| `{column}` |" not in text] == []
