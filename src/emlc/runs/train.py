"""Training, from settings and samples to a run directory."""

import logging
import warnings
from dataclasses import asdict, fields, replace
from pathlib import Path

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
from emlc.runs.checkpoint import latest_checkpoint
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
    with show_messages(console) as console:
        return _train(settings, data, trusted, validation, test, resume=resume, lean=lean, console=console)


def _train(
    settings: Settings,
    data: Samples | Split | None,
    trusted: Samples | None,
    validation: Samples | None,
    test: Samples | None,
    *,
    resume: bool,
    lean: bool,
    console: Console,
) -> Run:
    _check_one_source(settings, data, trusted, validation, test)
    ranks = start_ranks(settings.device)
    folder = output_folder(settings, default_output(settings), resume=resume)
    sources = (data, trusted, validation, test)
    with claimed(folder, settings, ranks):
        return _train_in(folder, settings, *sources, resume=resume, lean=lean, console=console, ranks=ranks)


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
    data: Samples | Split | None,
    *others: Samples | None,
    resume: bool,
    lean: bool,
    console: Console,
    ranks: Ranks,
) -> Run:
    with ranks.errors_everywhere():
        check_folder(folder, settings, resume=resume)
        if ranks.is_first:
            remember(settings)
        is_new = latest_checkpoint(folder) is None
        if is_new and ranks.is_first:
            _warn_of_idle(settings)
        init = {settings.init, settings.teacher_init} - {"none", None}
        for source in init if is_new else ():
            check_initial_weights(source)
        if resume and (folder / "split.csv").exists():
            check_files(folder / "split.csv", settings)
        settings, split, schema = _read(settings, folder, data, *others)
        settings = _resolve_sizes(settings, folder, len(split.noisy))
        if resume and (folder / "split.csv").exists():
            check_split(split, folder / "split.csv")
        if _is_finished(folder):
            _log.info(f"{folder} is finished, and is left as it is; to train again, name another output")
            return Run.load(folder, device=str(ranks.device))
        _check_trainable(split, settings, ranks)
        check_memory(settings, tuple(split.noisy.inputs.shape[1:]), len(split.classes))
        seed_torch(settings.seed, RandomStream.INITIAL_WEIGHTS)
        method: Method = method_class(settings.method)(settings, split.noisy.inputs, len(split.classes))
        method.check(split)
        messages = method.load_initial_weights() if is_new and init else []
    ranks.precision = resolve_precision(settings, folder, ranks, split.noisy.inputs)
    settings = replace(settings, precision=ranks.precision)

    if ranks.is_first:
        remove_leftovers(folder)
        _write_inputs(folder, settings, split, schema)
        _log_inputs(split, schema, ranks)
        for message in messages:
            _log.info(message)
    ranks.barrier()
    reporter = _reporter(folder, settings, method, console, ranks, lean=lean)
    try:
        progress = fit(method, split, settings, reporter, folder, ranks, resumable=not lean)
    finally:
        reporter.close()
    run = Run.load(folder, device=str(ranks.device), trust_code=True)
    if run.teacher is not None:
        run = write_decision(run, split, ranks)
    if not lean:
        write_results(run, split, progress, ranks)
    elif ranks.is_first:
        write_metrics(folder / "metrics.csv", progress.history)
    if not lean and has_comparison(run) and ranks.is_first:
        compare_run(run, split, alone=ranks.size == 1).save(folder / FILE)
    if not lean and ranks.is_first:
        write_summary(run, split, progress, ranks)
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


def _check_one_source(settings: Settings, data: Samples | Split | None, *others: Samples | None) -> None:
    named = [n for n in ("data", "trusted", "validation", "test") if getattr(settings, n) is not None]
    if data is not None and named:
        raise InputError(f"{', '.join(named)}: give samples in memory or name their source, not both")
    if not isinstance(data, Samples) and any(samples is not None for samples in others):
        raise InputError("trusted, validation and test samples in memory go with data in memory")


def _read(
    settings: Settings, folder: Path, data: Samples | Split | None, *others: Samples | None
) -> tuple[Settings, Split, Schema]:
    """Read the samples, and embed their images if the settings, which are returned as resolved, want that."""
    if data is None:
        assert settings.data is not None
        opened = open_source(settings.data, settings, role="data")
        settings = resolve_image_model(settings, folder, *images_in(opened))
        return settings, *make_split(settings, settings, settings.seed, opened=opened)
    if isinstance(data, Split):
        split = data
    else:
        split = split_samples(data, *others, settings=settings, noise=settings, seed=settings.seed)
    pictures = split.noisy.pictures
    images = (0, None) if pictures is None else (len(pictures), side_of(pictures))
    settings = resolve_image_model(settings, folder, *images)
    return settings, *embed_split(split, settings)


def _check_trainable(split: Split, settings: Settings, ranks: Ranks) -> None:
    if ranks.size > 1 and not method_class(settings.method).joint:
        joint = ", ".join(name for name in METHODS if method_class(name).joint)
        raise InputError(
            f"method: {settings.method} trains in one process only; several processes can train {joint}"
        )
    for name, parts in (("noisy", 1), ("trusted", 1 + settings.student_trusted)):
        samples = len(getattr(split, name))
        if samples < 2:
            raise InputError(f"there is 1 {name} sample; training needs at least 2")
        size = settings.batch if name == "noisy" else settings.trusted_batch
        batch, least = min(samples, size), parts * ranks.size
        if batch < least:
            raise InputError(f"{name}_batch: {ranks.size} processes need at least {least}, got {batch}")
        augmentation = getattr(settings, f"{name}_augmentation")
        if augmentation and split.noisy.inputs.ndim != 4:
            raise InputError(
                f"{name}_augmentation: {', '.join(augmentation)} is for images, "
                "but the samples are rows of numbers"
            )
    if len(split.classes) < 2:
        raise InputError(f"there is 1 class, {split.classes[0]!r}; training needs at least 2")


def _write_inputs(folder: Path, settings: Settings, split: Split, schema: Schema) -> None:
    write_settings(folder, settings)
    write_json(folder / "model.json", asdict(schema))
    split.save(folder / "split.csv")


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
    folder: Path, settings: Settings, method: Method, console: Console, ranks: Ranks, *, lean: bool
) -> ConsoleReporter | QuietReporter:
    if not ranks.is_first:
        return QuietReporter()
    samples_per_step = settings.batch * method.look_ahead
    arguments = (settings.method, samples_per_step, settings.passes, console)
    return ConsoleReporter(*arguments) if lean else RunReporter(folder, *arguments)
