"""README and docs: no dead links, nothing left to fill in, every setting explained."""

import re
import shlex
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
    from emlc.labels import label_schema

    schema = label_schema(("CLASS",), true_labels=True, all_probabilities=True)
    text = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    assert [column for column in schema.names if f"| `{column}` |" not in text] == []


COMMANDS = [
    command.strip()
    for page in PAGES
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if command.strip().startswith("emlc ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    from emlc.cli.arguments import normalized, settings_from
    from emlc.cli.main import COMMANDS as MODULES
    from emlc.cli.main import build_parsers

    words = shlex.split(command, comments=True)[1:]
    if "--config" in words:
        pytest.skip("reads a file that an earlier command writes")
    arguments = build_parsers()[0].parse_args(normalized(words))
    settings = getattr(MODULES[arguments.command], "SETTINGS", None)
    if settings is not None:
        assert settings_from(arguments[arguments.command], settings).data is not None
