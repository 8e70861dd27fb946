"""A run: training from settings to a run directory, and using what is in one.

::

    runs/NAME/
      settings.yaml     every setting, resolved        split.csv     which sample had which role
      model.json        classes, columns, input shape  metrics.csv   one row an epoch
      summary.json      the figures at a glance        steps.csv     one row a teacher step
      labels.csv        the corrected labels           labels.parquet the same
      decision.json     when a label counts as wrong   tensorboard/  the metrics, for TensorBoard
      chosen/ last/     student and teacher weights    checkpoint.pt everything, for --resume
      *.png             recovery, retain weights, meta objective
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
import torch
import yaml
from rich.console import Console
from torch import Tensor, nn

from emlc import inference, plots
from emlc.checkpoint import load_networks
from emlc.config import NAMED_SOURCES, DataSettings, PretrainSettings, Settings
from emlc.data import Samples, Schema, Split, check_split, make_split, split_samples
from emlc.data.draw import generator
from emlc.data.stored import Inputs
from emlc.distributed import Ranks, pick_device, start_ranks
from emlc.errors import InputError
from emlc.files import read_json, remove_leftovers, write_csv, write_json, write_text
from emlc.fit import chosen_epoch, fit
from emlc.inference import Judgement, judge
from emlc.labels.decision import Decision, decide, log_odds
from emlc.labels.files import written
from emlc.labels.table import blocks, label_schema, label_table
from emlc.logs import ConsoleReporter, QuietReporter, RunReporter, write_metrics
from emlc.methods import METHODS, Method
from emlc.precision import computes_bfloat16
from emlc.teacher import Teacher
from emlc.weight_files import check_initial_weights

S = TypeVar("S", Settings, PretrainSettings)

_FREE_ON_RESUME = {
    *("output", "device", "devices", "workers", "checkpoint_every", "memory_gib", "image_cache"),
    *("cuda_graph", "save_memory", "embedding_cache"),
}
"""Settings that may change when a run goes on: they do not change its result."""

_PATHS = (
    *("data", "trusted", "validation", "test", "data_root", "human_labels", "image_cache", "noise_matrix"),
    *("init", "teacher_init", "text_model", "embedding_cache"),
)


_DECIDED_ON = 10_000
"""The decision looks at so many trusted and so many noisy samples, drawn at random, where there are more."""


@dataclass(frozen=True)
class Run:
    """A trained run, read from its directory.

    Attributes:
        folder: The run directory.
        settings: As it was trained.
        schema: Classes, columns and input shape of its data.
        student: The classifier, inputs (n, ...) to logits (n, C).
        teacher: The label corrector, or None where the method has none.
        which: Whether the networks are those of the chosen or of the last epoch.
    """

    folder: Path
    settings: Settings
    schema: Schema
    student: nn.Module
    teacher: Teacher | None
    which: Literal["chosen", "last"] = "chosen"

    @classmethod
    def load(
        cls, folder: str | Path, *, which: Literal["chosen", "last"] = "chosen", device: str = "auto"
    ) -> Self:
        """Read the networks of a run: those chosen on trusted (validation) accuracy, or the last epoch's.

        Of an interrupted run these are the ones chosen so far.

        Raises:
            InputError: no such run, or files of it are missing or broken.
        """
        folder = Path(folder)
        settings = read_settings(folder, Settings)
        try:
            schema = Schema.from_dict(read_json(folder / "model.json"))
            # Standardisation is part of the weights: placeholders of the right shape serve to build on.
            method = _method(settings, torch.zeros(2, *schema.input_shape), len(schema.classes))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{folder / 'model.json'}: not the description of a model: {error}") from error
        networks = method.networks()
        if not (folder / which).is_dir():
            raise InputError(f"{folder}: no {which} weights yet: the training was interrupted, see --resume")
        load_networks(folder / which, networks)
        for network in networks.values():
            network.to(pick_device(device)).eval()
        teacher = networks.get("teacher")
        assert teacher is None or isinstance(teacher, Teacher)
        return cls(folder, settings, schema, method.student, teacher, which)

    def predict_proba(self, inputs: Inputs, ranks: Ranks | None = None) -> Tensor:
        """The student's class probabilities (n, C) for inputs (n, ...) as stored.

        With ``ranks`` each of them computes its share; all have to call it, and all get the whole.
        """
        return inference.predict_proba(self.student, inputs, ranks)

    def correct_labels(
        self, samples: Samples, ranks: Ranks | None = None, *, all_probabilities: bool = False
    ) -> pd.DataFrame:
        """The label table of labelled samples: see :func:`emlc.labels.table.label_table`.

        ``ranks`` as for :meth:`predict_proba`.

        Raises:
            InputError: the run's method corrects no labels, or the samples have none; or what counts as
                wrong is not known yet, and the run's own samples cannot be read again.
        """
        tables = (table for _, table, _ in self.judged(samples, ranks, all_probabilities=all_probabilities))
        return pd.concat(tables, ignore_index=True)

    def judged(
        self, samples: Samples, ranks: Ranks | None = None, *, all_probabilities: bool = False
    ) -> Iterator[tuple[Samples, pd.DataFrame, Judgement]]:
        """:meth:`correct_labels` block by block, with the samples and the predictions of each."""
        teacher, decision = self.require_teacher(), self.decision
        if samples.labels is None:
            raise InputError("correcting labels needs the given labels, and these samples have none")
        for block in blocks(samples):
            assert block.labels is not None
            judgement = judge(self.student, teacher, block.inputs, block.labels, ranks)
            yield (
                block,
                label_table(block, judgement, decision, all_probabilities=all_probabilities),
                judgement,
            )

    @cached_property
    def decision(self) -> Decision:
        """When a label counts as wrong: as stored with the run, else from the run's own samples.

        Raises:
            InputError: ``decision.json`` is broken; or there is none for these networks, and the run's own
                samples cannot be read again.
        """
        path = self.folder / "decision.json"
        if self.which == "chosen" and path.exists():
            return Decision.load(path)
        return self.decide(self.split())

    def decide(self, split: Split, ranks: Ranks | None = None) -> Decision:
        """Calibrate when a label counts as wrong: see :mod:`emlc.labels.decision`.

        On the validation samples, which neither network learnt from, or without any on the trusted ones.
        """
        teacher = self.require_teacher()
        named = ("trusted", split.trusted) if split.validation is None else ("validation", split.validation)
        judged = {}
        for name, samples in (named, ("noisy", split.noisy)):
            rng = generator(self.settings.seed, "decision")
            if len(samples) > _DECIDED_ON:
                samples = samples.take(np.sort(rng.choice(len(samples), _DECIDED_ON, replace=False)))
            assert samples.labels is not None
            judgement = judge(self.student, teacher, samples.inputs, samples.labels, ranks)
            judged[name] = judgement.prediction(), samples.labels
        return decide(*judged[named[0]], log_odds(*judged["noisy"]), calibrated_on=named[0])

    def require_teacher(self) -> Teacher:
        """The teacher, or an :class:`InputError` if the run's method has none."""
        if self.teacher is None:
            raise InputError(
                f"{self.folder}: method {self.settings.method} corrects no labels; train with emlc"
            )
        return self.teacher

    def split(self) -> Split:
        """The run's own samples, read again from their sources and checked against ``split.csv``.

        Raises:
            InputError: the sources have changed, or the samples were given from Python and not kept.
        """
        if self.settings.data is None:
            raise InputError(f"{self.folder}: trained on samples given from Python, which are not kept")
        here = str(next(self.student.parameters()).device)  # texts are embedded there
        settings = replace(self.settings, device=here)
        split, _ = make_split(settings, settings, settings.seed)
        check_split(split, self.folder / "split.csv")
        return split

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of ``summary.json``."""
        return read_json(self.folder / "summary.json")

    @property
    def metrics(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.read_csv(self.folder / "metrics.csv")


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
    """Train from settings to a run directory.

    Args:
        settings: Everything; ``settings.output`` names the directory.
        data: Samples in memory, in place of the source that ``settings.data`` names. Their ``trusted``
            mask, or ``trusted``, or ``settings.trusted_per_class``, says which are trusted. A split is
            taken as it is.
        trusted: Trusted samples in memory; like the next two, with ``data`` only.
        validation: Samples for the choice of the epoch.
        test: Samples to measure on.
        resume: Go on where a run in that directory stopped; with no such run, start one.
        lean: Write what :meth:`Run.load` reads and ``metrics.csv``, and nothing that is there to be looked
            at or to resume from. Of small data that would take most of the time.
        console: Where to tell; standard error by default.

    Under ``torchrun`` every process calls this, and every one gets the run.

    Raises:
        InputError: bad data or settings; a run is there already; it was made with other settings.
    """
    console = console or Console(stderr=True)
    _check_one_source(settings, data, trusted, validation, test)
    ranks = start_ranks(settings.device)
    folder = Path(settings.output or default_output(settings))
    with ranks.together():
        check_folder(folder, settings, resume=resume)
        begins = not (folder / "checkpoint.pt").exists()
        init = {settings.init, settings.teacher_init} - {"none", None}
        for source in init if begins else ():
            check_initial_weights(source)
        split, schema = _read(settings, data, trusted, validation, test)
        if resume and (folder / "split.csv").exists():
            check_split(split, folder / "split.csv")
        _check_trainable(split, settings, ranks)
        torch.manual_seed(settings.seed)
        method = _method(settings, split.noisy.inputs, len(split.classes))
        started = method.load_initial_weights() if begins and init else []
    settings = with_precision(settings, folder, ranks, split.noisy.inputs)

    if ranks.is_first:
        remove_leftovers(folder)
        _write_beginning(folder, settings, split, schema)
        _tell_beginning(console, split, schema, ranks)
        for line in started:
            console.print(line, highlight=False, soft_wrap=True)
    ranks.barrier()
    reporter = _reporter(folder, settings, method, console, ranks, lean=lean)
    try:
        history = fit(method, split, settings, reporter, folder, ranks, resumable=not lean)
    finally:
        reporter.close()
    run = Run.load(folder, device=str(ranks.device))
    if run.teacher is not None:
        _write_decision(run, split, ranks)
    if not lean:
        _write_results(run, split, history, ranks)
    elif ranks.is_first:
        write_metrics(folder / "metrics.csv", history)
    ranks.barrier()
    return run


def _read(settings: Settings, data: Samples | Split | None, *others: Samples | None) -> tuple[Split, Schema]:
    if data is None:
        return make_split(settings, settings, settings.seed)
    if isinstance(data, Split):
        split = data
    else:
        split = split_samples(data, *others, settings=settings, noise=settings, seed=settings.seed)
    return split, Schema(classes=split.classes, input_shape=tuple(split.noisy.inputs.shape[1:]))


def _write_beginning(folder: Path, settings: Settings, split: Split, schema: Schema) -> None:
    resolved = with_absolute_paths(settings).as_dict()
    write_text(folder / "settings.yaml", yaml.safe_dump(resolved, sort_keys=False))
    write_json(folder / "model.json", asdict(schema))
    split.save(folder / "split.csv")


def _tell_beginning(console: Console, split: Split, schema: Schema, ranks: Ranks) -> None:
    if schema.feature_columns:
        console.print(f"features: {', '.join(schema.feature_columns)}", highlight=False, soft_wrap=True)
    if schema.text_column:
        console.print(f"texts: {schema.text_column}, embedded by {schema.text_model}", highlight=False)
    console.print(describe_split(split), highlight=False, soft_wrap=True)
    if ranks.size > 1:
        console.print(f"{ranks.size} processes, this one on {ranks.device}", highlight=False)
    if ranks.precision != "float32":
        console.print(f"precision: {ranks.precision} on {ranks.device.type}", highlight=False)


def _reporter(
    folder: Path, settings: Settings, method: Method, console: Console, ranks: Ranks, *, lean: bool
) -> ConsoleReporter | QuietReporter:
    if not ranks.is_first:
        return QuietReporter()
    samples_per_step = settings.noisy_batch * method.look_ahead
    shown = (settings.method, samples_per_step, settings.epochs, console)
    return ConsoleReporter(*shown) if lean else RunReporter(folder, *shown)


def with_absolute_paths(settings: S) -> S:
    """The settings with sources that can be found from any working directory."""
    paths = {name: getattr(settings, name, None) for name in _PATHS}
    return replace(
        settings,
        **{
            name: path if path.startswith("~") else os.path.abspath(path)
            for name, path in paths.items()
            if path is not None and path not in (*NAMED_SOURCES, "none", "imagenet")
            if name != "text_model" or os.path.isdir(path)  # else a name: minilm, or one of the hub's
        },
    )


def with_precision(settings: S, folder: Path, ranks: Ranks, inputs: Inputs) -> S:
    """The settings with the precision that ``auto`` means, which the ranks take on: as the run began."""
    precision = settings.precision
    if precision == "auto" and (folder / "settings.yaml").exists():
        precision = read_settings(folder, type(settings)).precision
    if precision == "auto":
        pays = inputs.ndim == 4 and computes_bfloat16(ranks.device)
        pays = pays and getattr(settings, "jvp", None) != "finite-difference"  # which drown in its rounding
        precision = "bf16-mixed" if ranks.all_agree(pays) else "float32"
    ranks.precision = precision
    return replace(settings, precision=precision)


def default_output(settings: Settings) -> str:
    """runs/DATA-METHOD-seedN."""
    return f"runs/{data_name(settings)}-{settings.method}-seed{settings.seed}"


def data_name(settings: DataSettings) -> str:
    """The data's name, for that of a directory."""
    return "arrays" if settings.data is None else Path(settings.data).stem.replace("*", "") or "data"


def read_settings(folder: Path, kind: type[S]) -> S:
    """The settings a run was made with."""
    if not (folder / "settings.yaml").is_file():
        raise InputError(f"{folder}: not a run directory: it has no settings.yaml")
    try:
        return kind(**yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8")))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{folder / 'settings.yaml'}: not the settings of a run: {error}") from error


def describe_split(split: Split) -> str:
    """How many samples of each kind, and how noisy the labels are, nominally and actually."""
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


def _check_one_source(settings: Settings, data: Samples | Split | None, *others: Samples | None) -> None:
    named = [n for n in ("data", "trusted", "validation", "test") if getattr(settings, n) is not None]
    if data is not None and named:
        raise InputError(f"{', '.join(named)}: give samples in memory or name their source, not both")
    if not isinstance(data, Samples) and any(samples is not None for samples in others):
        raise InputError("trusted, validation and test samples in memory go with data in memory")


def check_folder(folder: Path, settings: S, *, resume: bool) -> None:
    """Raise an :class:`InputError` if a run is there that must not be overwritten, or not be gone on with."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: {folder} is a file, expected a directory")
    if not (folder / "settings.yaml").exists() and not (folder / "checkpoint.pt").exists():
        return
    if not resume:
        raise InputError(
            f"output: {folder} holds a run already; --resume goes on with it, --output names another"
        )
    before, now = read_settings(folder, type(settings)).as_dict(), with_absolute_paths(settings).as_dict()
    free = _FREE_ON_RESUME | ({"precision"} if settings.precision == "auto" else set())
    changed = [k for k in now if k not in free and before.get(k) != now[k]]
    if changed:
        changes = "; ".join(f"{k} was {before.get(k)!r}, now {now[k]!r}" for k in changed)
        raise InputError(f"resume: {folder} was made with other settings: {changes}")


def _check_trainable(split: Split, settings: Settings, ranks: Ranks) -> None:
    for name, parts in (("noisy", 1), ("trusted", 1 + settings.student_trusted)):
        samples = len(getattr(split, name))
        if samples < 2:
            raise InputError(f"there is 1 {name} sample; training needs at least 2")
        batch, least = min(samples, getattr(settings, f"{name}_batch")), parts * ranks.size
        if batch < least:
            raise InputError(f"{name}_batch: {ranks.size} processes need at least {least}, got {batch}")
        augmentation = getattr(settings, f"{name}_augmentation")
        if augmentation and split.noisy.inputs.ndim != 4:
            raise InputError(
                f"{name}_augmentation: {', '.join(augmentation)} is for images, "
                "but the samples are rows of numbers"
            )


def _method(settings: Settings, inputs: Inputs, num_classes: int) -> Method:
    return METHODS[settings.method](settings, inputs, num_classes)


def _write_results(run: Run, split: Split, history: list[dict[str, float]], ranks: Ranks) -> None:
    labels = None if run.teacher is None else _write_labels(run, split, ranks)
    if not ranks.is_first:
        return
    summary = summarize(run.settings, split, history, ranks)
    losses = torch.load(run.folder / "checkpoint.pt", weights_only=True)["progress"]["losses"]
    total = int(history[-1]["steps"])
    # A loss that warm-up did not have yet is shorter: it belongs to the last steps.
    columns = {k: pd.Series(v, range(total - len(v) + 1, total + 1)) for k, v in losses.items()}
    steps = pd.DataFrame(columns, index=pd.RangeIndex(1, total + 1, name="step"))
    write_csv(run.folder / "steps.csv", steps, index=True)
    if labels is not None:
        plots.save_run_plots(run.folder, pd.DataFrame(history), steps, labels)
    write_json(run.folder / "summary.json", summary)


def _write_decision(run: Run, split: Split, ranks: Ranks) -> None:
    decision = run.decide(split, ranks)
    if ranks.is_first:
        decision.save(run.folder / "decision.json")
    ranks.barrier()


def _write_labels(run: Run, split: Split, ranks: Ranks) -> pd.DataFrame:
    """Write the labels; returns what the pictures show of them."""
    tables: Iterator[pd.DataFrame] = (table for _, table, _ in run.judged(split.noisy, ranks))
    if ranks.is_first:
        schema = label_schema(split.classes, true_labels=split.noisy.true_labels is not None)
        tables = written(run.folder / "labels.csv", tables, schema)
    shown = ["given_label", "retain_weight", "true_label"]
    return pd.concat((table.filter(shown) for table in tables), ignore_index=True)


def summarize(
    settings: Settings, split: Split, history: list[dict[str, float]], ranks: Ranks
) -> dict[str, Any]:
    """The figures of a run at a glance; accuracies in per cent, None where the data to measure is missing."""
    chosen, last = history[chosen_epoch(history) - 1], history[-1]

    def figure(row: dict[str, float], name: str) -> float | None:
        return round(row[name], 3) if name in row else None

    return {
        "method": settings.method,
        "test_accuracy": figure(chosen, "test_accuracy"),
        "last_test_accuracy": figure(last, "test_accuracy"),
        "trusted_accuracy": figure(chosen, "trusted_accuracy"),
        "validation_accuracy": figure(chosen, "validation_accuracy"),
        "teacher_test_accuracy": figure(chosen, "teacher_test_accuracy"),
        "label_recovery": figure(chosen, "label_recovery"),
        "wrong_label_recovery": figure(chosen, "wrong_label_recovery"),
        "last_label_recovery": figure(last, "label_recovery"),
        "last_wrong_label_recovery": figure(last, "wrong_label_recovery"),
        "noise_rate_nominal": split.noise_rate_nominal,
        "noise_rate_actual": split.noise_rate_actual,
        "chosen_epoch": int(chosen["epoch"]),
        "epochs": int(last["epoch"]),
        "noisy_samples": len(split.noisy),
        "trusted_samples": len(split.trusted),
        "test_samples": 0 if split.test is None else len(split.test),
        "seconds": last["seconds"],
        "seed": settings.seed,
        "device": torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "cpu",
        "processes": ranks.size,
        "precision": settings.precision,
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("emlc", "torch", "torchvision", "numpy")},
    }
