"""A pretraining run, from settings to a directory.

::

    runs/NAME/
      backbone.safetensors  the weights, for `emlc train --init`; there when the run is finished
      settings.yaml         every setting              metrics.csv      one row per epoch
      summary.json          the main figures           tensorboard/     the metrics, for TensorBoard
      pretraining.png       loss and probe per epoch   checkpoint.pt    everything, for --resume
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from safetensors.torch import save_file

from emlc.config import PretrainSettings
from emlc.data import Samples
from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.pretraining.images import check_images, joined, read_images
from emlc.pretraining.loop import fit
from emlc.pretraining.probe import MOST_PROBED, Probe
from emlc.pretraining.simclr import SimCLR, check_lightly
from emlc.runs import plots
from emlc.runs.checkpoint import BEFORE, Progress
from emlc.runs.directory import (
    check_folder,
    claimed,
    data_name,
    environment,
    output_folder,
    resolve_precision,
    write_settings,
)
from emlc.runs.foreign import check_weights
from emlc.runs.reporters import QuietReporter, RunReporter
from emlc.runtime.distributed import Ranks, start_ranks
from emlc.runtime.files import atomic_write, remove_leftovers, write_json
from emlc.runtime.messages import show_messages
from emlc.runtime.streams import RandomStream, seed_torch
from emlc.runtime.trust import remember

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A finished pretraining run, read from its directory.

    Attributes:
        folder: The run directory.
    """

    folder: Path

    @property
    def backbone(self) -> Path:
        """The file with the backbone's weights."""
        return self.folder / "backbone.safetensors"

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of ``summary.json``, by name."""
        values: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return values


def pretrain(
    settings: PretrainSettings,
    data: Samples | None = None,
    *,
    trusted: Samples | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Pretrained:
    """Pretrain a backbone on images without their labels.

    Args:
        settings: All settings; ``settings.output`` names the directory.
        data: Images in memory, in place of the source that ``settings.data`` names. The features are probed
            on those that their ``trusted`` mask marks.
        trusted: Further images in memory, with labels, on which the features are probed instead. They are
            pretrained on, too.
        resume: Whether to resume the run in that directory; if there is none, a run is started. A finished
            run is left as it is.
        console: Console for messages and a progress bar; standard error by default.

    Under ``torchrun`` every process calls this.

    Returns:
        The finished run.

    Raises:
        InputError: the data or the settings are wrong; lightly is not installed; or the directory holds a
            run already, or one with other settings, or something else, or is in use by another process.
        FloatingPointError: a loss is not finite.
    """
    with show_messages(console) as console:
        return _pretrain(settings, data, trusted, resume=resume, console=console)


def _pretrain(
    settings: PretrainSettings,
    data: Samples | None,
    trusted: Samples | None,
    *,
    resume: bool,
    console: Console,
) -> Pretrained:
    check_lightly()
    ranks = start_ranks(settings.device)
    folder = output_folder(settings, default_output(settings), resume=resume)
    with claimed(folder, settings, ranks):
        return _pretrain_in(folder, settings, data, trusted, resume=resume, console=console, ranks=ranks)


def _pretrain_in(
    folder: Path,
    settings: PretrainSettings,
    data: Samples | None,
    trusted: Samples | None,
    *,
    resume: bool,
    console: Console,
    ranks: Ranks,
) -> Pretrained:
    with ranks.errors_everywhere():
        check_folder(folder, settings, resume=resume)
        if (folder / "backbone.safetensors").exists():
            _log.info(f"{folder} is finished, and is left as it is; to pretrain again, name another output")
            return Pretrained(folder)
        if ranks.is_first:
            remember(settings)
        images, trusted = _images(settings, data, trusted)
        check_images(images)
        _check_batch(settings, images, ranks)
        if ":" not in settings.backbone:  # the user's code need not run without memory
            with torch.device("meta"):
                check_weights(SimCLR(settings, torch.zeros(2, *images.shape[1:]), ranks).networks().values())
        seed_torch(settings.seed, RandomStream.PRETRAINING_WEIGHTS)
        simclr = SimCLR(settings, images, ranks)
    ranks.precision = resolve_precision(settings, folder, ranks, images)
    settings = replace(settings, precision=ranks.precision)
    if ranks.is_first:
        remove_leftovers(folder)
        write_settings(folder, settings)
        _log.info(_describe(images, trusted, ranks))
    ranks.barrier()
    simclr.setup()
    probe = Probe(trusted, settings.seed, ranks)
    before = probe(simclr.backbone, linear=True)
    reporter: RunReporter | QuietReporter = QuietReporter()
    if ranks.is_first:
        reporter = RunReporter(folder, "simclr", settings.batch, settings.epochs, console)
    _log.info(_describe_probe("before", before))
    try:
        progress = fit(simclr, images, probe, settings, reporter, folder, ranks)
    finally:
        reporter.close()
    after = probe(simclr.backbone, linear=True)
    _log.info(_describe_probe("after", after))
    if ranks.is_first:
        plots.save(folder / "pretraining.png", plots.plot_pretraining, pd.DataFrame(progress.history))
        write_json(folder / "summary.json", _summarize(settings, images, progress, before, after, ranks))
        (folder / BEFORE).unlink(missing_ok=True)
        _save_backbone(folder / "backbone.safetensors", simclr, settings, images)
    ranks.barrier()
    return Pretrained(folder)


def default_output(settings: PretrainSettings) -> str:
    """Return the default run directory, runs/pretrain-DATA-BACKBONE."""
    backbone = "cnn" if settings.backbone == "auto" else settings.backbone.replace(":", "-")
    return f"runs/pretrain-{data_name(settings)}-{backbone}"


def _images(
    settings: PretrainSettings, data: Samples | None, trusted: Samples | None
) -> tuple[Inputs, Samples | None]:
    if data is None:
        if trusted is not None:
            raise InputError("trusted samples in memory go with data in memory")
        return read_images(settings)
    if settings.data is not None:
        raise InputError("data: give samples in memory or name their source, not both")
    if trusted is not None:
        return joined([data.inputs, trusted.inputs]), trusted
    return data.inputs, None if data.trusted is None else data.take(data.trusted)


def _check_batch(settings: PretrainSettings, images: Inputs, ranks: Ranks) -> None:
    batch = min(settings.batch, len(images))
    if batch % ranks.size != 0:
        raise InputError(f"batch: {ranks.size} processes cannot share {batch} images evenly")


def _describe(images: Inputs, trusted: Samples | None, ranks: Ranks) -> str:
    channels, height, width = images.shape[1:]
    text = f"{len(images):,} images of {channels} x {height} x {width}"
    if trusted is not None:
        text += f"; {min(len(trusted), MOST_PROBED):,} trusted ones to probe the features on"
    return text + (f"; {ranks.size} processes, this one on {ranks.device}" if ranks.size > 1 else "")


def _summarize(
    settings: PretrainSettings,
    images: Inputs,
    progress: Progress,
    before: dict[str, float],
    after: dict[str, float],
    ranks: Ranks,
) -> dict[str, Any]:
    figures = {f"{name}_before": value for name, value in before.items()} | after
    return (
        {name: round(value, 3) for name, value in figures.items()}
        | {
            "contrastive_loss": round(progress.history[-1]["contrastive_loss"], 4),
            "epochs": progress.epoch,
            "images": len(images),
            "seconds": round(progress.seconds, 3),
        }
        | environment(settings, ranks, "emlc", "torch", "lightly", "kornia")
    )


def _save_backbone(path: Path, simclr: SimCLR, settings: PretrainSettings, images: Inputs) -> None:
    """Write weights and buffers, standardisation included, with a description in the file's metadata."""
    metadata = {
        "backbone": settings.backbone,
        "stem": settings.stem,
        "input_shape": "x".join(map(str, images.shape[1:])),
        "pretrained": f"SimCLR, {settings.epochs} epochs",
    }
    if settings.width is not None:
        metadata["width"] = str(settings.width)
    state = simclr.backbone.state_dict()
    with atomic_write(path) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in state.items()}, temporary, metadata)


def _describe_probe(when: str, figures: dict[str, float]) -> str:
    names = {"knn_accuracy": "nearest neighbours", "linear_accuracy": "linear classifier"}
    accuracies = ", ".join(f"{names[name]} {value:.1f} %" for name, value in figures.items())
    return (
        f"features {when} pretraining: {accuracies}"
        if accuracies
        else f"features {when} pretraining: not probed"
    )
