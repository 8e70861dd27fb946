"""The entropy of predictions, which methods raise or lower beside their losses."""

from torch import Tensor


def entropy(log_p: Tensor, p: Tensor | None = None) -> Tensor:
    """Compute the mean entropy of predictions, in nats, 0-d.

    Args:
        log_p: (n, C) log-probabilities.
        p: (n, C) their exponentials, where the caller has them already.
    """
    p = log_p.exp() if p is None else p
    return -(p * log_p).sum(dim=1).mean()
