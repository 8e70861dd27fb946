"""The runs of an experiment that are there, and their measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emlc.reproduce.cache import Outcome
from emlc.reproduce.paper import published
from emlc.reproduce.plan import Grid, Measure, Part
from emlc.reproduce.tables import Value, Values


@dataclass(frozen=True)
class Results:
    """The runs of a grid that are there.

    Attributes:
        grid: The experiment.
        rows: Those of its rows whose methods there are.
        outcomes: Row label and column label -> the seeds' runs.
    """

    grid: Grid
    rows: Sequence[Part]
    outcomes: Mapping[tuple[str, str], Sequence[Outcome]]

    def values(self, measure: Measure) -> Values:
        """A measure of every cell, with the paper's figure if it is the main one."""
        main = measure == self.grid.measures[0]
        found: dict[tuple[str, str], Value] = {}
        for row in self.rows:
            for column in self.grid.columns:
                figures = (each.figure(measure.name) for each in self.outcomes[row.label, column.label])
                paper = published(self.grid.paper, row.paper, column.paper) if main else None
                found[row.label, column.label] = Value([f for f in figures if f is not None], paper)
        return found
