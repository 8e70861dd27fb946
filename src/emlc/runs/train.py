"""Training, from settings and samples to a run directory."""

import logging
import warnings
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from emlc.architectures.weight_files import check_initial_weights
from emlc.config import Settings
from emlc.config.methods import METHODS, method_class
from emlc.config.sizes import fitted
from emlc.data import Samples, Schema, Split, check_files, check_split, make_split, split_samples
from emlc.data.columns.telling import describe_columns
from emlc.data.sources.read import open_source
from emlc.errors import EMLCWarning, InputError
from emlc.methods.base import Method
from emlc.runs.beside import FILE, compare_run, has_comparison
from emlc.runs.calibration import validation_of_decision
from emlc.runs.checkpoint import INITIAL, Progress, latest_checkpoint, save_networks
from emlc.runs.directory import (
    OF_THE_DATA,
    check_folder,
    claimed,
    data_name,
    output_folder,
    resolve_precision,
    write_settings,
)
from emlc.runs.fit import fit
from emlc.runs.foreign import check_memory
from emlc.runs.images import embed_split, images_in, resolve_image_model, side_of
from emlc.runs.metrics import has_noisy_test
from emlc.runs.reporters import ConsoleReporter, QuietReporter, RunReporter, write_metrics
from emlc.runs.results import write_decision, write_results, write_summary
from emlc.runs.run import Run
from emlc.runs.stored_settings import read_settings
from emlc.runtime.distributed import Ranks, start_ranks
from emlc.runtime.files import remove_leftovers, write_json
from emlc.runtime.messages import show_messages
from emlc.runtime.streams import RandomStream, seed_torch
from emlc.runtime.trust import remember

_log = logging.getLogger(__name__)


def train(
    settings: Settings,
    data: Samples | Split | None = None,
    *,
    trusted: Samples | None = None,
    validation: Samples | None = None,
    test: Samples | None = None,
    resume: bool = False,
    lean: bool = False,
    console: Console | None = None,
) -> Run:
    """Train a method and write the run directory.

    Args:
        settings: All settings; ``settings.output`` names the directory.
        data: Samples in memory, in place of the source that ``settings.data`` names. The trusted samples are
            those of their ``trusted`` mask, or ``trusted``, or a draw by ``settings.trusted_per_class``. A
            split is used as it is.
        trusted: Trusted samples in memory. Like the next two, it needs ``data`` in memory.
        validation: Samples in memory that choose the epoch.
        test: Samples in memory on which accuracy is measured.
        resume: Whether to resume the run in that directory; if there is none, a run is started. A finished
            run is left as it is.
        lean: Whether to write only the files that :meth:`Run.load` reads and ``metrics.csv``, without
            checkpoints, tables and pictures. On small data these take most of the time.
        console: Console for messages and a progress bar; standard error by default.

    Under ``torchrun`` every process calls this, and every process gets the run.

    Returns:
        The run, with the networks of the chosen epoch.

    Raises:
        InputError: the data or the settings are wrong; the directory holds a run already, or one with other
            settings, or something else, or is in use by another process.
        FloatingPointError: a loss is not finite.

    Examples:
        A quarter of these labels is wrong, and 40 labels are known to be right:

        >>> import numpy as np
        >>> from sklearn.datasets import make_blobs
        >>> from emlc import Samples, Settings, train
        >>> X, y = make_blobs(400, centers=3, random_state=0)
        >>> labels = y.copy()
        >>> labels[40:140] = (y[40:140] + 1) % 3
        >>> samples = Samples.from_arrays(X, labels, trusted=np.arange(400) < 40)
        >>> run = train(Settings(output="runs/blobs", epochs=5, device="cpu"), samples, lean=True)
        >>> corrected = run.correct_labels(samples)["corrected_label"].astype(int)
        >>> print((labels == y).mean(), (corrected == y).mean() > 0.85)
        0.75 True
    """
    if resume and lean:
        raise InputError("resume: goes on from a checkpoint, and a lean run has none; give one of the two")
    given = _Given(data, trusted, validation, test)
    with show_messages(console) as shown:
        given.check(settings)
        ranks = start_ranks(settings.device)
        folder = output_folder(settings, default_output(settings), resume=resume)
        with claimed(folder, settings, ranks):
            return _train_in(folder, settings, given, ranks, shown, resume=resume, lean=lean)


class _Given(NamedTuple):
    """Samples in memory; without data the settings name the sources of all."""

    data: Samples | Split | None
    trusted: Samples | None
    validation: Samples | None
    test: Samples | None

    def check(self, settings: Settings) -> None:
        """Raise an :class:`InputError` if samples are given in two ways, or without data."""
        named = [name for name in self._fields if getattr(settings, name) is not None]
        if self.data is not None and named:
            raise InputError(f"{', '.join(named)}: give samples in memory or name their source, not both")
        if not isinstance(self.data, Samples) and any(samples is not None for samples in self[1:]):
            raise InputError("trusted, validation and test samples in memory go with data in memory")

    def split(self, settings: Settings) -> Split:
        """Return the split that is given, or one of the samples, with the noise of the settings."""
        if isinstance(self.data, Split):
            return self.data
        assert self.data is not None
        return split_samples(self.data, *self[1:], settings=settings, noise=settings, seed=settings.seed)


def _warn_of_idle(settings: Settings) -> None:
    """Warn of settings that differ from their default, and do nothing with the method."""
    method, default = method_class(settings.method), {f.name: f.default for f in fields(Settings)}
    names = [name for name in method.idle_settings(settings) if getattr(settings, name) != default[name]]
    if names:
        teacher = f" and --teacher {settings.teacher}" if settings.method == "emlc" else ""
        message = f"no effect with --method {settings.method}{teacher}: {', '.join(names)}"
        warnings.warn(message, EMLCWarning, stacklevel=2)


def _train_in(
    folder: Path,
    settings: Settings,
    given: _Given,
    ranks: Ranks,
    console: Console,
    *,
    resume: bool,
    lean: bool,
) -> Run:
    with ranks.errors_everywhere():
        check_folder(folder, settings, resume=resume)
        is_new = latest_checkpoint(folder) is None
        if ranks.is_first:
            remember(settings)
            if is_new:
                _warn_of_idle(settings)
        settings, split, schema = _read(settings, folder, given, resume=resume, is_new=is_new)
        if _is_finished(folder):
            _log.info(f"{folder} is finished, and is left as it is; to train again, name another output")
            return Run.load(folder, device=str(ranks.device))
        _check_trainable(split, settings, ranks)
        method, messages = _build(settings, split, is_new=is_new)
    ranks.precision = resolve_precision(settings, folder, ranks, split.noisy.inputs)
    settings = replace(settings, precision=ranks.precision)

    if ranks.is_first:
        remove_leftovers(folder)
        _write_inputs(folder, settings, split, schema)
        if is_new and _decides_by_initial_weights(method, split):
            save_networks(folder / INITIAL, {"student": method.student.get_submodule("backbone")})
        _log_inputs(split, schema, ranks)
        for message in messages:
            _log.info(message)
    ranks.barrier()
    noisy_test = has_noisy_test(settings, split)
    reporter = _reporter(folder, settings, method, console, ranks, lean=lean, noisy_test=noisy_test)
    try:
        progress = fit(method, split, settings, reporter, folder, ranks, resumable=not lean)
    finally:
        reporter.close()
    return _conclude(folder, split, progress, ranks, lean=lean)


def _conclude(folder: Path, split: Split, progress: Progress, ranks: Ranks, *, lean: bool) -> Run:
    """Write what follows from the trained networks, and return the run."""
    run = Run.load(folder, device=str(ranks.device), trust_code=True)
    if run.teacher is not None:
        run = write_decision(run, split, ranks)
    if lean:
        if ranks.is_first:
            write_metrics(folder / "metrics.csv", progress.history)
    else:
        labels = write_results(run, split, progress, ranks)
        if ranks.is_first:
            if has_comparison(run):
                compare_run(run, split, alone=ranks.size == 1).save(folder / FILE)
            write_summary(run, split, progress, labels, ranks)
    ranks.barrier()
    return run


def _is_finished(folder: Path) -> bool:
    """Return whether a run has its last file."""
    return (folder / "summary.json").exists()


def _resolve_sizes(settings: Settings, folder: Path, n: int) -> Settings:
    """Choose what the settings leave to the size of the data, unless the run in the folder has it."""
    left = [name for name in OF_THE_DATA if getattr(settings, name) is None]
    if left and (folder / "settings.yaml").exists():
        before = read_settings(folder, Settings)
        settings = replace(settings, **{name: getattr(before, name) for name in left})
    settings = fitted(settings, n)
    if left:
        values = ", ".join(f"{name} {getattr(settings, name)}" for name in left)
        _log.info(f"chosen for {n:,} noisy samples: {values}")
    return settings


def default_output(settings: Settings) -> str:
    """Return the default run directory, runs/DATA-METHOD-seedN."""
    return f"runs/{data_name(settings)}-{settings.method}-seed{settings.seed}"


def _read(
    settings: Settings, folder: Path, given: _Given, *, resume: bool, is_new: bool
) -> tuple[Settings, Split, Schema]:
    """Check and read all that a run reads; images are embedded if the settings want that.

    Returns:
        The settings with what the data decide, the split, and how its inputs are read.
    """
    for source in _initial_weights(settings) if is_new else ():
        check_initial_weights(source)
    is_begun = resume and (folder / "split.csv").exists()
    if is_begun:
        check_files(folder / "split.csv", settings)
    if given.data is None:
        assert settings.data is not None
        opened = open_source(settings.data, settings, role="data")
        settings = resolve_image_model(settings, folder, *images_in(opened))
        split, schema = make_split(settings, settings, settings.seed, opened=opened)
    else:
        split = given.split(settings)
        pictures = split.noisy.pictures
        images = (0, None) if pictures is None else (len(pictures), side_of(pictures))
        settings = resolve_image_model(settings, folder, *images)
        split, schema = embed_split(split, settings)
    if is_begun:
        check_split(split, folder / "split.csv")
    return _resolve_sizes(settings, folder, len(split.noisy)), split, schema


def _check_trainable(split: Split, settings: Settings, ranks: Ranks) -> None:
    if ranks.size > 1 and not method_class(settings.method).joint:
        joint = ", ".join(name for name in METHODS if method_class(name).joint)
        raise InputError(
            f"method: {settings.method} trains in one process only; several processes can train {joint}"
        )
    halves = settings.student_trusted and settings.method == "emlc"
    for name, parts in (("noisy", 1), ("trusted", 1 + halves)):
        samples = len(getattr(split, name))
        if samples < 2:
            raise InputError(f"there is 1 {name} sample; training needs at least 2")
        size = settings.batch if name == "noisy" else settings.trusted_batch
        batch, least = min(samples, size), parts * ranks.size
        if batch < least:
            raise InputError(f"{name}_batch: {ranks.size} processes need at least {least}, got {batch}")
        if parts > 1 and batch < 4:  # batch normalisation cannot train on a half of one sample
            raise InputError(
                f"trusted_batch: student_trusted halves it; expected at least 4 trusted samples, got {batch}"
            )
        augmentation = getattr(settings, f"{name}_augmentation")
        if augmentation and split.noisy.inputs.ndim != 4:
            raise InputError(
                f"{name}_augmentation: {', '.join(augmentation)} is for images, "
                "but the samples are rows of numbers"
            )
    if len(split.classes) < 2:
        raise InputError(f"there is 1 class, {split.classes[0]!r}; training needs at least 2")


def _build(settings: Settings, split: Split, *, is_new: bool) -> tuple[Method, list[str]]:
    """Return the method, and what to tell of the weights that it starts from."""
    inputs, classes = split.noisy.inputs, len(split.classes)
    check_memory(settings, tuple(inputs.shape[1:]), classes)
    seed_torch(settings.seed, RandomStream.INITIAL_WEIGHTS)
    method: Method = method_class(settings.method)(settings, inputs, classes)
    method.check(split)
    return method, method.load_initial_weights() if is_new and _initial_weights(settings) else []


def _initial_weights(settings: Settings) -> set[str]:
    """Return where the networks' weights come from, unless they are drawn."""
    return {source for source in (settings.init, settings.teacher_init) if source not in ("none", None)}


def _write_inputs(folder: Path, settings: Settings, split: Split, schema: Schema) -> None:
    write_settings(folder, settings)
    write_json(folder / "model.json", asdict(schema))
    split.save(folder / "split.csv")


def _decides_by_initial_weights(method: Method, split: Split) -> bool:
    """Return whether the decision at the end needs initial weights whose source may be gone by then."""
    has_decision = "teacher" in method.networks() and validation_of_decision(split) is None
    return has_decision and split.noisy.inputs.ndim > 2 and method.settings.init != "none"


def _log_inputs(split: Split, schema: Schema, ranks: Ranks) -> None:
    if schema.columns:
        _log.info(f"features: {describe_columns(schema.encoding)}")
    elif schema.feature_columns:
        _log.info(f"features: {', '.join(schema.feature_columns)}")
    if schema.text_column:
        _log.info(f"texts: {schema.text_column}, embedded by {schema.text_model}")
    if schema.image_model:
        _log.info(f"images: embedded by {schema.image_model}; --image_model none learns from their pixels")
    _log.info(describe_split(split))
    if ranks.size > 1:
        _log.info(f"{ranks.size} processes, this one on {ranks.device}")
    if ranks.precision != "float32":
        _log.info(f"precision: {ranks.precision} on {ranks.device.type}")


def describe_split(split: Split) -> str:
    """Describe a split in one line: the number of samples per role, the nominal and the actual noise rate."""
    counts = [f"{len(split.noisy):,} noisy", f"{len(split.trusted):,} trusted"]
    if split.validation is not None:
        counts.append(f"{len(split.validation):,} validation")
    if split.test is not None:
        counts.append(f"{len(split.test):,} test")
    noise = []
    if split.noise_rate_nominal is not None:
        noise.append(f"nominal noise rate {split.noise_rate_nominal:.1%}")
    if split.noise_rate_actual is not None:
        noise.append(f"actual noise rate {split.noise_rate_actual:.1%}")
    return f"{len(split.classes)} classes; samples: {', '.join(counts)}" + "".join(f"; {n}" for n in noise)


def _reporter(
    folder: Path,
    settings: Settings,
    method: Method,
    console: Console,
    ranks: Ranks,
    *,
    lean: bool,
    noisy_test: bool,
) -> ConsoleReporter | QuietReporter:
    if not ranks.is_first:
        return QuietReporter()
    samples_per_step = settings.batch * method.look_ahead
    arguments = (settings.method, samples_per_step, settings.passes, console, noisy_test)
    return ConsoleReporter(*arguments) if lean else RunReporter(folder, *arguments)
