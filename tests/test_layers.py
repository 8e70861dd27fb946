"""The order of the rooms: what ``make lint`` checks, and that it notices an import against it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": "src"})


@pytest.mark.parametrize(
    ("room", "planted"),
    [
        ("meta", "from emlc.data.loaders import Batch"),  # rooms beside each other
        ("config", "from emlc.methods.base import Method"),  # from above
        ("runs", "def later():\n    from emlc.report import collect"),  # and within a function
    ],
)
def test_an_import_against_the_order_is_found(room: str, planted: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    before = lint(tmp_path)
    assert before.returncode == 0, before.stdout
    (tmp_path / "src/emlc" / room / "planted.py").write_text(planted + "\n", encoding="utf-8")
    after = lint(tmp_path)
    assert after.returncode == 1
    assert f"emlc.{room}.planted" in after.stdout
