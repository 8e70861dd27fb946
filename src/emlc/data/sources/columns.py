"""Find which column of a table, or which array of an .npz file, has which role."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from emlc.config import DataSettings
from emlc.data.annotations import Written
from emlc.data.classes import shorten
from emlc.data.sources.source import Role
from emlc.errors import InputError

REVIEWED = ("label_before_review", "chosen_for_review")
"""Names of the columns that `emlc apply` writes of reviewed samples, or arrays of an .npz file."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Names of columns to look for, in this order, where the settings name none."""

    label: tuple[str, ...]
    id: tuple[str, ...]
    true_label: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The name of the column for each role; None where there is none."""

    id: str | None
    label: str | None
    true_label: str | None
    trusted: str | None
    label_before_review: str | None = None
    chosen_for_review: str | None = None

    def names(self) -> list[str]:
        """Return the names of the columns that have a role."""
        return [name for name in vars(self).values() if name is not None]

    def read(self, column: Callable[[str], ArrayLike]) -> Written:
        """Return what the columns say; ``column`` returns the values of one by its name."""
        return Written(**{role: None if name is None else column(name) for role, name in vars(self).items()})


def find_columns(
    present: Collection[str], settings: DataSettings, role: Role, defaults: Defaults, where: str
) -> Columns:
    """Choose the columns that a source of this role needs.

    The data have given labels and perhaps true ones; other sources need no ids. A trusted source has its
    labels in the label column, else in the true label column; a validation or test source has them in the
    true label column, else in the label column. Labels are not read for prediction.

    Raises:
        InputError: If a column is needed and missing.
    """
    others = {settings.label_column, settings.true_label_column, settings.trusted_column}
    ids = tuple(name for name in defaults.id if name not in others)
    sample_id = _Request("id_column", settings.id_column, ids)
    label = _Request("label_column", settings.label_column, defaults.label)
    true_label = _Request("true_label_column", settings.true_label_column, defaults.true_label)
    trusted = _Request("trusted_column", settings.trusted_column, defaults.trusted)
    is_data = role == "data"
    before, chosen = (name if name in present and is_data else None for name in REVIEWED)
    sources = {
        "data": [label],
        "trusted": [label, true_label],
        "validation": [true_label, label],
        "test": [true_label, label],
        "predict": [],
    }[role]
    return Columns(
        id=sample_id.find(present, where) if is_data else _first_present(sample_id.candidates, present),
        label=_require(sources, present, where) if sources else None,
        true_label=true_label.find(present, where) if is_data else None,
        trusted=trusted.find(present, where) if is_data else None,
        label_before_review=before,
        chosen_for_review=chosen,
    )


@dataclass(frozen=True)
class _Request:
    option: str
    named: str | None
    defaults: tuple[str, ...]

    @property
    def candidates(self) -> tuple[str, ...]:
        return self.defaults if self.named is None else (self.named,)

    def find(self, present: Collection[str], where: str) -> str | None:
        """Return the column, if any; a column that the settings name must be there."""
        return (
            _first_present(self.candidates, present)
            if self.named is None
            else _require([self], present, where)
        )


def _first_present(names: Sequence[str], present: Collection[str]) -> str | None:
    return next((name for name in names if name in present), None)


def _require(requests: Sequence[_Request], present: Collection[str], where: str) -> str:
    candidates = [name for request in requests for name in request.candidates]
    column = _first_present(candidates, present)
    if column is None:
        raise missing_column(candidates, requests[0].option, present, where)
    return column


def missing_column(
    candidates: Sequence[str], option: str, present: Collection[str], where: str
) -> InputError:
    """Return the error for a column that is not there."""
    return InputError(
        f"{where}: no column {' or '.join(map(repr, candidates))} (--{option}); found: {shorten([*present])}"
    )
