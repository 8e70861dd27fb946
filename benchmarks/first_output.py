"""CPU seconds that each command takes until its first line.

    python -m benchmarks.first_output

Every command runs in a process of its own, on a run with a table of 128 wines, and ends after its first line.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from jsonargparse import auto_cli
from sklearn.datasets import load_wine

_COMMANDS = {
    "--help": "--help",
    "methods": "methods",
    "train, DATA does not exist": "train absent.csv --trusted_per_class 3",
    "apply, DECISIONS do not exist": "apply run absent.csv",
    "train": "train wines.csv --trusted trusted.csv --output new",
    "predict": "predict run test.csv --output new",
    "correct": "correct run",
    "evaluate": "evaluate run",
    "report": "report run",
    "review": "review run --port 0",
    "export": "export run --to csv --output new.csv",
    "apply": "apply run decisions.csv --output new",
    "draw": "draw wines.csv --number 20 --output new",
}


def first_output(repetitions: int = 3) -> None:
    """Print a Markdown table, measured on this machine.

    Args:
        repetitions: Processes per command, of which the median counts.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _prepare(folder)
        print("| | CPU s |\n|---|---|", flush=True)
        for name, arguments in _COMMANDS.items():
            seconds = [_until_first_line(arguments.split(), folder) for _ in range(repetitions)]
            print(f"| `{name}` | {median(seconds):.1f} |", flush=True)


def _prepare(folder: Path) -> None:
    wines = load_wine(as_frame=True).frame.rename(columns={"target": "label"}).sample(frac=1, random_state=0)
    wines.insert(0, "id", [f"wine-{i}" for i in range(len(wines))])
    for name, rows in {"trusted": wines[:20], "test": wines[20:50], "wines": wines[50:]}.items():
        rows.to_csv(folder / f"{name}.csv", index=False)
    label = wines["label"]
    decided = wines[50:51].assign(decision="accept", given_label=label, suggested_label=label)
    decided.to_csv(folder / "decisions.csv", index=False)
    arguments = "train wines.csv --trusted trusted.csv --test test.csv --epochs 1 --output run"
    subprocess.run(_command(arguments.split()), cwd=folder, check=True, capture_output=True)


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "emlc", *arguments]


def _until_first_line(arguments: list[str], folder: Path) -> float:
    """CPU seconds of a process from its start to its first line, threads included."""
    process = subprocess.Popen(
        _command(arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    with process.stdout as output:
        line = output.readline().decode()
        if not line or ("error" in line) != ("absent.csv" in arguments):
            raise SystemExit(f"emlc {' '.join(arguments)} says {line.strip()!r}")
        process.kill()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for new in folder.glob("new*"):
        shutil.rmtree(new) if new.is_dir() else new.unlink()
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    auto_cli(first_output, as_positional=False)
