"""The README's commands, run as a newcomer would: in order, in an empty folder."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from emlc.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-4000:]}"


def shell_commands(block: str) -> list[str]:
    return [line.split("#")[0].strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every block of the README has been run."""
    folder = tmp_path_factory.mktemp("newcomer")
    emlc = shutil.which("emlc", path=str(Path(sys.executable).parent)) or "emlc"
    for language, block in BLOCKS:
        if language == "python":
            run([sys.executable, "-W", "error::DeprecationWarning", "-c", block], folder)
            continue
        for command in shell_commands(block):
            if "decisions.csv" in command:
                write_decisions(folder / "runs/wines/labels.csv", folder / "decisions.csv")
            if command == "make demo":
                run([emlc, "demo"], folder)
            elif command.startswith("emlc "):
                # In this process: starting one takes longer than most commands.
                with contextlib.chdir(folder):
                    assert main(re.findall(r'"[^"]*"|\S+', command)[1:]) == 0, command
    return folder


def test_first_block_is_the_two_commands() -> None:
    assert shell_commands(BLOCKS[0][1]) == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:.*\n\t\$\(BIN\)/emlc demo$", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_demo_shows_what_the_readme_promises(folder: Path) -> None:
    summary = json.loads((folder / "runs/demo/summary.json").read_text(encoding="utf-8"))
    assert set(summary) == {"trusted-only", "cross-entropy", "emlc"}
    emlc = summary["emlc"]
    assert emlc["test_accuracy"] > summary["cross-entropy"]["last_test_accuracy"] + 10
    assert emlc["wrong_label_recovery"] > 80
    assert emlc["noise_rate_nominal"] == 0.8
    assert emlc["noise_rate_actual"] == pytest.approx(0.72, abs=0.04)
    pictures = {p.name for p in (folder / "runs/demo/emlc").glob("*.png")}
    assert pictures == {"recovery.png", "retain_weights.png", "meta_objective.png"}


def test_own_data_ends_in_better_labels(folder: Path) -> None:
    labels = pd.read_csv(folder / "runs/wines/labels.csv")
    noisy = pd.read_csv(folder / "wines.csv")
    assert list(labels["id"]) == list(noisy["id"])
    assert list(labels["given_label"]) == list(noisy["label"])
    truth = labels["id"].map(true_wines())
    assert (labels["corrected_label"] == truth).mean() > (labels["given_label"] == truth).mean() + 0.2


def write_decisions(labels: Path, decisions: Path) -> None:
    """What the report hands out after a reviewer has accepted the ten most doubtful suggestions."""
    worst = pd.read_csv(labels)
    worst = worst[worst["is_label_issue"]].sort_values("label_quality").head(10)
    shown = {"given_label": worst["given_label"], "suggested_label": worst["corrected_label"]}
    table = pd.DataFrame(
        {"id": worst["id"], "decision": "accept", "label": worst["corrected_label"], **shown}
    )
    assert len(table) == 10
    table.to_csv(decisions, index=False)


def test_reviewed_samples_are_trusted_in_the_next_round(folder: Path) -> None:
    before, after = (
        json.loads((folder / f"runs/{run}/summary.json").read_text(encoding="utf-8"))
        for run in ("wines", "wines-2")
    )
    assert after["trusted_samples"] == before["trusted_samples"] + 10
    assert after["noisy_samples"] == before["noisy_samples"] - 10


def true_wines() -> dict[str, str]:
    from sklearn.datasets import load_wine

    names = ["barolo", "grignolino", "barbera"]
    return {f"wine-{i}": names[target] for i, target in enumerate(load_wine().target)}


def test_every_command_left_its_result(folder: Path) -> None:
    for name in (
        "runs/wines/predictions-test.csv",
        "runs/wines-2/labels.csv",
        "runs/demo/emlc/report.html",
        "runs/wines/report.html",
    ):
        assert (folder / name).is_file(), name
