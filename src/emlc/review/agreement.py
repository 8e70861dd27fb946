"""How far reviewers agree: shares and Cohen's kappa, over the samples that two of them settled."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from emlc.review.outcomes import SETTLED, verdict
from emlc.review.store import StoredDecision

_EXCLUDED = "\x00"
"""What stands for leaving a sample out among the labels; no class has this name."""


@dataclass(frozen=True)
class Agreement:
    """How far two reviewers agree.

    Attributes:
        reviewers: Their names.
        samples: Number of samples that both settled.
        agree: Number of these on which they settled alike.
        kappa: Cohen's kappa, at most 1, where 0 is what chance would give (J. Cohen, A coefficient of
            agreement for nominal scales, 1960); None if both gave all samples one and the same label.
        by_class: kappa of each class against all others, for the classes that either of them chose.
    """

    reviewers: tuple[str, str]
    samples: int
    agree: int
    kappa: float | None
    by_class: dict[str, float | None]


def agreements(decisions: Iterable[StoredDecision]) -> list[Agreement]:
    """Measure how far each two reviewers agree, of those with samples in common.

    Args:
        decisions: The latest decision of each reviewer on each sample. Those that were made in sight of
            others', or were loaded from a file, are left out.
    """
    labels: dict[str, dict[str, str]] = {}
    for each in decisions:
        if each.decision in SETTLED and not each.resolves and not each.seen:
            label = verdict(each)
            labels.setdefault(each.reviewer, {})[each.id] = _EXCLUDED if label is None else label
    pairs = combinations(sorted(labels), 2)
    return [
        _agreement((one, other), [(labels[one][id_], labels[other][id_]) for id_ in sorted(common)])
        for one, other in pairs
        if (common := labels[one].keys() & labels[other].keys())
    ]


def _agreement(reviewers: tuple[str, str], pairs: list[tuple[str, str]]) -> Agreement:
    chosen = sorted({label for pair in pairs for label in pair} - {_EXCLUDED})
    return Agreement(
        reviewers=reviewers,
        samples=len(pairs),
        agree=sum(one == other for one, other in pairs),
        kappa=_kappa(pairs),
        by_class={name: _kappa([(one == name, other == name) for one, other in pairs]) for name in chosen},
    )


def _kappa(pairs: list[tuple[str, str]] | list[tuple[bool, bool]]) -> float | None:
    from sklearn.metrics import cohen_kappa_score  # takes a second to import

    one, other = zip(*pairs, strict=True)
    if len({*one, *other}) < 2:
        return None  # there is nothing that chance could have made different
    return round(float(cohen_kappa_score(one, other)), 4)
