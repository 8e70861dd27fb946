"""What several reviewers' decisions come to, sample by sample.

Whoever settled on a label, or on leaving the sample out, counts. Where these differ, the sample is open until
one of the reviewers has seen all decisions and settles it, or they agree. What was settled so is open again
once somebody decides otherwise later; a later decision that agrees with it leaves it settled.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emlc.review.store import CLEAR, StoredDecision

SETTLED = ("accept", "keep", "other", "exclude")
"""Decisions by which a sample needs no further look."""


@dataclass(frozen=True)
class Outcome:
    """The decisions on one sample.

    Attributes:
        last: The decision that counts: the latest one that settles the sample, or else the latest.
        reviewers: Names of all who decided on it, sorted.
        disagree: Whether they settled on different labels, and nobody has resolved it.
    """

    last: StoredDecision
    reviewers: tuple[str, ...]
    disagree: bool

    def row(self) -> dict[str, str]:
        """Return the row of decisions.csv; where reviewers disagree, the sample needs another look."""
        decision = "recheck" if self.disagree else self.last.decision
        return {
            "id": self.last.id,
            "decision": decision,
            "label": "" if self.disagree else self.last.label,
            "given_label": self.last.given_label,
            "suggested_label": self.last.suggested_label,
            "chosen": self.last.chosen,
            "reviewer": "; ".join(self.reviewers),
            "time": self.last.time,
        }


def outcomes(decisions: Iterable[StoredDecision]) -> list[Outcome]:
    """Bring together the latest decisions of all reviewers, in the order of the samples' first decisions."""
    by_sample: dict[str, list[StoredDecision]] = defaultdict(list)
    for decision in decisions:
        if decision.decision != CLEAR:
            by_sample[decision.id].append(decision)
    return [_outcome(each) for each in by_sample.values()]


def verdict(decision: StoredDecision) -> str | None:
    """Return the label that a decision settles on, or None for leaving the sample out."""
    return None if decision.decision == "exclude" else decision.label


def _outcome(decisions: Sequence[StoredDecision]) -> Outcome:
    ordered = sorted(decisions, key=lambda decision: decision.number)
    settled = [decision for decision in ordered if decision.decision in SETTLED]
    last = (settled or ordered)[-1]
    resolving = [k for k, decision in enumerate(settled) if decision.resolves]
    since = settled[resolving[-1] :] if resolving else settled
    disagree = len({verdict(decision) for decision in since}) > 1
    return Outcome(last, tuple(sorted({decision.reviewer for decision in ordered})), disagree)
