"""A trained run, read from its directory.

::

    runs/NAME/
      settings.yaml     every setting, resolved        split.csv     which sample had which role
      model.json        classes, columns, input shape  metrics.csv   one row per epoch
      summary.json      the main figures               steps.csv     one row per teacher step
      labels.csv        the corrected labels           labels.parquet the same
      decision.json     when a label counts as wrong   tensorboard/  the metrics, for TensorBoard
      chosen/ last/     student and teacher weights    checkpoint.pt everything, for --resume
      noise.csv         the learned noise              *.png         recovery, retain weights, meta objective
      initial/          the student before training, where its weights came from a file and are needed
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emlc.config import Settings
from emlc.config.methods import method_class
from emlc.data import Samples, Schema, Split, check_files, check_split, make_split
from emlc.data.classes import shorten
from emlc.data.images.stored import Inputs
from emlc.data.samples import array_inputs, check_finite
from emlc.errors import InputError
from emlc.labels.decision import Decision
from emlc.labels.table import blocks, label_table
from emlc.methods.base import Method
from emlc.networks import inference
from emlc.networks.inference import Predictions, predict_both, represent
from emlc.networks.standardize import Standardize
from emlc.networks.teacher import AnyTeacher
from emlc.runs.calibration import calibrate
from emlc.runs.checkpoint import load_networks
from emlc.runs.foreign import check_sizes, with_known_folders
from emlc.runs.images import embed_inputs, embed_samples
from emlc.runs.stored_settings import read_settings
from emlc.runtime.distributed import Ranks, pick_device
from emlc.runtime.files import read_json
from emlc.runtime.trust import check_code


@dataclass(frozen=True)
class Run:
    """A trained run, read from its directory: it predicts classes and corrects labels.

    Attributes:
        folder: The run directory.
        settings: The settings of the training.
        schema: Classes, columns and input shape of the data.
        student: The classifier, inputs (n, ...) to logits (n, C).
        teacher: The label corrector, or None if the method has no teacher.
        which: The epoch of the networks: "chosen" or "last".
        known_decision: The value of :attr:`decision`, or None if it has still to be read or calibrated.
        transition: The noise that was learned, T (C, C): P(given label | true class) in [0, 1], true classes
            as the index and given labels as the columns, by name; rows sum to 1. By Bayes' rule, the
            retain weight that Appendix D approximates follows from it. None where no network learns it.

    Examples:
        Train a run in the folder ``first``:

        >>> from sklearn.datasets import make_blobs
        >>> from emlc import Run, Samples, Settings, train
        >>> X, y = make_blobs(400, centers=3, random_state=0)
        >>> noise = {"noise": "symmetric", "noise_rate": 0.3}
        >>> settings = Settings(output="first", trusted_per_class=10, epochs=2, device="cpu", **noise)
        >>> _ = train(settings, Samples.from_arrays(X, y), lean=True)

        Later, the folder is enough:

        >>> run = Run.load("first", device="cpu")
        >>> run.schema.classes, len(run.metrics)
        (('0', '1', '2'), 2)
        >>> samples = Samples.from_arrays(X[:5], y[:5], classes=run.schema.classes)
        >>> run.predict_proba(samples.inputs).shape
        torch.Size([5, 3])
        >>> table = run.correct_labels(samples)
        >>> table["given_label"].tolist(), bool(table["label_quality"].between(0, 1).all())
        (['2', '2', '0', '0', '0'], True)
    """

    folder: Path
    settings: Settings
    schema: Schema
    student: nn.Module
    teacher: AnyTeacher | None
    which: Literal["chosen", "last"] = "chosen"
    known_decision: Decision | None = None
    transition: pd.DataFrame | None = field(default=None, compare=False)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        which: Literal["chosen", "last"] = "chosen",
        device: str = "auto",
        trust_code: bool = False,
    ) -> Self:
        """Load a run with the networks of the chosen or of the last epoch.

        The chosen epoch is the best on the validation set; without one the latest with emlc's noise-aware
        teacher, else the best on the trusted set. Of an interrupted run, it is that so far.

        Args:
            folder: The run directory.
            which: The epoch: "chosen" or "last".
            device: The device for the networks: auto | cpu | cuda | cuda:N.
            trust_code: Whether code that the settings name, a backbone ``module:factory``, may run, and the
                cache folders that they name may be written to, although they were not used here before.

        Raises:
            InputError: there is no such run, or files of it are missing or broken; or it names code that is
                not trusted.
        """
        folder = Path(folder).expanduser()
        settings = read_settings(folder, Settings)
        if not trust_code:
            check_code(settings, folder / "settings.yaml")
            settings = with_known_folders(settings, folder / "settings.yaml")
        if not (folder / which).is_dir():
            raise InputError(f"{folder}: no {which} weights yet: the training was interrupted, see --resume")
        try:
            schema = Schema.from_dict(read_json(folder / "model.json"))
            check_sizes(settings, schema, folder, which)
            # Standardisation is part of the weights, so that the values of these inputs do not matter.
            inputs = torch.zeros(2, *schema.input_shape)
            method: Method = method_class(settings.method)(settings, inputs, len(schema.classes))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{folder / 'model.json'}: not the description of a model: {error}") from error
        # Others, such as a meta-net, serve training alone: an exported model does not have them.
        useful = {"student", "teacher"}
        if (folder / which / f"{method.noise_model}.safetensors").exists():
            useful.add(method.noise_model)
        networks = {n: network for n, network in method.networks().items() if n in useful}
        load_networks(folder / which, networks)
        for network in networks.values():
            network.to(pick_device(device)).eval()
        teacher = networks.get("teacher")
        assert teacher is None or isinstance(teacher, AnyTeacher)
        transition = _transition(networks.get(method.noise_model), schema.classes)
        return cls(folder, settings, schema, method.student, teacher, which, transition=transition)

    def predict_proba(self, inputs: Inputs | NDArray[Any], ranks: Ranks | None = None) -> Tensor:
        """Predict the student's class probabilities (n, C), float32 in [0, 1], on the CPU.

        Args:
            inputs: (n, ...) as stored: images as uint8, or feature rows as float32; or an array that
                :meth:`Samples.from_arrays` takes. Images are embedded, if the run learned from embeddings.
            ranks: Processes that share the work. All of them have to call this, and all get all rows.

        Raises:
            InputError: the inputs are no numbers, not finite, or of another shape than in training.
        """
        checked = self._checked(inputs)
        embedded = embed_inputs(checked, self.schema, self._settings_here)
        known = checked if embedded is None else embedded.vectors
        return inference.predict_proba(self.student, known, ranks)

    def _checked(self, inputs: Inputs | NDArray[Any]) -> Inputs:
        """Return inputs as the networks take them, if they have the shape of those in training."""
        checked: Inputs
        if hasattr(inputs, "read"):  # as images on disk have
            checked = cast(Inputs, inputs)
        else:
            is_stored = isinstance(inputs, Tensor) and inputs.dtype in (torch.uint8, torch.float32)
            checked = cast(Tensor, inputs) if is_stored else array_inputs(inputs, "inputs")
            check_finite(checked, np.arange(len(checked)).astype(np.object_), "inputs")
        expected, found = self.schema.input_shape, tuple(checked.shape[1:])
        if len(found) == len(expected) and found != expected:
            raise InputError(f"inputs: each has shape {found}, but the run learned from shape {expected}")
        return checked

    def correct_labels(
        self, samples: Samples, ranks: Ranks | None = None, *, all_probabilities: bool = False
    ) -> pd.DataFrame:
        """Correct the labels of samples: return :func:`emlc.labels.table.label_table`, one row per sample.

        Args:
            samples: Samples with given labels.
            ranks: Processes that share the work, as for :meth:`predict_proba`.
            all_probabilities: Whether to add one column per class with the corrected soft label.

        Raises:
            InputError: the run's method has no teacher; the samples have no labels; or the run has no
                decision yet, and its training samples cannot be read again to calibrate it.
        """
        blocks_with_tables = self.iter_label_tables(samples, ranks, all_probabilities=all_probabilities)
        return pd.concat((table for _, table, _ in blocks_with_tables), ignore_index=True)

    def iter_label_tables(
        self, samples: Samples, ranks: Ranks | None = None, *, all_probabilities: bool = False
    ) -> Iterator[tuple[Samples, pd.DataFrame, Predictions]]:
        """Yield samples, label table and predictions block by block; otherwise as :meth:`correct_labels`."""
        teacher, decision = self.require_teacher(), self.decision
        if samples.labels is None:
            raise InputError("correcting labels needs the given labels, and these samples have none")
        if samples.classes != self.schema.classes:
            raise InputError(
                f"classes: expected those of the run, {shorten(self.schema.classes)}, found "
                f"{shorten(samples.classes)}; name the run's classes where the samples are made"
            )
        for block in blocks(self.embedded(samples)):
            predictions = predict_both(self.student, teacher, block.inputs, block.given, ranks)
            yield (
                block,
                label_table(block, predictions, decision, all_probabilities=all_probabilities),
                predictions,
            )

    def embedded(self, samples: Samples) -> Samples:
        """Return samples with embeddings in place of images, if the run learned from embeddings.

        Raises:
            InputError: the image model is not available, or not the one that the run learned from.
        """
        return embed_samples(samples, self.schema, self._settings_here)

    @property
    def _settings_here(self) -> Settings:
        """The settings, with the device of the networks: texts and images are embedded there."""
        return replace(self.settings, device=str(next(self.student.parameters()).device))

    @cached_property
    def decision(self) -> Decision:
        """The rule by which a label counts as wrong: stored with the run, or calibrated on its samples.

        Raises:
            InputError: ``decision.json`` is broken; or there is none for these networks, and the training
                samples cannot be read again.
        """
        return self.known_decision or self._stored_decision() or self.decide(self.split())

    def with_decision(self, split: Split) -> Self:
        """Return the run with its :attr:`decision`, calibrated on its samples ``split`` if none is stored."""
        decision = self.known_decision or self._stored_decision() or self.decide(split)
        return replace(self, known_decision=decision)

    def _stored_decision(self) -> Decision | None:
        path = self.folder / "decision.json"
        return Decision.load(path) if self.which == "chosen" and path.exists() else None

    def decide(self, split: Split, ranks: Ranks | None = None) -> Decision:
        """Calibrate the decision when a label counts as wrong: see :mod:`emlc.labels.evidence`.

        On validation samples, two or more of each class, from which neither network has learned, the evidence
        is the networks' own prediction. Trusted samples they know by heart: there it is the samples'
        features, or of images the representation of the student's backbone with its initial weights. All
        ``ranks`` return the same decision.

        Raises:
            InputError: the initial weights came from a file, and the run has not kept them, as older ones
                have not, and the file is gone.
        """
        return calibrate(self, split, ranks)

    def reduced(self, rows: Inputs, ranks: Ranks | None = None) -> NDArray[np.float64]:
        """Return rows of features (n, d), reduced to components (n, k) if the networks do that first."""
        standardize = next(m for m in self.student.modules() if isinstance(m, Standardize))
        if standardize.basis is None:
            return rows[torch.arange(len(rows))].double().numpy()
        return represent(standardize, rows, ranks).double().numpy()

    def require_teacher(self) -> AnyTeacher:
        """Return the teacher, or raise an :class:`InputError` if the run's method has none."""
        if self.teacher is None:
            method, labels = self.settings.method, self.folder / "labels.csv"
            if labels.exists():
                raise InputError(
                    f"{self.folder}: {method} has corrected the labels of its own samples, in {labels}; "
                    "anything further needs a teacher: train with emlc"
                )
            raise InputError(f"{self.folder}: method {method} corrects no labels; train with emlc")
        return self.teacher

    def split(self) -> Split:
        """Read the run's samples again from their sources, and check them against ``split.csv``.

        Raises:
            InputError: the sources have changed, or the samples were passed in memory and not stored.
        """
        if self.settings.data is None:
            raise InputError(f"{self.folder}: trained on samples given from Python, which are not kept")
        limits = None if self.schema.image_range is None else list(self.schema.image_range)
        settings = replace(self._settings_here, background=self.schema.background, image_range=limits)
        check_files(self.folder / "split.csv", settings)
        split, _ = make_split(settings, settings, settings.seed, self.schema)
        check_split(split, self.folder / "split.csv")
        return split

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of ``summary.json``, by name.

        Raises:
            InputError: there is none: the run was lean or was interrupted, or its folder is gone.
        """
        return read_json(self._file("summary.json", "a lean run has none, nor has one that was interrupted"))

    @property
    def metrics(self) -> pd.DataFrame:
        """The table ``metrics.csv``, one row per epoch.

        Raises:
            InputError: there is none, as the folder of the run is gone.
        """
        return pd.read_csv(self._file("metrics.csv", "it is written when the training ends"))

    def _file(self, name: str, why: str) -> Path:
        path = self.folder / name
        if not self.folder.exists():
            why = "the folder is gone; EMLCClassifier deletes it if it has no output, and keeps its history_"
        if not path.exists():
            raise InputError(f"{path}: no such file: {why}")
        return path


def _transition(network: nn.Module | None, classes: tuple[str, ...]) -> pd.DataFrame | None:
    """The transition matrix of a network that has one, by class name."""
    matrix: Tensor | None = getattr(network, "transition", None)
    if matrix is None:
        return None
    T = matrix.detach().double().cpu().numpy()
    return pd.DataFrame(
        T, index=pd.Index(classes, name="true_class"), columns=pd.Index(classes, name="given_label")
    )
