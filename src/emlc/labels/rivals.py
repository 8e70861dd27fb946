"""The simple rivals of a run: what a linear classifier on the same features makes of the same labels.

- given labels: learns the given labels as they are;
- trusted only: learns the trusted samples and nothing else;
- gold loss correction: learns from both, with the noise that the first one shows on the trusted samples
  (D. Hendrycks et al., 2018; :mod:`emlc.methods.glc` is the method in full).

Either they predict samples that nobody has learned from; or the trusted samples, by cross-fitting: each one
is predicted by a classifier that has not seen it. The penalty is the one with the best likelihood of labels
that were left out. :mod:`emlc.labels.comparison` compares the predictions with those of a run.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from emlc.labels.decision import Floats, Labels
from emlc.runtime.streams import RandomStream, generator

GIVEN, TRUSTED, GOLD = "given labels", "trusted only", "gold loss correction"
"""Names of the rivals."""

_FOLDS = 5
"""Parts of the trusted samples by which the penalty of "trusted only" is chosen."""
_PENALTIES = (1e-1, 1e-2, 1e-3)
"""Penalties of the mean loss of the given labels."""
_TRUSTED_PENALTIES = (1.0, 1e-1, 1e-2, 1e-3)
"""Penalties of the mean loss of the trusted labels, which are fewer."""
_MOST_TRIED = 4_000
"""Maximum number of samples on which the penalty is chosen."""
_STEPS = 50
"""Maximum number of steps of L-BFGS."""

Loss = Callable[[Tensor], Tensor]
"""A mean loss as a function of the logits (n, C)."""


class RivalData(NamedTuple):
    """What the rivals learn from; features are float64, labels are class indices.

    Attributes:
        noisy: (n, d) features of the noisy samples.
        given: (n,) their given labels.
        trusted: (m, d) features of the trusted samples.
        trusted_labels: (m,) their labels.
        num_classes: Number of classes C.
    """

    noisy: Floats
    given: Labels
    trusted: Floats
    trusted_labels: Labels
    num_classes: int


def rival_predictions(
    data: RivalData, held_out: Floats | None = None, parts: Sequence[Labels] = ()
) -> dict[str, Labels]:
    """Fit the rivals, and return the classes that they predict, by the name of the rival.

    Args:
        data: What they learn from.
        held_out: (k, d) features of samples that nobody has learned from; None: the trusted samples are
            predicted, by cross-fitting.
        parts: The parts of the trusted samples for cross-fitting, each one left out in turn: see
            :func:`folds`. Not used with held-out samples.

    Returns:
        (k,) or (m,) class indices for each rival.
    """
    X, X_trusted, X_out = _standardized(data.noisy, data.trusted, held_out)
    given, y, C = torch.from_numpy(data.given), torch.from_numpy(data.trusted_labels), data.num_classes
    f = fit_linear(X, _fits(given), C, _best_penalty(X, given, C))

    def trusted(rows: Tensor) -> Tensor:
        inner = [torch.from_numpy(part) for part in folds(y[rows].numpy(), _FOLDS, seed=0)]
        least = _best_trusted_penalty(X_trusted[rows], y[rows], C, inner)
        return fit_linear(X_trusted[rows], _fits(y[rows]), C, least)

    def gold(rows: Tensor) -> Tensor:
        T = _transition(f, X_trusted[rows], y[rows], C)
        both = torch.cat([X, X_trusted[rows]])
        least = _best_penalty(X, given, C, T)
        return fit_linear(both, _gold_loss(given, y[rows], T), C, least, start=f)

    def predicted(fit: Callable[[Tensor], Tensor]) -> Labels:
        if X_out is not None:
            logits = _logits(fit(torch.arange(len(y))), X_out)
        else:
            logits = _cross_fitted(fit, X_trusted, C, [torch.from_numpy(part) for part in parts])
        return logits.argmax(dim=1).numpy()

    return {GIVEN: predicted(lambda rows: f), TRUSTED: predicted(trusted), GOLD: predicted(gold)}


def folds(labels: Labels, k: int, seed: int) -> list[Labels]:
    """Divide samples with labels (n,) into k parts that have the classes in like shares, as far as possible.

    Returns:
        The sorted indices of each part.
    """
    shuffled = generator(seed, RandomStream.RIVAL_FOLDS).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    k = min(k, len(labels))
    return [np.sort(by_class[part::k]) for part in range(k)]


def fit_linear(
    X: Tensor, loss: Loss, num_classes: int, penalty: float, start: Tensor | None = None
) -> Tensor:
    """Fit a linear classifier by L-BFGS, and return its weights (d + 1, C); the last row is the bias.

    Args:
        X: (n, d) features.
        loss: Mean loss, as a function of the logits (n, C).
        num_classes: C.
        penalty: Weight of half the sum of the squared weights, without the bias.
        start: Where to start; by default at zero.
    """
    W = torch.zeros(X.shape[1] + 1, num_classes) if start is None else start.clone()
    W.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [W], max_iter=_STEPS, tolerance_grad=1e-4, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        total = loss(_logits(W, X)) + penalty / 2 * W[:-1].square().sum()
        total.backward()
        return float(total.detach())

    optimizer.step(closure)
    return W.detach()


def _logits(W: Tensor, X: Tensor) -> Tensor:
    return torch.addmm(W[-1], X, W[:-1])


def _fits(labels: Tensor) -> Loss:
    return lambda logits: cross_entropy(logits, labels)


def _given_loss(labels: Tensor, T: Tensor | None) -> Loss:
    """Mean loss of given labels (n,), by which T (C, C) the true ones become them; None: as they are."""
    if T is None:
        return _fits(labels)
    log_T = T.clamp_min(1e-12).log().T[labels]
    return lambda logits: -(log_softmax(logits, dim=1) + log_T).logsumexp(dim=1).mean()


def _gold_loss(given: Tensor, trusted: Tensor, T: Tensor) -> Loss:
    """Mean loss of n noisy samples by T (C, C), and of m trusted ones after them."""
    n, noisy = len(given), _given_loss(given, T)

    def loss(logits: Tensor) -> Tensor:
        total = n * noisy(logits[:n]) + cross_entropy(logits[n:], trusted, reduction="sum")
        return total / len(logits)

    return loss


def _transition(W: Tensor, X: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean prediction of given labels for each class of trusted samples; identity for absent classes."""
    p, T = _logits(W, X).softmax(dim=1), torch.eye(num_classes)
    for c in labels.unique().tolist():
        T[c] = p[labels == c].mean(dim=0)
    return T


def _best_penalty(X: Tensor, labels: Tensor, C: int, T: Tensor | None = None) -> float:
    """Choose the penalty by given labels that were left out: a quarter of a few thousand samples."""
    is_left_out = torch.arange(min(len(X), _MOST_TRIED)) % 4 == 0
    X, labels = X[: len(is_left_out)], labels[: len(is_left_out)]

    def loss(penalty: float) -> float:
        W = fit_linear(X[~is_left_out], _given_loss(labels[~is_left_out], T), C, penalty)
        return float(_given_loss(labels[is_left_out], T)(_logits(W, X[is_left_out])))

    return min(_PENALTIES, key=loss) if len(X) > 1 else _PENALTIES[0]


def _best_trusted_penalty(X: Tensor, labels: Tensor, C: int, parts: Sequence[Tensor]) -> float:
    def loss(penalty: float) -> float:
        def fit(rows: Tensor) -> Tensor:
            return fit_linear(X[rows], _fits(labels[rows]), C, penalty)

        return float(cross_entropy(_cross_fitted(fit, X, C, parts), labels))

    return min(_TRUSTED_PENALTIES, key=loss)


def _cross_fitted(fit: Callable[[Tensor], Tensor], X: Tensor, C: int, parts: Sequence[Tensor]) -> Tensor:
    """Predict logits (m, C) of each sample by a classifier that has not seen its part."""
    logits = torch.zeros(len(X), C)
    for part in parts:
        rest = torch.ones(len(X), dtype=torch.bool)
        rest[part] = False
        logits[part] = _logits(fit(rest.nonzero()[:, 0]), X[part])
    return logits


def _standardized(
    noisy: Floats, trusted: Floats, held_out: Floats | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    mean, std = noisy.mean(axis=0), noisy.std(axis=0)
    scale = np.where(std > 0, std, 1.0)

    def scaled(X: Floats) -> Tensor:
        return torch.from_numpy(((X - mean) / scale).astype(np.float32))

    return scaled(noisy), scaled(trusted), None if held_out is None else scaled(held_out)
