"""Measure what is most worth knowing of a GPU in the minutes that there are, in one process.

    python -m benchmarks.gpu --minutes 10 --data_root ../shared/data
    python -m benchmarks.gpu --minutes 5 --toy

In order of worth: steps of training (plain, recorded, MLC's), steps with TF32 off, steps on features,
embedding, SimCLR on CIFAR-10, and EMLC from its weights (noise-aware, the paper's text, the authors' code) at
80 and 20 % noise. A piece that no longer fits is left out. Training that runs out of time goes on where it
was when the command is given again on such a machine. A finished piece is measured again only if machine,
versions or code differ. Writes FOLDER/gpu.json after each piece. ``--toy`` shows that all of it works, on a
CPU as well, with digits and tiny networks: its figures mean nothing.
"""

import dataclasses
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli

from benchmarks.kept import script_digest, short_key
from emlc.config import BUNDLED_IMAGE_MODEL
from emlc.data.embeddings.image_models import load_image_model
from emlc.data.embeddings.inference import runner
from emlc.reproduce.cache import Cache
from emlc.reproduce.contenders import CONTENDERS
from emlc.reproduce.plan import PRETRAIN, Job, job
from emlc.reproduce.pretrained import PIXELS
from emlc.reproduce.protocol import make_protocol
from emlc.runtime.distributed import pick_device
from emlc.runtime.files import read_json, write_json
from emlc.timing.features import FeatureRecord, measure_features
from emlc.timing.hardware import describe_hardware, describe_versions
from emlc.timing.options import StepOptions
from emlc.timing.step import Record, measure_steps

_ROWS = ("emlc, noise-aware", "emlc (paper), k = 1", "emlc (authors' HEAD)")
_IMAGES = 20_000


class _OutOfTime(KeyboardInterrupt):
    """What ends a piece whose time is up: training takes it for Ctrl-C."""


@dataclass(frozen=True)
class _Piece:
    """A measurement.

    Attributes:
        name: Its name in the file.
        minutes: What it takes about, in full size on a large GPU; it begins only if as much is left.
        measure: Returns its figures.
        code: Hash of the code that decides them.
        tf32: Whether torch may round to TF32, as it does by default.
        goes_on: Whether it continues where it was when the command is given again. If not, it ends unfinished
            after twice its minutes, so that it does not take the time of all.
    """

    name: str
    minutes: float
    measure: Callable[[], Any]
    code: str
    tf32: bool = True
    goes_on: bool = False


def gpu(
    minutes: float = 10.0,
    data_root: str | None = None,
    pretrain_epochs: int = 30,
    folder: str = "runs/gpu",
    device: str = "auto",
    toy: bool = False,
) -> None:
    """Measure what fits, the most valuable first.

    Args:
        minutes: Time for all.
        data_root: Folder that holds cifar10.
        pretrain_epochs: Epochs of SimCLR; the paper's protocol has 1,000.
        folder: Where the figures and unfinished runs go.
        device: auto | cpu | cuda | cuda:N.
        toy: Digits and tiny networks, to see that it works.
    """
    end = time.monotonic() + 60 * minutes
    file = Path(folder) / ("toy.json" if toy else "gpu.json")
    command = shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    machine = _machine(device)
    with _without_tf32():
        exact_machine = _machine(device)
    runs = Path(folder) / "runs" / short_key(machine)
    kept: dict[str, Any] = read_json(file)["pieces"] if file.exists() else {}
    for piece in [*_costs(device, toy), *_training(runs, data_root, pretrain_epochs, toy)]:
        made_by = {**(machine if piece.tf32 else exact_machine), "code": piece.code}
        result = before = kept.get(piece.name, {"finished": False})
        if not (before["finished"] and made_by.items() <= before.items()):
            with nullcontext() if piece.tf32 else _without_tf32():
                result = {**_attempt(piece, end - time.monotonic(), toy), "command": command, **made_by}
        # What another machine finished stays, with its name, until it is measured again.
        if result["finished"] or not before["finished"]:
            kept[piece.name] = result
            write_json(file, {"pieces": kept})
        print(f"{piece.name}: {_told(result)}", flush=True)


def _machine(device: str) -> dict[str, Any]:
    """Return what figures depend on beside the code, as JSON has it."""
    return {"versions": describe_versions(), "hardware": describe_hardware(pick_device(device))}


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute with all bits of float32 on GPUs during a block, as finite differences need it."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with warnings.catch_warnings():
        # torch 2.9 warns of these names, all versions have them.
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        before = cudnn.allow_tf32, matmul.allow_tf32
        cudnn.allow_tf32 = matmul.allow_tf32 = False
        try:
            yield
        finally:
            cudnn.allow_tf32, matmul.allow_tf32 = before


def _attempt(piece: _Piece, seconds: float, toy: bool) -> dict[str, Any]:
    if seconds < (1 if toy else 60 * piece.minutes):
        return {
            "finished": False,
            "why": f"needs some {piece.minutes:g} min, {max(seconds, 0) / 60:.1f} were left",
        }
    begin = time.monotonic()
    try:
        with _at_most(seconds if piece.goes_on else min(seconds, 120 * piece.minutes)):
            figures = piece.measure()
    except _OutOfTime:
        return {"finished": False, "why": f"out of time after {time.monotonic() - begin:.0f} s"}
    except (RuntimeError, ValueError, OSError) as error:  # the other pieces are measured all the same
        return {"finished": False, "why": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
    return {"finished": True, "seconds": round(time.monotonic() - begin, 1), "figures": figures}


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise :class:`_OutOfTime` in the block when its time is up."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _told(result: dict[str, Any]) -> str:
    return f"{result['seconds']:.0f} s" if result["finished"] else f"not finished: {result['why']}"


def _costs(device: str, toy: bool) -> Iterator[_Piece]:
    """Yield the measurements of what steps and embedding cost."""
    steps = StepOptions(
        networks=["resnet18" if toy else "resnet34"],
        methods=["cross-entropy", "mlc", "mlc-pruned", "emlc", "emlc-plain"],
        look_ahead=[1],
        engines=["forward", "finite-difference"],
        meta_gradients=["approximate"],
        precisions=["float32"] if toy else ["bf16-mixed", "float32"],
        noisy_batch=[4] if toy else [128],
        trusted_batch=[4] if toy else [32],
        image_size=8 if toy else 32,
        repetitions=1 if toy else 3,
        device=device,
    )
    exact = dataclasses.replace(steps, methods=["cross-entropy", "emlc"], precisions=["float32"])
    features = StepOptions(features=True, repetitions=1 if toy else 5, device=device)
    code = script_digest("benchmarks.gpu", "cross-entropy", "mlc", "emlc", "fasten")
    yield _Piece("steps on images", 2.0, lambda: _records(measure_steps(steps)), code)
    yield _Piece("steps with TF32 off", 0.7, lambda: _records(measure_steps(exact)), code, tf32=False)
    yield _Piece("steps on features", 0.5, lambda: _records(measure_features(features)), code)
    yield _Piece("embedding", 0.3, lambda: _embedding(device, 64 if toy else _IMAGES), code)


def _records(records: Sequence[Record | FeatureRecord]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(each) for each in records]


def _embedding(device: str, images: int) -> dict[str, float]:
    """Return how many images the bundled network embeds in a second, resizing and reading left out."""
    network = load_image_model(BUNDLED_IMAGE_MODEL).network
    run = runner(network, PIXELS, pick_device(device), images)
    block = np.random.default_rng(0).integers(0, 256, (images // 4, 3, PIXELS, PIXELS), np.uint8)
    run(block[:64])
    begin = time.perf_counter()
    for _ in range(4):
        run(block)
    return {"images_per_second": 4 * len(block) / (time.perf_counter() - begin)}


def _training(runs: Path, data_root: str | None, epochs: int, toy: bool) -> Iterator[_Piece]:
    """Yield SimCLR, and EMLC from its weights."""
    protocol = make_protocol("small", "digits") if toy else make_protocol("paper", "cifar10", data_root)
    assert protocol.pretrain is not None
    common: dict[str, Any] = {
        **protocol.settings,
        PRETRAIN: {**protocol.pretrain, "epochs": 1 if toy else epochs},
    }
    common |= {"seed": 0, **({"epochs": 1} if toy else {})}
    cache = Cache(runs)
    jobs = {
        f"{label}, symmetric {rate:.0%}": job(
            {**common, "noise": "symmetric", "noise_rate": rate, **CONTENDERS[label].row(protocol).settings}
        )
        for rate in (0.8, 0.2)
        for label in _ROWS
    }
    start = next(iter(jobs.values())).start
    assert start is not None
    yield _Piece("SimCLR", 0.5, partial(_made, cache, start), start.key, goes_on=True)
    for name, each in jobs.items():
        yield _Piece(name, 0.5, partial(_made, cache, each), each.key, goes_on=True)


def _made(cache: Cache, each: Job) -> dict[str, Any]:
    """Make a run, or go on with it, and return its summary."""
    cache.make(each, wait=True)
    summary: dict[str, Any] = read_json(cache.folder(each) / "summary.json")
    return summary


if __name__ == "__main__":
    auto_cli(gpu)
