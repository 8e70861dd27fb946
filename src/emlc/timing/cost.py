"""The cost model of a step: forward passes of one network on the noisy batch, counted by hand."""

from collections.abc import Mapping
from typing import Literal

from emlc.timing.cases import Case

Part = Literal["student", "teacher", "trusted gradient", "Jacobian products"]

ERM_PASSES = 3.0
"""Forward passes that a step of plain training (ERM) costs: the forward pass, and 2 for the backward pass."""

JVP_PASSES: Mapping[str, float] = {"finite-difference": 1, "forward": 2, "double-backward": 5}
"""Forward passes that a Jacobian-vector product costs, by engine. Finite differences: one forward pass with
shifted weights. Forward-mode AD: two tangent products for each product of the step, whose inputs were kept.
Double backward: a forward and a backward pass whose graph is kept, and a second backward pass, pruned to the
cotangent."""

EXACT_PASSES = 9.0
"""Forward passes that a Jacobian- and a Hessian-vector product cost together, by either engine: a forward
and a backward pass (3), and twice as much again to differentiate the two factors of every product in them."""


def forward_passes(case: Case, noisy_batch: int, trusted_batch: int) -> dict[Part, float]:
    """Count the forward passes of one network on the n noisy images, per student step and part.

    A backward pass counts as 2, each of the m trusted images as 1/n. Cross-entropy costs 3. EMLC costs

        3 (n + m/k)/n  teacher + 3  student + 3 m/(k n)  trusted gradient + 1, 2, 5 or 9  products.

    MLC, which uses one half of the trusted batch for the meta loss and the other to train on, costs
    ``3 + 3 m/(2 n)`` for the student, ``3 m/(2 n)`` for each of the two trusted gradients (mlc-pruned: for
    its single one), and 2 for the second backward pass through the noisy batch, pruned to the cotangent. Its
    meta-net and EMLC's gate are too small to count.

    Args:
        case: A case of any method but data.
        noisy_batch: Noisy images per student step, n.
        trusted_batch: Trusted images per teacher step, m.

    Returns:
        Forward passes by part; their sum is the cost of a student step.
    """
    ratio = trusted_batch / noisy_batch
    if case.method == "cross-entropy":
        return {"student": ERM_PASSES}
    if case.method in ("mlc", "mlc-pruned"):
        gradients = 2 if case.method == "mlc" else 1
        return {
            "student": 3 + 3 * ratio / 2,
            "trusted gradient": gradients * 3 * ratio / 2,
            "Jacobian products": 2.0,
        }
    assert case.engine is not None
    products = EXACT_PASSES if case.meta_gradient == "exact" else JVP_PASSES[case.engine]
    if case.method in ("emlc-plain", "emlc-authors"):
        products = 3.0  # torch computes the primal again
    return {
        "teacher": 3 * (1 + ratio / case.k),
        "student": 3.0,
        "trusted gradient": 3 * ratio / case.k,
        "Jacobian products": products,
    }
