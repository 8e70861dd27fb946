"""A trained run: what is in its directory, and what it is good for.

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

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from emlc.config import Settings
from emlc.config.methods import method_class
from emlc.data import Samples, Schema, Split, check_split, make_split
from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.labels.decision import Decision, decide, log_odds
from emlc.labels.table import blocks, label_table
from emlc.methods.base import Method
from emlc.networks import inference
from emlc.networks.inference import Predictions, predict_both
from emlc.networks.teacher import Teacher
from emlc.runs.checkpoint import load_networks
from emlc.runs.directory import read_settings
from emlc.runtime.distributed import Ranks, pick_device
from emlc.runtime.files import read_json
from emlc.runtime.streams import RandomStream, generator

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
        known_decision: What :attr:`decision` is, where that was handed in; None: it is looked up.
    """

    folder: Path
    settings: Settings
    schema: Schema
    student: nn.Module
    teacher: Teacher | None
    which: Literal["chosen", "last"] = "chosen"
    known_decision: Decision | None = None

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
            inputs = torch.zeros(2, *schema.input_shape)
            method: Method = method_class(settings.method)(settings, inputs, len(schema.classes))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{folder / 'model.json'}: not the description of a model: {error}") from error
        # Others, such as a meta-net, serve training alone: an exported model does not have them.
        networks = {n: network for n, network in method.networks().items() if n in ("student", "teacher")}
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
        judged = self.iter_label_tables(samples, ranks, all_probabilities=all_probabilities)
        return pd.concat((table for _, table, _ in judged), ignore_index=True)

    def iter_label_tables(
        self, samples: Samples, ranks: Ranks | None = None, *, all_probabilities: bool = False
    ) -> Iterator[tuple[Samples, pd.DataFrame, Predictions]]:
        """:meth:`correct_labels` block by block, with the samples and the predictions of each."""
        teacher, decision = self.require_teacher(), self.decision
        if samples.labels is None:
            raise InputError("correcting labels needs the given labels, and these samples have none")
        for block in blocks(samples):
            predictions = predict_both(self.student, teacher, block.inputs, block.given, ranks)
            yield (
                block,
                label_table(block, predictions, decision, all_probabilities=all_probabilities),
                predictions,
            )

    @cached_property
    def decision(self) -> Decision:
        """When a label counts as wrong: as known or stored with the run, else from the run's own samples.

        Raises:
            InputError: ``decision.json`` is broken; or there is none for these networks, and the run's own
                samples cannot be read again.
        """
        return self.known_decision or self._stored_decision() or self.decide(self.split())

    def with_decision(self, split: Split) -> Self:
        """Return the run with its :attr:`decision`, which may take its own samples: ``split``, as at hand."""
        decision = self.known_decision or self._stored_decision() or self.decide(split)
        return replace(self, known_decision=decision)

    def _stored_decision(self) -> Decision | None:
        path = self.folder / "decision.json"
        return Decision.load(path) if self.which == "chosen" and path.exists() else None

    def decide(self, split: Split, ranks: Ranks | None = None) -> Decision:
        """Calibrate when a label counts as wrong: see :mod:`emlc.labels.decision`.

        On the validation samples, which neither network learnt from, or without any on the trusted ones.
        All ``ranks`` come to the same decision.
        """
        teacher = self.require_teacher()
        named = ("trusted", split.trusted) if split.validation is None else ("validation", split.validation)
        predicted = {}
        for name, samples in (named, ("noisy", split.noisy)):
            rng = generator(self.settings.seed, RandomStream.DECISION_SAMPLES, int(name == "noisy"))
            if len(samples) > _DECIDED_ON:
                samples = samples.take(np.sort(rng.choice(len(samples), _DECIDED_ON, replace=False)))
            predictions = predict_both(self.student, teacher, samples.inputs, samples.given, ranks)
            predicted[name] = predictions.prediction(), samples.given
        return decide(*predicted[named[0]], log_odds(*predicted["noisy"]), calibrated_on=named[0])

    def require_teacher(self) -> Teacher:
        """The teacher, or an :class:`InputError` if the run's method has none."""
        if self.teacher is None:
            method, labels = self.settings.method, self.folder / "labels.csv"
            if labels.exists():
                raise InputError(
                    f"{self.folder}: {method} has corrected the labels of its own samples, in {labels}; "
                    "what is asked for needs a teacher: train with emlc"
                )
            raise InputError(f"{self.folder}: method {method} corrects no labels; train with emlc")
        return self.teacher

    def split(self) -> Split:
        """The run's own samples, read again from their sources and checked against ``split.csv``.

        Raises:
            InputError: the sources have changed, or the samples were given from Python and not kept.
        """
        if self.settings.data is None:
            raise InputError(f"{self.folder}: trained on samples given from Python, which are not kept")
        device = str(next(self.student.parameters()).device)  # texts are embedded there
        settings = replace(self.settings, device=device)
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
