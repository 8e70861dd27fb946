"""The model of a step's cost: forward passes of one network on the noisy batch, counted by hand."""

from collections.abc import Mapping
from typing import Literal

from emlc.timing.cases import Case

Part = Literal["student", "teacher", "trusted gradient", "Jacobian products"]

ERM_PASSES = 3.0
"""A forward pass, and a backward pass at twice its cost."""

JVP_PASSES: Mapping[str, float] = {"finite-difference": 1, "forward": 2, "double-backward": 5}
"""Of a Jacobian-vector product: a forward pass with the weights moved; two tangent products for each
product of the step, which was kept; or a forward and a backward pass whose graph is kept, and the second
backward pass pruned to the cotangent."""

EXACT_PASSES = 9.0
"""Of a Jacobian- and a Hessian-vector product together, by either engine: the forward and the backward pass
(3), and twice as much again for the derivative of every product in them, which has two factors."""


def forward_passes(case: Case, noisy_batch: int, trusted_batch: int) -> dict[Part, float]:
    """Forward passes of one network on the n noisy images, per student step, part by part.

    A backward pass counts 2, an image of the m trusted ones 1/n. Cross-entropy is 3. EMLC is

        3 (n + m/k)/n  teacher + 3  student + 3 m/(k n)  trusted gradient + 1, 2, 5 or 9  products.

    MLC, whose halves of the trusted batch judge and train, is ``3 + 3 m/(2 n)`` for the student,
    ``3 m/(2 n)`` for each of the two trusted gradients (mlc-pruned: for the one), and 2 for the second
    backward pass through the noisy batch, pruned to the cotangent. Its meta-net, and EMLC's gate, count
    nothing.

    Args:
        case: Of any method but data.
        noisy_batch: n.
        trusted_batch: m.
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
    if case.method == "emlc-plain":
        products = 3.0  # the primal is computed again
    return {
        "teacher": 3 * (1 + ratio / case.k),
        "student": 3.0,
        "trusted gradient": 3 * ratio / case.k,
        "Jacobian products": products,
    }
