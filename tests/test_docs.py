"""README and docs: every command does its work, no dead links, nothing left to fill in; the site builds."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest

import emlc
from docs_runner import ROOT, Block, blocks, run_page
from emlc.cli.arguments import normalized, settings_from
from emlc.cli.main import COMMANDS, build_parsers
from emlc.config import PretrainSettings, Settings

PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = "README.md"
"""By test_readme.py."""

BLOCKS = [block for page in PAGES if page.name != RUN_ELSEWHERE for block in blocks(page)]

NOT_RUN = {
    "CONTRIBUTING.md": ["it runs this test"],
    "docs/benchmarks.md": [*["takes an hour"] * 2, "needs the features", *["takes minutes"] * 5],
    "docs/data.md": ["takes minutes, and needs the generator of the tables", "needs a million photographs"],
    "docs/export.md": ["needs an Argilla server", "needs FiftyOne", "needs cleanlab[datalab]"],
    "docs/how-to/reproduce.md": [
        *("needs a GPU for days", "needs two machines", *["takes an hour"] * 2, "takes hours")
    ],
    "docs/images.md": ["installs", *["needs CIFAR-10"] * 2],
    "docs/index.md": ["installs"],
    "docs/labels.md": ["takes minutes"] * 2,
    "docs/pretraining.md": ["installs", "needs CIFAR-10 and a GPU for hours"],
    "docs/reliability.md": ["it kills commands 236 times", "it takes hours"],
    "docs/results.md": [
        *("takes minutes", "takes five minutes", "takes half an hour"),
        *["takes hours"] * 6,
    ],
    "docs/review.md": [
        *("it serves until Ctrl-C", "there is no such file before a review", "takes a quarter of an hour")
    ],
    "docs/scale.md": ["needs two machines", "needs Ray", "needs Ray", "takes minutes"],
    "docs/text.md": ["installs", "downloads data"],
    "docs/tutorial-photos.md": ["installs"],
}
"""Why the blocks of a page that are not run are not: none is without being listed here."""


def shell(block: Block) -> list[list[str]]:
    return block.commands if block.language == "sh" else []


ids = {"ids": lambda page: page.relative_to(ROOT).as_posix()}


@pytest.mark.parametrize(
    "page", [ROOT / name for name in sorted({b.page for b in BLOCKS if "run: skip" not in b.marks})], **ids
)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run_page(page, tmp_path) > 0


def test_what_is_not_run_is_known_with_its_reason() -> None:
    found: dict[str, list[str]] = {}
    for block in BLOCKS:
        if "run: skip" in block.marks:
            found.setdefault(block.page, []).append(block.marks["run: skip"])
    assert {page: sorted(reasons) for page, reasons in found.items()} == {
        page: sorted(reasons) for page, reasons in NOT_RUN.items()
    }


@pytest.mark.parametrize("page", PAGES, **ids)
def test_every_fenced_command_is_a_block_that_is_run(page: Path) -> None:
    """No command hides in a block of another kind, or in an indented one."""
    text = page.read_text(encoding="utf-8")
    assert (
        re.findall(r"^(?: {4}|\$ )(?:emlc|python|pip|make|torchrun) [^\n]*", text, flags=re.MULTILINE) == []
    )
    assert set(re.findall(r"^```(\w+)", text, flags=re.MULTILINE)) <= {"sh", "python", "text", "yaml"}


@pytest.mark.parametrize(
    "command",
    [c for block in BLOCKS if "run: skip" in block.marks for c in shell(block)],
    ids=lambda command: " ".join(command)[:80],
)
def test_what_is_not_run_is_understood(command: list[str]) -> None:
    match command:
        case ["emlc", *words]:
            arguments = build_parsers()[0].parse_args(normalized(words))
            settings = getattr(COMMANDS[arguments.command], "SETTINGS", None)
            if settings is not None:
                chosen = arguments[arguments.command]
                chosen.argv = words
                assert settings_from(chosen, settings).data is not None
        case ["python", "-m", module, *words]:
            assert find_spec(module) is not None
            assert [w for w in words if w.startswith("benchmarks/") and not (ROOT / w).is_file()] == []
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        case _:
            assert command[0] in (".", "pip", "ray", "torchrun", ".venv/bin/pre-commit")


@pytest.mark.parametrize("page", PAGES, **ids)
def test_options_named_in_the_text_exist(page: Path) -> None:
    actions = [action for parser in build_parsers()[1].values() for action in parser._actions]
    known = {option for action in actions for option in action.option_strings} | {"--preset"}
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    codes = [c for c in re.findall(r"`([^`]*)`", prose) if not c.startswith(("python", "ray", "tensorboard"))]
    named = {name for code in codes for name in re.findall(r"(?<!\S)--[a-z]\w+", code)}
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, **ids)
def test_links_lead_somewhere(page: Path) -> None:
    """Links of the pages that are only there when the site is built are checked by its strict build."""
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    generated = re.compile(r"reference/(command-line|settings|python|presets)\.md$")
    assert [link for link in links if not (page.parent / link).exists() and not generated.search(link)] == []


@pytest.mark.parametrize("page", PAGES, **ids)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = r"(?!EMLC_|SLURM_|GOMP_|STRICT_SPREAD)[A-Z]{4,}_[A-Z]+"  # but for those of programs
    assert re.findall(rf"\b(?:TODO|FIXME|TBD|{names})\b", text) == []


def test_the_columns_of_the_label_table_are_explained() -> None:
    from emlc.labels.table import label_schema

    schema = label_schema(("CLASS",), true_labels=True, all_probabilities=True)
    text = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    assert [column for column in schema.names if f"| `{column}` |" not in text] == []


in_one_process = pytest.mark.xdist_group("site")
"""So that the site is built once."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; warnings end the build."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@in_one_process
def test_every_option_setting_and_public_name_is_in_the_reference(site: Path) -> None:
    files = {name: site / f"reference/{name}.html" for name in ("command-line", "settings", "python")}
    pages = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    assert [name for name in COMMANDS if f'id="emlc-{name}"' not in pages["command-line"]] == []
    names = {f.name for kind in (Settings, PretrainSettings) for f in fields(kind)}
    assert [name for name in sorted(names) if f"<code>{name}</code>" not in pages["settings"]] == []
    described = set(re.findall(r'id="emlc\.(?:\w+\.)*(\w+)"', pages["python"]))
    assert set(emlc.__all__) - described == set()


@in_one_process
def test_formulas_are_drawn_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    assert method.count('<svg class="formula"') > 30
    assert "arithmatex" not in method
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert (
            re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?(?:https?:)?//[^>]*', text) == []
        ), page
