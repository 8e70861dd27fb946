"""The methods by name: what they are from, and which hyper-parameters they have."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Literal, NamedTuple

from emlc.config.hyper import (
    AugDescHyper,
    DivideMixHyper,
    ELRPlusHyper,
    FaMUSHyper,
    FasTENHyper,
    FineTuningHyper,
    Hyper,
    HyperValue,
    JointOptimHyper,
    MLCHyper,
    MLNTHyper,
    MSLCHyper,
    MSLGHyper,
    MWNetHyper,
    PencilHyper,
    SMPHyper,
)
from emlc.errors import raise_together

MethodName = Literal[
    "emlc",
    "cross-entropy",
    "trusted-only",
    "fine-tuning",
    "true-labels",
    "mlc",
    "mw-net",
    "mslc",
    "mlnt",
    "fasten",
    "dividemix",
    "elr-plus",
    "c2d",
    "joint-optim",
    "pencil",
    "augdesc",
    "famus",
    "mslg",
    "smp",
]


class MethodFacts(NamedTuple):
    """What is known of a method without its code.

    Attributes:
        reference: Title, authors and venue, or what it is.
        hyper: Its own hyper-parameters.
        warm_up_share: Share of the epochs that it warms up for, unless ``warm_up_epochs`` says otherwise.
    """

    reference: str
    hyper: type[Hyper] = Hyper
    warm_up_share: float = 0.0


CATALOGUE: dict[MethodName, MethodFacts] = {
    "emlc": MethodFacts("Enhanced Meta Label Correction for Coping with Label Corruption"),
    "cross-entropy": MethodFacts("Baseline: believes the given labels"),
    "trusted-only": MethodFacts("Baseline: learns from the trusted samples alone"),
    "fine-tuning": MethodFacts(
        "Baseline: cross-entropy on the given labels, then on the trusted samples", FineTuningHyper
    ),
    "true-labels": MethodFacts("Ceiling: cross-entropy on the true labels, where they are known"),
    "mlc": MethodFacts("Meta Label Correction for Noisy Label Learning, Zheng et al., AAAI 2021", MLCHyper),
    "mw-net": MethodFacts(
        "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting, Shu et al., NeurIPS 2019",
        MWNetHyper,
    ),
    "mslc": MethodFacts(
        "Learning to Purify Noisy Labels via Meta Soft Label Corrector, Wu et al., AAAI 2021",
        MSLCHyper,
        warm_up_share=79 / 120,
    ),
    "mlnt": MethodFacts(
        "Learning to Learn from Noisy Labeled Data, Li et al., CVPR 2019", MLNTHyper, warm_up_share=0.5
    ),
    "fasten": MethodFacts(
        "Learning with Noisy Labels by Efficient Transition Matrix Estimation to Combat Label Miscorrection, "
        "Kye et al., ECCV 2022",
        FasTENHyper,
    ),
    "dividemix": MethodFacts(
        "DivideMix: Learning with Noisy Labels as Semi-supervised Learning, Li et al., ICLR 2020",
        DivideMixHyper,
        warm_up_share=10 / 300,
    ),
    "elr-plus": MethodFacts(
        "Early-Learning Regularization Prevents Memorization of Noisy Labels, Liu et al., NeurIPS 2020",
        ELRPlusHyper,
    ),
    "c2d": MethodFacts(
        "Contrast to Divide: Self-Supervised Pre-Training for Learning with Noisy Labels, "
        "Zheltonozhskii et al., WACV 2022",
        DivideMixHyper,
        warm_up_share=5 / 360,
    ),
    "joint-optim": MethodFacts(
        "Joint Optimization Framework for Learning with Noisy Labels, Tanaka et al., CVPR 2018",
        JointOptimHyper,
        70 / 320,
    ),
    "pencil": MethodFacts(
        "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels (PENCIL, P-correction), "
        "Yi and Wu, CVPR 2019",
        PencilHyper,
        70 / 320,
    ),
    "augdesc": MethodFacts(
        "Augmentation Strategies for Learning with Noisy Labels, Nishi et al., CVPR 2021",
        AugDescHyper,
        warm_up_share=10 / 300,
    ),
    "famus": MethodFacts(
        "Faster Meta Update Strategy for Noise-Robust Deep Learning, Xu et al., CVPR 2021", FaMUSHyper, 0.1
    ),
    "mslg": MethodFacts(
        "Meta Soft Label Generation for Noisy Labels, Algan and Ulusoy, ICPR 2020", MSLGHyper, 44 / 120
    ),
    "smp": MethodFacts(
        "Deep Self-Learning From Noisy Labels (self-learning with multi-prototypes), Han et al., ICCV 2019",
        SMPHyper,
        1 / 15,
    ),
}
"""The methods by name, in the order of `emlc methods`."""


def hyper_parameters(method: str, values: Mapping[str, HyperValue] | None) -> Hyper:
    """A method's hyper-parameters, those not given at their published values.

    Raises:
        InputError: lists every name that it does not have, and every value out of range.
    """
    raise_together(list(hyper_problems(method, values)), "the settings")
    return _facts(method).hyper(**(values or {}))


def warm_up_epochs(method: str, epochs: int) -> int:
    """Of so many epochs the method's share if it has any: at least one, and not all."""
    share = _facts(method).warm_up_share
    return min(max(round(share * epochs), 1), epochs - 1) if share else 0


def _facts(method: str) -> MethodFacts:
    """Of a name that is checked elsewhere."""
    return next((facts for name, facts in CATALOGUE.items() if name == method), MethodFacts(""))


def hyper_problems(method: str, values: Mapping[str, HyperValue] | None) -> Iterator[str]:
    """What is wrong with values for a method's hyper-parameters."""
    known = {f.name: f for f in fields(_facts(method).hyper)}
    for name, value in (values or {}).items():
        if name not in known:
            expected = f"expected any of {', '.join(known)}" if known else "it has none of its own"
            yield f"hyper.{name}: no hyper-parameter of {method}; {expected}"
            continue
        default = known[name].default
        if isinstance(default, bool) or isinstance(value, bool):
            if type(value) is not type(default):
                yield f"hyper.{name}: expected {type(default).__name__}, got {value!r}"
            continue
        if isinstance(default, int) and not isinstance(value, int):
            yield f"hyper.{name}: expected an integer, got {value!r}"
            continue
        if not isinstance(value, int | float):
            yield f"hyper.{name}: expected a number, got {value!r}"
            continue
        low, high = known[name].metadata["limits"]
        if not (low <= value <= high and math.isfinite(value)):
            most = "" if high == math.inf else f" and at most {high:g}"
            yield f"hyper.{name}: expected at least {low:g}{most}, got {value}"
