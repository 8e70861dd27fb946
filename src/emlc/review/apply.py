"""Apply a reviewer's decisions: write the next data set, which `emlc train` reads as it is.

Reviewed samples join the trusted ones with the label that the reviewer settled on; those that the reviewer
excluded are left out; the others stay noisy.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from emlc.config import NoiseSettings, Settings, names_of, paths_of
from emlc.data import Samples, Split
from emlc.data.classes import UNKNOWN, class_codes
from emlc.data.overlap import without_overlap
from emlc.data.reviewed import counts_as_random
from emlc.data.writing.write import write_sets
from emlc.errors import InputError
from emlc.review.decisions import Decisions, read_decisions
from emlc.runs.outputs import check_apart, check_name
from emlc.runs.run import Run
from emlc.runtime.files import atomic_folder, check_free, write_json, write_text

Unreviewed = Literal["keep", "correct", "drop"]


def apply_decisions(
    run: Run,
    decisions: str | Path,
    output: str | Path | None = None,
    *,
    unreviewed: Unreviewed = "keep",
) -> dict[str, Any]:
    """Apply decisions on a run's noisy samples to its data, and write the resulting data set.

    The folder has the data, the validation and the test set; ``train.yaml``, with the run's settings for
    these; and ``review.json``, with the summary that is returned. Image files are not copied.

    Args:
        run: The run that was reviewed.
        decisions: decisions.csv or review.sqlite; see :mod:`emlc.review.decisions`.
        output: A new or empty folder (default: ``reviewed`` in the run directory).
        unreviewed: What happens to noisy samples that are undecided or were not reviewed. keep: they keep
            their given label. correct: they get the label that the run corrects it to. drop: those that
            count as label issues are left out.

    Returns:
        Numbers of decisions of each kind, of changed and of right labels, and of samples before and after.

    Raises:
        InputError: If the decisions do not belong to the run, the folder is not free, or drop leaves
            fewer than 2 noisy samples.
    """
    folder = Path(output).expanduser() if output else run.folder / "reviewed"
    check_name(folder)
    check_free(folder)
    check_apart(folder, paths_of(run.settings, "source"))
    split = run.split()
    reviewer = read_decisions(Path(decisions).expanduser(), split)
    rest = _rest(run, split, reviewer, unreviewed)
    reviewed = _reviewed(split.noisy, reviewer, keeps_given=unreviewed == "keep")
    noisy = _without_copies(rest, reviewed, run.settings)
    trusted = replace(split.trusted, true_labels=None, trusted=np.ones(len(split.trusted), dtype=np.bool_))
    if unreviewed != "keep":
        trusted = replace(trusted, label_before_review=None)
    sets = {"data": [_unmarked(noisy), trusted, reviewed]}
    sets |= {
        role: [replace(_unmarked(samples), true_labels=None)]
        for role in ("validation", "test")
        if (samples := getattr(split, role)) is not None
    }
    summary = _summary(split, reviewer, unreviewed) | {
        "copies_left_out": len(rest) - len(noisy),
        "noisy_after": len(noisy),
        "trusted_after": len(trusted) + len(reviewed),
    }
    with atomic_folder(folder) as temporary:
        reading = write_sets(sets, temporary, run.settings, run.schema)
        settings = next_settings(run.settings, reading, {role: folder / reading[role] for role in sets})
        write_text(temporary / "train.yaml", yaml_text(settings))
        write_json(temporary / "review.json", summary)
    return summary


def _unmarked(samples: Samples) -> Samples:
    """Return samples without any mark of trusted and reviewed ones."""
    return replace(samples, trusted=None, label_before_review=None, chosen_for_review=None)


def _reviewed(noisy: Samples, decisions: Decisions, *, keeps_given: bool) -> Samples:
    """Return the reviewed samples as trusted ones with the reviewer's labels, whatever the true labels.

    How they were chosen is kept, and with ``keeps_given`` the label that they had been given, which tells of
    the noise in the labels of the others: see :mod:`emlc.methods.reviewed`.
    """
    rows, labels, chosen = decisions.settled
    before = np.array(noisy.classes, dtype=np.object_)[noisy.given[rows]]
    return replace(
        noisy.take(rows),
        labels=labels,
        true_labels=None,
        trusted=np.ones(len(rows), dtype=np.bool_),
        label_before_review=before if keeps_given else None,
        chosen_for_review=chosen,
    )


def _rest(run: Run, split: Split, decisions: Decisions, unreviewed: Unreviewed) -> Samples:
    is_rest = np.ones(len(split.noisy), dtype=np.bool_)
    is_rest[decisions.settled[0]] = False
    is_rest[decisions.excluded] = False
    rest = split.noisy.take(is_rest)
    if unreviewed == "keep" or len(rest) == 0:
        return rest
    run.require_teacher()
    table = run.with_decision(split).correct_labels(rest)
    if unreviewed == "drop":
        return _without_issues(rest, table)
    return replace(rest, labels=class_codes(table["corrected_label"], rest.classes))


def _without_issues(rest: Samples, table: pd.DataFrame) -> Samples:
    kept = ~table["is_label_issue"].to_numpy()
    if kept.sum() < min(2, len(rest)):
        raise InputError(
            f"unreviewed: drop leaves {kept.sum()} of {len(rest)} noisy samples, as the others count as "
            "issues; training needs at least 2: use keep or correct"
        )
    return rest.take(kept)


def _without_copies(rest: Samples, reviewed: Samples, settings: Settings) -> Samples:
    """Leave out samples that a run would refuse beside a reviewed sample, such as a copy of its image."""
    if len(rest) == 0 or not (rest.pictures is not None or settings.overlap == "drop"):
        return rest
    return without_overlap(rest, reviewed, "noisy", "trusted", "drop")


def _summary(split: Split, decisions: Decisions, unreviewed: Unreviewed) -> dict[str, Any]:
    noisy = split.noisy
    rows, labels, chosen = decisions.settled
    truth = np.full(len(rows), UNKNOWN) if noisy.true_labels is None else noisy.true_labels[rows]
    known = truth != UNKNOWN
    return {
        "decisions": decisions.counts,
        "not_at_random": int((~counts_as_random(chosen)).sum()),
        "labels_changed": int((labels != noisy.given[rows]).sum()),
        "with_known_truth": int(known.sum()),
        "right": int((labels == truth)[known].sum()),
        "given_right": int((noisy.given[rows] == truth)[known].sum()),
        "unreviewed": unreviewed,
        "noisy_before": len(noisy),
        "trusted_before": len(split.trusted),
    }


def next_settings(settings: Settings, reading: Mapping[str, Any], files: Mapping[str, Path]) -> Settings:
    """Return a run's settings for the data that were written: nothing is drawn, no noise is injected."""
    sources = {role: os.path.abspath(file) for role, file in files.items()}
    no_draws = dict.fromkeys(names_of(Settings, lambda facts: facts.draws))
    changes: dict[str, Any] = no_draws | asdict(NoiseSettings()) | dict(reading) | sources
    # The files are written by emlc, each sample with an id of its own.
    changes |= {"separator": None, "encoding": None, "repeated_ids": "error"}
    return replace(settings, **changes, output=None)


def yaml_text(settings: Settings) -> str:
    """Return settings as YAML with every text quoted, since 1e5 and no may be names of classes."""
    return yaml.dump(settings.as_dict(), Dumper=_Quoting, sort_keys=False, allow_unicode=True)


class _Quoting(yaml.SafeDumper):
    pass


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)
