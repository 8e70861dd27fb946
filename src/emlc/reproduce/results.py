"""The finished runs of an experiment, and their measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emlc.reproduce.cache import Outcome
from emlc.reproduce.paper import published
from emlc.reproduce.plan import Grid, Measure, Part
from emlc.reproduce.tables import Value, Values


@dataclass(frozen=True)
class Results:
    """The finished runs of a grid.

    Attributes:
        grid: The experiment.
        outcomes: Row label and column label -> the finished runs, one per seed.
    """

    grid: Grid
    outcomes: Mapping[tuple[str, str], Sequence[Outcome]]

    @property
    def rows(self) -> Sequence[Part]:
        """The rows of the grid."""
        return self.grid.rows

    def values(self, measure: Measure) -> Values:
        """Return a measure of every cell, with the paper's figure if it is the main measure."""
        main = measure == self.grid.measures[0]
        values: dict[tuple[str, str], Value] = {}
        for row in self.rows:
            for column in self.grid.columns:
                figures = (each.figure(measure.name) for each in self.outcomes[row.label, column.label])
                paper = published(self.grid.paper, row.paper, column.paper) if main else None
                values[row.label, column.label] = Value([f for f in figures if f is not None], paper)
        return values
