"""Damaged files of every kind that emlc reads: one message, in bounded time, and nothing else happens.

``EMLC_FUZZ`` sets the number of cases, as `make fuzz` does; ``EMLC_FUZZ_CASE`` makes one of them again.
"""

import hashlib
import os
import random
import resource
import shutil
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from tests import tiny
from tests.fuzz.mutations import damage
from tests.image_models import save_model

from emlc.cli import main
from emlc.config import Settings
from emlc.errors import InputError
from emlc.runs.train import train

CASES = int(os.environ.get("EMLC_FUZZ", "300"))
BLOCKS = 3 if CASES <= 300 else 40
SECONDS = 20
"""CPU time after which a case counts as a hang."""
GIB = 6
"""Memory that a case may take beyond what the process has."""

_EMBED = ("embed", "images", "--image_model", "model", "--embedding_cache", "vectors", "--output")
_TINY = {"width": 4, "epochs": 1, "noisy_batch": 16}
_OPTIONS = {**_TINY, "rivals": False, "device": "cpu", "trusted_column": "checked"}


class Hang(BaseException):
    """A case took longer than :data:`SECONDS`."""


@dataclass(frozen=True)
class Target:
    """A file to damage, and what is then done with it.

    Attributes:
        file: The file, or a pattern for one of several.
        act: The command line to run, or the settings to train with.
        weight: How often it is chosen.
        new: Beginnings of names of what a success, or a failure after the reading, may leave.
    """

    file: str
    act: Sequence[str] | dict[str, Any]
    weight: float = 1
    new: tuple[str, ...] = ("out", "cache")


def _targets() -> list[Target]:
    predict = ["predict", "run", "data.csv", "--output", "out.csv"]
    correct = ["correct", "run", "data.csv", "--output", "out.csv"]
    report = ["report", "run", "--output", "out.html", "--samples", "5", "--map_samples", "0"]
    data = [
        target
        for file in ("data.csv", "data.parquet", "data.npz")
        for target in (
            Target(
                file, ["predict", "npz" if file.endswith("npz") else "run", file, "--output", "out.csv"], 3
            ),
            Target(file, ["draw", file, "--number", "5", "--output", "out"], 2),
            Target(file, {"data": file, **({"trusted_column": "trusted"} if "npz" in file else {})}, 1),
        )
    ]
    run = [
        Target(f"run/{file}", command, weight)
        for file, weight in (("settings.yaml", 4), ("model.json", 4), ("decision.json", 2))
        for command in (predict, correct)
    ]
    run += [
        Target("run/chosen/*.safetensors", correct, 3),
        Target("run/split.csv", ["correct", "run", "--output", "out.csv"], 2),
    ]
    run += [
        Target(f"run/{name}", report, 0.5)
        for name in (
            "metrics.csv",
            "steps.csv",
            "summary.json",
            "labels.csv",
            "noise.csv",
            "split.csv",
            "decision.json",
            "rivals.json",
        )
    ]
    run += [
        Target("run/outputs.json", ["predict", "run", "data.csv"], 0.5, ("run/predictions", "run/outputs")),
        Target("run/rivals.json", correct, 0.5),
        Target("state/emlc/trusted.json", predict, 0.5),
        Target("decisions.csv", ["apply", "run", "decisions.csv", "--output", "out"], 2),
    ]
    embed = [*_EMBED, "out.parquet"]
    pretrain = ["pretrain", "--config", "pretrain.yaml", "--output", "out"]
    other = [
        Target("data.csv.gz", ["predict", "run", "data.csv.gz", "--output", "out.csv"]),
        Target("parts/*.parquet", ["predict", "run", "parts", "--output", "out.csv"]),
        Target("vectors/*", embed, 1, ("out", "vectors")),
        Target("model/backbone.safetensors", embed, 1, ("out", "vectors")),
        *([Target("pretrain.yaml", pretrain, 0.5)] if find_spec("lightly") else []),
    ]
    free = {"trusted_column": None}
    training = [
        Target("train.yaml", ["train", "--config", "train.yaml", "--output", "out"], 3),
        Target("to_check.csv", {"data": "data.csv", "trusted": "to_check.csv", **free}, 2),
        Target("human.csv", {"data": "data.csv", "human_labels": "human.csv"}),
        Target("human.npz", {"data": "data.csv", "human_labels": "human.npz"}),
        Target("human.pt", {"data": "data.csv", "human_labels": "human.pt"}),
        Target("matrix.csv", {"data": "data.csv", "noise": "matrix", "noise_matrix": "matrix.csv"}),
        Target("matrix.npy", {"data": "data.csv", "noise": "matrix", "noise_matrix": "matrix.npy"}),
        Target("init.safetensors", {"data": "data.csv", "init": "init.safetensors"}, 2),
        Target("init.pt", {"data": "data.csv", "init": "init.pt"}, 2),
        Target(
            "interrupted/checkpoint.pt", {"data": "data.csv", "output": "interrupted"}, 2, ("interrupted",)
        ),
        Target("interrupted/.lock", {"data": "data.csv", "output": "interrupted"}, 0.5, ("interrupted",)),
        Target("images/*/*.png", {"data": "images", "trusted": "right", "backbone": "cnn", **free}, 2),
        Target(
            "cache/*",
            {
                "data": "images",
                "trusted": "right",
                "image_cache": "cache",
                "memory_gib": 0,
                "image_size": 8,
                "backbone": "cnn",
                **free,
            },
            2,
        ),
    ]
    return [*data, *run, *other, *training]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound file of every kind."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", "state")
        _make()
    return folder


def _make() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    labels = np.array(tiny.CLASSES)[truth]
    X = (rng.normal(size=(60, 4)) + 3 * np.eye(3, 4)[truth]).astype(np.float32)
    table = pd.DataFrame({f"x{k}": X[:, k].round(3) for k in range(4)})
    table.insert(0, "id", [f"s{k}" for k in range(60)])
    table["label"], table["checked"] = labels, np.arange(60) < 20
    table.to_csv("data.csv", index=False)
    table.to_parquet("data.parquet")
    table.to_csv("data.csv.gz", index=False)
    Path("parts").mkdir()
    for k in range(2):
        table[k * 30 : k * 30 + 30].to_parquet(f"parts/{k}.parquet")
    np.savez("data.npz", X=X, y=labels, ids=table["id"].to_numpy("U"), trusted=table["checked"].to_numpy())
    checked = table[["id", "label"]].rename(columns={"label": "given_label"}).head(30)
    checked.assign(checked_label=checked["given_label"]).to_csv("to_check.csv", index=False)
    human = {"clean_label": labels, "noisy_label": np.roll(labels, 1)}
    pd.DataFrame(human).to_csv("human.csv", index=False)
    np.savez("human.npz", **human)
    torch.save({name: np.roll(truth, k) for k, name in enumerate(human)}, "human.pt")
    matrix = np.full((3, 3), 0.2) + 0.4 * np.eye(3)
    pd.DataFrame(matrix, columns=[*tiny.CLASSES]).to_csv("matrix.csv", index=False)
    np.save("matrix.npy", matrix)
    for folder, n in (("images", 30), ("right", 12)):
        for k in range(n):
            file = Path(folder, tiny.CLASSES[k % 2], f"{k}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(file)
    Path("train.yaml").write_text(
        "data: data.csv\ntrusted_column: checked\nepochs: 1\nwidth: 4\nclasses: [cat, cow, dog]\n"
        "rivals: false\nhyper: null\nnoisy_batch: 16\nfeature_columns: [x0, x1]\ndevice: cpu\n"
    )
    Path("pretrain.yaml").write_text(
        "data: images\nepochs: 1\nbackbone: cnn\nwidth: 4\nbatch: 8\nprojection_dim: 8\ndevice: cpu\n"
    )
    options = [token for name, value in _OPTIONS.items() for token in (f"--{name}", str(value).lower())]
    assert main(["train", "data.csv", *options, "--rivals", "true", "--output", "run"]) == 0
    assert main(["predict", "run", "data.csv"]) == 0
    decided = pd.read_csv("run/labels.csv").head(5)
    decided = decided.assign(decision="keep", label=decided["given_label"])
    decided.rename(columns={"corrected_label": "suggested_label"}).to_csv("decisions.csv", index=False)
    _train({"data": "data.npz", "trusted_column": "trusted", "output": "npz"})
    images = {"data": "images", "trusted": "right", "trusted_column": None, "backbone": "cnn"}
    _train({**images, "output": "gone", "image_cache": "cache", "memory_gib": 0, "image_size": 8})
    _train({"data": "data.csv", "output": "interrupted"}, lean=False)
    Path("interrupted/summary.json").unlink()
    Path("interrupted/.lock").write_text('{"process": 1, "host": "elsewhere", "since": "2026-01-01"}')
    save_model(Path("model"))
    assert main([*_EMBED, "embedded.parquet"]) == 0
    shutil.copy("run/chosen/student.safetensors", "init.safetensors")
    torch.save(load_file("init.safetensors"), "init.pt")
    for folder in ("gone", *Path().glob("*/tensorboard"), *Path().glob("*/last")):
        shutil.rmtree(
            folder, ignore_errors=True
        )  # nothing reads them here, and every case copies what is left
    for picture in Path().glob("*/*.png"):
        picture.unlink()


def _train(changes: dict[str, Any], *, lean: bool = True) -> None:
    settings = Settings(**{**_OPTIONS, "output": "out", **changes})
    resume = (Path(str(settings.output)) / "checkpoint.pt").exists()
    train(settings, lean=lean and not resume, resume=resume, console=Console(quiet=True))


@pytest.mark.filterwarnings("default::emlc.errors.EMLCWarning")  # says what happens, as a message does
@pytest.mark.parametrize("block", range(BLOCKS))
def test_damaged_files_end_in_one_message(block, base, tmp_path, monkeypatch, capsys):
    only = os.environ.get("EMLC_FUZZ_CASE")
    cases = range(block, CASES, BLOCKS) if only is None else [int(only)] if block == 0 else []
    failures = []
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    for number in cases:
        folder = tmp_path / str(number)
        shutil.copytree(base, folder)
        monkeypatch.chdir(folder)
        failures += _case(number, capsys)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    assert not failures, f"{len(failures)} of {len(cases)} cases:\n" + "\n".join(failures)


def _case(number: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    rng = random.Random(number)
    targets = _targets()
    (target,) = rng.choices(targets, [each.weight for each in targets])
    files = sorted(Path().glob(target.file))
    assert files, target.file
    file = rng.choice(files)
    damage(file, rng)
    name = f"case {number}: {file}, {' '.join(target.act) if isinstance(target.act, list) else target.act}"
    before = _contents()
    capsys.readouterr()
    try:
        with _limits():
            status = _act(target.act)
    except (Hang, Exception):
        return [f"{name}: {_innermost()}"]
    message = capsys.readouterr().err
    return [f"{name}: {problem}" for problem in _problems(target, status, message, before)]


def _act(act: Sequence[str] | dict[str, Any]) -> int:
    if not isinstance(act, dict):
        return main(act)
    try:
        _train(act)
    except (InputError, FloatingPointError) as error:
        return 2 if str(error) else 1
    return 0


def _problems(target: Target, status: int, message: str, before: dict[str, str]) -> Iterator[str]:
    after, new_names = _contents(), (*target.new, "state")
    if status not in (0, 2):
        yield f"status {status}: {message}"
    if "Traceback" in message or "\x1b" in message.replace("\x1b[31m", ""):
        yield f"printed {message!r}"
    if len(message) > 20_000:
        yield f"a message of {len(message):,} characters"
    changed = [
        name
        for name, content in before.items()
        if after.get(name) != content and not name.startswith(new_names)
    ]
    if changed:
        yield f"changed {changed}"
    new = [name for name in after.keys() - before.keys() if not name.startswith(new_names)]
    half = [name for name in after if ".writing-" in name]
    if new or half:
        yield f"left {sorted({*new, *half})}"


def _contents() -> dict[str, str]:
    return {
        str(path): hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in sorted(Path().rglob("*"))
    }


def _innermost() -> str:
    """The exception, and the innermost line of emlc."""
    lines = traceback.format_exc().splitlines()
    ours = [line.strip() for line in lines if "/src/emlc/" in line]
    return f"{lines[-1][:300]} at {ours[-1] if ours else lines[-3]}"


@contextmanager
def _limits() -> Iterator[None]:
    """Interrupt a hang, and let no allocation take the machine's memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, _interrupt)
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB * 2**30, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def _interrupt(*_: object) -> None:
    raise Hang(f"more than {SECONDS} s of CPU time")
