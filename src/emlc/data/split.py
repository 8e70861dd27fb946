"""One disjoint split into noisy, trusted, validation and test samples, persisted with a run."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from emlc.config import DataSettings, NoiseSettings
from emlc.data import noise as label_noise
from emlc.data.classes import UNKNOWN
from emlc.data.common_classes import with_common_classes, with_trusted_classes
from emlc.data.draw import Rows, draw_rows, hold_out
from emlc.data.images.stored import StoredImages
from emlc.data.overlap import without_overlap
from emlc.data.samples import Samples
from emlc.data.sources.checked import is_checked_table, with_checked_labels
from emlc.data.sources.human_labels import with_human_labels
from emlc.data.sources.read import (
    bundled_roles,
    new_schema,
    open_source,
    tell_unread,
    with_image_model,
)
from emlc.data.sources.source import Role, Schema, Source, check_input_shape, take_all, with_image_range
from emlc.errors import InputError
from emlc.runtime.files import write_csv
from emlc.runtime.streams import RandomStream, generator


@dataclass(frozen=True, kw_only=True)
class Split:
    """Disjoint sets of samples that share their classes.

    Attributes:
        noisy: The noisy set. ``labels`` are the given labels, after any injection of noise;
            ``true_labels`` are the true ones where known.
        trusted: The trusted set; its labels count as true, like those of the validation and test sets.
        validation: The set that chooses the epoch; None: the trusted set does.
        test: The set for the final accuracy, which takes part in no choice.
        noise_rate_nominal: Rate of the injected noise, in [0, 1], as the settings ask for it; for a
            transition matrix, the expected rate. None without injection.
        noise_rate_actual: Fraction of wrong labels among the noisy samples with a known true label;
            None if no true label is known.
        columns: Of a table in memory: how its columns became features, as in
            :class:`~emlc.data.sources.source.Schema`.
    """

    noisy: Samples
    trusted: Samples
    validation: Samples | None = None
    test: Samples | None = None
    noise_rate_nominal: float | None = None
    noise_rate_actual: float | None = None
    columns: tuple[dict[str, Any], ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, shared by all sets."""
        return self.noisy.classes

    def table(self) -> pd.DataFrame:
        """Return a table with one row per sample.

        Its columns are id, role, given_label and true_label (class names, empty where not known), and
        input_digest, from :meth:`Samples.input_digests`.
        """
        return pd.concat([_part_table(samples, role) for role, samples in self._parts()], ignore_index=True)

    def save(self, path: Path) -> None:
        """Write the table as CSV, atomically."""
        write_csv(path, self.table())

    def _parts(self) -> Iterator[tuple[str, Samples]]:
        for role in ("noisy", "trusted", "validation", "test"):
            if (samples := getattr(self, role)) is not None:
                yield role, samples


def make_split(
    settings: DataSettings,
    noise: NoiseSettings,
    seed: int,
    known: Schema | None = None,
    opened: Source | None = None,
) -> tuple[Split, Schema]:
    """Read the sources, draw the split and inject the noise.

    The same settings and seed give the same split. Only the inputs of chosen samples are read. Some sources
    bring further sets along (:func:`bundled_roles`), which are used unless the settings say otherwise.

    Args:
        settings: The sources and how they are divided.
        noise: Noise to inject into the noisy samples. It does not change which samples are in which set.
        seed: Seed of all draws.
        known: How a run read its data. Of it, the columns of a table and the models of texts and images are
            used; by default the columns are found from the noisy samples.
        opened: The data, if they have been opened already.

    Returns:
        The split, and how the data were read.

    Raises:
        InputError: If a source is wrong, sets overlap, or a class has no trusted sample.
    """
    if settings.data is None:
        raise InputError("data: no source is named; samples in memory go through split_samples")
    opened = opened or open_source(settings.data, settings, role="data", schema=_schema(settings, known))
    data = with_human_labels(with_image_model(opened, settings.image_model), settings)
    data = with_checked_labels(data, settings)
    sources = other_sources(settings.data, settings)
    tell_unread(settings.data, sources)
    rows = draw_rows(
        data,
        settings,
        noise,
        seed,
        has_trusted_source="trusted" in sources,
        has_test_source="test" in sources,
    )
    data = with_image_range(data, rows.noisy)
    data = data.fitted(rows.noisy)
    others = {
        role: open_source(source, settings, role=role, schema=data.schema) for role, source in sources.items()
    }
    selections = {"noisy": (data, rows.noisy)}
    selections |= {role: (data, drawn) for role, drawn in _drawn(rows).items()}
    selections |= {role: (source, source.rows_in_use) for role, source in others.items()}
    parts = take_all(selections, settings)
    own = set(parts) - {role for role, source in sources.items() if source != settings.data}
    split = _assemble(parts, data.schema.classes, settings, noise, seed, settings.overlap, own)
    schema = replace(
        data.schema,
        classes=split.classes,
        has_integers=data.schema.has_integers and data.schema.classes == split.classes,
        input_shape=split.noisy.input_shape,
    )
    return split, schema


def _schema(settings: DataSettings, known: Schema | None) -> Schema:
    """Return the schema that the settings say, with what of a run's schema does not follow from them."""
    columns, images = ("feature_columns", "columns"), ("image_model", "image_model_digest")
    names = (*columns, *images, "text_column", "text_model", "text_model_digest")
    taken: dict[str, Any] = {} if known is None else {name: getattr(known, name) for name in names}
    return replace(new_schema(settings), **taken)


def split_samples(
    data: Samples,
    trusted: Samples | None = None,
    validation: Samples | None = None,
    test: Samples | None = None,
    *,
    settings: DataSettings,
    noise: NoiseSettings | None = None,
    seed: int = 0,
    may_overlap: bool = False,
) -> Split:
    """Split samples in memory as :func:`make_split` splits sources.

    Args:
        data: Samples with given labels; ``data.trusted``, if not None, marks the trusted ones among them.
        trusted: Trusted samples of their own; None: they are drawn from the data.
        validation: Validation samples, if any.
        test: Test samples, if any.
        settings: How many samples to draw for each set.
        noise: Noise to inject into the noisy samples; None: none.
        seed: Seed of all draws.
        may_overlap: Keep samples that two sets share, without an error or a warning.

    Returns:
        The split.

    Raises:
        InputError: If a set is wrong, sets overlap, or a class has no trusted sample.
    """
    noise = noise or NoiseSettings()
    data = with_human_labels(data, settings)
    rows = draw_rows(
        data,
        settings,
        noise,
        seed,
        has_trusted_source=trusted is not None,
        has_test_source=test is not None,
    )
    others = {"trusted": trusted, "validation": validation, "test": test}
    parts = {"noisy": data.take(rows.noisy)}
    parts |= {role: data.take(drawn) for role, drawn in _drawn(rows).items()}
    parts |= {role: samples for role, samples in others.items() if samples is not None}
    overlap = "keep" if may_overlap else settings.overlap
    own = set(parts) - {role for role, samples in others.items() if samples is not None}
    return _assemble(parts, tuple(settings.classes or ()), settings, noise, seed, overlap, own)


def other_sources(data: str, settings: DataSettings) -> dict[Role, str]:
    """Return the sources of the other sets: those that the settings name, or else the data itself."""
    roles = bundled_roles(data)
    draw_settings: dict[Role, list[object]] = {
        "trusted": [settings.trusted_column, settings.trusted_per_class],
        "validation": [settings.validation_fraction],
        "test": [settings.test_fraction],
    }
    sources: dict[Role, str] = {}
    is_checked = is_checked_table(settings.trusted, settings)
    for role, values in draw_settings.items():
        named: str | None = getattr(settings, role)
        if role == "trusted" and is_checked:
            continue
        if named is not None:
            sources[role] = named
        elif role in roles and all(value is None for value in values):
            sources[role] = data
    return sources


def _drawn(rows: Rows) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the trusted and test sets, by role, if they are drawn from the data."""
    return {role: drawn for role, drawn in {"trusted": rows.trusted, "test": rows.test}.items() if len(drawn)}


def _assemble(
    parts: dict[str, Samples],
    declared: tuple[str, ...],
    settings: DataSettings,
    noise: NoiseSettings,
    seed: int,
    overlap: Literal["trusted", "error", "drop", "keep"],
    own: set[str],
) -> Split:
    """Bring the sets to the same classes and inputs, remove what they share, and inject the noise.

    Args:
        parts: The sets by role.
        declared: Names of the classes, if they are set.
        settings: Which fraction of the trusted samples is held out for validation.
        noise: The noise to inject.
        seed: Seed of the draws.
        overlap: What to do with samples that are in two sets.
        own: Roles of the sets that come from the source of the data.
    """
    if "trusted" not in parts:
        column = settings.trusted_column
        raise InputError(
            "there are no trusted samples" + (f": no row is marked in column {column!r}" if column else "")
        )
    drawn = settings.trusted_per_class is not None
    parts = {
        role: part if role == "noisy" else _known_right(part, role, by_truth=drawn or role != "trusted")
        for role, part in parts.items()
    }
    if settings.validation_fraction is not None and "validation" not in parts:
        parts |= _hold_out_validation(parts["trusted"], settings.validation_fraction, seed)
        own = own | {"validation"} if "trusted" in own else own
    parts = with_common_classes(parts, declared, settings)
    parts = _with_same_inputs(parts)
    if overlap != "keep":
        parts = _disjoint(parts, overlap, own)
    parts = with_trusted_classes(parts, drop=settings.drop_untrusted_classes)
    noisy, nominal = _inject(parts["noisy"], noise, generator(seed, RandomStream.LABEL_NOISE))
    return Split(
        noisy=noisy,
        trusted=parts["trusted"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        noise_rate_nominal=nominal,
        noise_rate_actual=label_noise.actual_rate(noisy.given, noisy.true_labels),
    )


def _known_right(samples: Samples, role: str, *, by_truth: bool) -> Samples:
    """Return trusted, validation or test samples, whose labels count as true.

    With ``by_truth`` the true label is the label, where it is known. Without it the user's label stays, as of
    samples that the user says are trusted, and a true label only measures it.
    """
    if samples.labels is None:
        raise InputError(f"the {role} samples have no labels")
    labels = samples.labels
    truth = labels if samples.true_labels is None else samples.true_labels
    truth = np.where(truth == UNKNOWN, labels, truth)
    return replace(samples, labels=truth if by_truth else labels, true_labels=truth)


def _hold_out_validation(trusted: Samples, fraction: float, seed: int) -> dict[str, Samples]:
    validation = hold_out(trusted.given, fraction, seed, "validation")
    rest = np.setdiff1d(np.arange(len(trusted)), validation)
    return {"trusted": trusted.take(rest), "validation": trusted.take(validation)}


def _with_same_inputs(parts: dict[str, Samples]) -> dict[str, Samples]:
    """Check the shape of the inputs, and make images float32 in all sets if they are in one."""
    for role, part in parts.items():
        check_input_shape(part, parts["noisy"].input_shape, f"the {role} samples")
    if len({part.inputs.dtype for part in parts.values()}) == 1:
        return parts
    return {role: _with_float_inputs(part, role) for role, part in parts.items()}


def _with_float_inputs(samples: Samples, role: str) -> Samples:
    if isinstance(samples.inputs, StoredImages):
        raise InputError(
            f"the {role} samples are images on disk, but other samples are floats, and images on disk cannot "
            "be converted; raise --memory_gib, so that they are held in memory"
        )
    if samples.inputs.dtype != torch.uint8:
        return samples
    return replace(samples, inputs=samples.inputs.float() / 255)


def _disjoint(
    parts: dict[str, Samples], overlap: Literal["trusted", "error", "drop"], own: set[str]
) -> dict[str, Samples]:
    """Remove from the noisy set what is in another, and from the other sets what is in the test set.

    Of two sets that come from one source, twins are removed whatever ``overlap`` says: the user did not put
    them there. Trusted and validation samples may coincide: without a validation set, the trusted set takes
    its place.
    """
    trusted_wins: Literal["error", "drop"] = "error" if overlap == "error" else "drop"
    otherwise: Literal["error", "drop"] = "drop" if overlap == "drop" else "error"
    pairs = [("noisy", "trusted", trusted_wins), ("noisy", "validation", trusted_wins)]
    pairs += [("noisy", "test", otherwise), ("trusted", "test", otherwise), ("validation", "test", otherwise)]
    for role, other, action in pairs:
        if role in parts and other in parts:
            twins = overlap != "drop" and {role, other} <= own
            equal_rows = overlap == "drop" or (action == "drop" and not twins and _are_distinct(parts[role]))
            kept = without_overlap(
                parts[role], parts[other], role, other, "twins" if twins else action, equal_rows=equal_rows
            )
            parts = parts | {role: kept}
            if len(parts[role]) == 0:
                raise InputError(f"all {role} samples are also {other} samples")
    return parts


def _are_distinct(samples: Samples) -> bool:
    """Tell whether rows of numbers are those of one sample each: at least 99 % of them occur once."""
    if samples.inputs.ndim != 2:
        return False
    occurrences = pc.value_counts(samples.input_keys).field("counts").to_numpy()
    return bool((occurrences == 1).sum() >= 0.99 * len(samples))


def _inject(noisy: Samples, noise: NoiseSettings, rng: np.random.Generator) -> tuple[Samples, float | None]:
    """Return the noisy samples with their final labels, and the nominal rate of the injected noise."""
    if noise.noise == "none":
        return noisy, None
    labels = noisy.given
    matrix, rate = label_noise.from_settings(noise, noisy.classes)
    given = label_noise.inject(labels, matrix, rng, draw=noise.noise_draw, rate=rate)
    truth = labels if noisy.true_labels is None else noisy.true_labels
    nominal = label_noise.nominal_rate(labels, matrix) if rate is None else rate
    return replace(noisy, labels=given, true_labels=truth), nominal


def _part_table(samples: Samples, role: str) -> pd.DataFrame:
    names = np.array([*samples.classes, ""], dtype=object)  # UNKNOWN is -1: the last entry
    truth = np.full(len(samples), UNKNOWN) if samples.true_labels is None else samples.true_labels
    return pd.DataFrame(
        {
            "id": samples.ids,
            "role": role,
            "given_label": names[samples.given],
            "true_label": names[truth],
            "input_digest": samples.input_digests(),
        },
        dtype=object,
    )
