"""The pretraining loop: views of images, steps, metrics and checkpoints."""

import time
from pathlib import Path

from emlc.config import PretrainSettings
from emlc.data.augment.views import Views, default_views
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Stream
from emlc.pretraining.images import unlabelled
from emlc.pretraining.probe import Probe
from emlc.pretraining.simclr import SimCLR, learning_rate
from emlc.runs.checkpoint import Progress, latest_checkpoint, load_checkpoint, save_checkpoint
from emlc.runs.fit import FLUSH_EVERY, PendingLosses, Reporter
from emlc.runtime.distributed import Ranks, cores_per_process
from emlc.runtime.streams import RandomStream


def fit(
    simclr: SimCLR,
    images: Inputs,
    probe: Probe,
    settings: PretrainSettings,
    reporter: Reporter,
    folder: Path,
    ranks: Ranks,
) -> Progress:
    """Pretrain, from the latest checkpoint in the folder if there is one; the first rank writes it.

    Every batch is full: images left over at the end of an epoch are in the first batch of the next epoch.
    """
    with ranks.errors_everywhere():
        checkpoint = latest_checkpoint(folder)
        progress = Progress() if checkpoint is None else load_checkpoint(checkpoint, simclr)
    schedule = _Schedule(simclr, settings, len(images) // min(settings.batch, len(images)))
    batches = _stream(images, settings, ranks).cycle(start=progress.steps)
    losses = PendingLosses(ranks)
    reporter.on_start(progress, schedule.steps_per_epoch)
    while progress.epoch < settings.epochs:
        clock = time.perf_counter()
        ranks.reseed(settings.seed, RandomStream.PRETRAINING_STEP, progress.steps)
        rate = schedule.learning_rate(progress.steps)
        losses.append({"contrastive_loss": simclr.step(next(batches).inputs, rate)})
        progress.steps += 1
        progress.epoch_steps += 1
        epoch_ends = progress.epoch_steps == schedule.steps_per_epoch
        save = epoch_ends or (settings.checkpoint_every and progress.steps % settings.checkpoint_every == 0)
        if save or progress.steps % FLUSH_EVERY == 0:
            losses.flush(progress, wait=bool(save))
        progress.seconds += time.perf_counter() - clock
        reporter.on_step(progress)
        if epoch_ends:
            _finish_epoch(progress, rate, probe(simclr.backbone))
            # Reported before it is saved: a run killed in between reports the epoch twice.
            reporter.on_epoch(progress)
        if save and ranks.is_first:
            save_checkpoint(folder, simclr, progress)
    ranks.barrier()
    return progress


def _stream(images: Inputs, settings: PretrainSettings, ranks: Ranks) -> Stream:
    channels, height, width = images.shape[1:]
    default_strength = 0.5 if min(height, width) < 64 else 1.0
    views = Views(
        default_views((channels, height, width)) if settings.views is None else settings.views,
        (height, width),
        (settings.seed, RandomStream.PRETRAINING_VIEWS),
        smallest_crop=settings.smallest_crop,
        colour_strength=default_strength if settings.colour_strength is None else settings.colour_strength,
    )
    workers = settings.workers or cores_per_process()
    key = (settings.seed, RandomStream.PRETRAINING_ORDER)
    return Stream(unlabelled(images), [views], settings.batch, key, ranks, workers)


class _Schedule:
    """The learning rate as a function of the step alone, so that checkpoints need not hold it."""

    def __init__(self, simclr: SimCLR, settings: PretrainSettings, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._steps = settings.epochs * steps_per_epoch
        epochs = settings.warm_up_epochs
        epochs_or_default = min(10, settings.epochs / 10) if epochs is None else epochs
        self._warm_up = round(epochs_or_default * steps_per_epoch)
        self._peak = simclr.peak_rate

    def learning_rate(self, step: int) -> float:
        return learning_rate(step, self._steps, self._warm_up, self._peak)


def _finish_epoch(progress: Progress, rate: float, figures: dict[str, float]) -> None:
    progress.epoch += 1
    row = {
        "epoch": progress.epoch,
        "steps": progress.steps,
        "learning_rate": rate,
        "seconds": round(progress.seconds, 3),
    }
    progress.history.append(row | progress.mean_losses() | figures)
    progress.epoch_steps = 0
