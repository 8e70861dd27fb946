"""What a comparison means for the person who trains, and what to do next, in plain words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from emlc.labels.comparison import Comparison, MovedClass
from emlc.labels.rivals import GIVEN, GOLD, TRUSTED

RIVAL_WORDS = {
    GIVEN: "a simple classifier of the given labels",
    TRUSTED: "a simple classifier of the trusted samples alone",
    GOLD: "gold loss correction with a simple classifier",
}
"""What the rivals are, in words."""

_METHODS = {GIVEN: "cross-entropy", TRUSTED: "trusted-only", GOLD: "glc"}
"""The method that is the rival in full, by the name of the rival."""

_CHECK_MORE = (
    "check more labels (`emlc draw DATA` draws some at random, and with --trusted TABLE others than TABLE "
    "has checked) and train again"
)


@dataclass(frozen=True)
class Advice:
    """A finding and what to do about it.

    Attributes:
        level: warning: the result should not be used as it is. note: it is less certain than it looks.
        text: The finding.
        next: What to do next.
    """

    level: Literal["warning", "note"]
    text: str
    next: str

    def __str__(self) -> str:
        return f"{self.level}: {self.text} What to do: {self.next}."


def advice_on(comparison: Comparison) -> list[Advice]:
    """Return what speaks against the result of a run, the gravest first; nothing if all is well."""
    return [*_on_standing(comparison), *_on_classes(comparison.moved)]


def _on_standing(c: Comparison) -> Iterator[Advice]:
    if c.standing is None or c.rival is None:
        known = "it is not known how good this result is: no labels were held out, and"
        give = "give labelled samples for testing by --test FILE"
        if c.reason == "processes":
            text = f"{known} several processes do not train again without some of the trusted ones."
            yield Advice("note", text, f"train in one process, or {give}")
        else:
            few = "there are too few trusted ones to hold some out."
            few = few if c.single is None else f"there is a single trusted sample of {c.single!r}."
            yield Advice("note", f"{known} {few}", f"{_CHECK_MORE}, or {give}")
        return
    figures = f"{c.accuracy['emlc']:.1f} % of {sample_words(c)} right, {RIVAL_WORDS[c.rival]}"
    figures += f" {c.accuracy[c.rival]:.1f} %"
    if c.standing == "chance":
        yield Advice(
            "warning",
            f"emlc is no better than chance: its predictions for {sample_words(c)} have nothing to do "
            "with their labels. Do not use the corrected labels.",
            "images need a pretrained network (pip install 'emlc[image]' embeds them); otherwise check "
            f"whether the features can tell the classes apart at all, and {_CHECK_MORE}",
        )
    elif c.standing == "worse":
        yield Advice(
            "warning",
            f"a simpler method does significantly better here: emlc gets {figures}.",
            f"compare with --method {_METHODS[c.rival]}, and use that if it is better there, too; or "
            f"{_CHECK_MORE}",
        )
    elif c.standing == "level":
        is_ahead = c.accuracy["emlc"] > c.accuracy[c.rival]
        claim = "emlc is ahead of simpler methods" if is_ahead else "emlc is not ahead of simpler methods"
        yield Advice(
            "note",
            f"{claim}, but there are too few samples to tell: emlc gets {figures}, which may be chance.",
            f"to find out which is better, {_CHECK_MORE}",
        )


def _on_classes(moved: tuple[MovedClass, ...]) -> Iterator[Advice]:
    if not moved:
        return
    shown = [
        f"{each.name!r} from {each.given:.1%} of the labels to {each.corrected:.1%} (of the trusted ones "
        f"{each.trusted:.1%})"
        for each in moved[:3]
    ]
    more = f" and {len(moved) - 3} more classes" if len(moved) > 3 else ""
    yield Advice(
        "warning",
        f"the correction changes how common classes are, and the trusted samples do not support this: "
        f"{'; '.join(shown)}{more}.",
        "look at samples of these classes in `emlc report` before you use the corrected labels",
    )


def sample_words(c: Comparison) -> str:
    """Name the samples that a comparison was measured on."""
    return f"{c.samples:,} {c.measured_on} samples"
