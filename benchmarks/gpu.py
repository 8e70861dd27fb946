"""Measure what is most worth knowing of a GPU in the minutes that there are, in one process.

    python -m benchmarks.gpu --minutes 10 --data_root ../shared/data
    python -m benchmarks.gpu --minutes 5 --toy

In order of worth: steps of training (plain, recorded, MLC's), steps on features, embedding, SimCLR on
CIFAR-10, and EMLC from its weights (noise-aware, the paper's text, the authors' code) at 80 and 20 % noise. A
piece that no longer fits is left out. Training that runs out of time goes on where it was when the command is
given again, and a finished piece is not measured again. Writes FOLDER/gpu.json after each piece. ``--toy``
shows that all of it works, on a CPU as well, with digits and tiny networks: its figures mean nothing.
"""

import dataclasses
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from jsonargparse import auto_cli

from emlc.config import BUNDLED_IMAGE_MODEL
from emlc.data.embeddings.image_models import load_image_model
from emlc.data.embeddings.inference import runner
from emlc.reproduce.cache import Cache
from emlc.reproduce.contenders import CONTENDERS
from emlc.reproduce.plan import PRETRAIN, Job, job
from emlc.reproduce.protocol import make_protocol
from emlc.runtime.distributed import pick_device
from emlc.runtime.files import read_json, write_json
from emlc.timing.features import measure_features
from emlc.timing.hardware import describe_hardware, describe_versions
from emlc.timing.options import StepOptions
from emlc.timing.step import measure_steps

_ROWS = ("emlc, noise-aware", "emlc (paper), k = 1", "emlc (authors' HEAD)")
_PIXELS = 112
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
        goes_on: Whether it continues where it was when the command is given again. If not, it ends unfinished
            after twice its minutes, so that it does not take the time of all.
    """

    name: str
    minutes: float
    measure: Callable[[], Any]
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
    pieces = [*_costs(device, toy), *_training(Path(folder), data_root, pretrain_epochs, toy)]
    report = {
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "versions": describe_versions(),
        "hardware": describe_hardware(pick_device(device)),
        "pieces": read_json(file)["pieces"] if file.exists() else {},
    }
    for piece in pieces:
        if not report["pieces"].get(piece.name, {}).get("finished"):
            report["pieces"][piece.name] = _attempt(piece, end - time.monotonic(), toy)
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_json(file, report)
        print(f"{piece.name}: {_told(report['pieces'][piece.name])}", flush=True)


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
    features = StepOptions(features=True, repetitions=1 if toy else 5, device=device)
    yield _Piece("steps on images", 2.0, lambda: list(map(dataclasses.asdict, measure_steps(steps))))
    yield _Piece("steps on features", 0.5, lambda: list(map(dataclasses.asdict, measure_features(features))))
    yield _Piece("embedding", 0.3, lambda: _embedding(device, 64 if toy else _IMAGES))


def _embedding(device: str, images: int) -> dict[str, float]:
    """Return how many images the bundled network embeds in a second, resizing and reading left out."""
    network = load_image_model(BUNDLED_IMAGE_MODEL).network
    run = runner(network, _PIXELS, pick_device(device), images)
    block = np.random.default_rng(0).integers(0, 256, (images // 4, 3, _PIXELS, _PIXELS), np.uint8)
    run(block[:64])
    begin = time.perf_counter()
    for _ in range(4):
        run(block)
    return {"images_per_second": 4 * len(block) / (time.perf_counter() - begin)}


def _training(folder: Path, data_root: str | None, epochs: int, toy: bool) -> Iterator[_Piece]:
    """Yield SimCLR, and EMLC from its weights."""
    protocol = make_protocol("small", "digits") if toy else make_protocol("paper", "cifar10", data_root)
    assert protocol.pretrain is not None
    common: dict[str, Any] = {
        **protocol.settings,
        PRETRAIN: {**protocol.pretrain, "epochs": 1 if toy else epochs},
    }
    common |= {"seed": 0, **({"epochs": 1} if toy else {})}
    cache = Cache(folder / "runs")
    jobs = {
        f"{label}, symmetric {rate:.0%}": job(
            {**common, "noise": "symmetric", "noise_rate": rate, **CONTENDERS[label].row(protocol).settings}
        )
        for rate in (0.8, 0.2)
        for label in _ROWS
    }
    start = next(iter(jobs.values())).start
    assert start is not None
    yield _Piece("SimCLR", 0.5, lambda: _made(cache, start), goes_on=True)
    for name, each in jobs.items():
        yield _Piece(name, 0.5, lambda each=each: _made(cache, each), goes_on=True)  # type: ignore[misc]


def _made(cache: Cache, each: Job) -> dict[str, Any]:
    """Make a run, or go on with it, and return its summary."""
    cache.make(each, wait=True)
    summary: dict[str, Any] = read_json(cache.folder(each) / "summary.json")
    return summary


if __name__ == "__main__":
    auto_cli(gpu)
