"""A method's step, captured as a CUDA graph."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method
from emlc.runtime.cuda_graph import Captured

_log = logging.getLogger(__name__)


class CapturedStep:
    """``method.step`` for batches on a CUDA device; captures it as a CUDA graph where that is possible.

    Attributes:
        refusal: Why the first step that was not captured could not be, or None if all were.
    """

    refusal: str | None = None

    def __init__(self, method: Method, device: torch.device) -> None:
        self._method = method
        self._device = device
        self._kinds: dict[tuple[object, ...], tuple[Captured, list[str]]] = {}

    def __call__(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        """Take a step; return the losses of :meth:`Method.step`."""
        batches = [*noisy, *([] if trusted is None else [trusted])]
        totals = [batch.total for batch in batches]
        kind = (self._method.warming_up, trusted is None, *totals)
        if kind not in self._kinds:
            # Warm-up steps are not needed again once the warm-up is over: drop them to free their memory.
            self._kinds = {k: v for k, v in self._kinds.items() if k[0] == kind[0]}
            self._kinds[kind] = self._capture(totals, trusted is not None)
        step, names = self._kinds[kind]
        losses = step(*(tensor for batch in batches for tensor in batch.tensors))
        if step.refusal is not None and self.refusal is None:
            self.refusal = step.refusal
            _log.warning(f"the step is not captured as a CUDA graph: {step.refusal}")
        return dict(zip(names, losses, strict=True))

    def _capture(self, totals: list[int], has_trusted: bool) -> tuple[Captured, list[str]]:
        """Return the step for batches of these sizes, and the names of its losses once it has run."""
        names: list[str] = []

        def step(*tensors: Tensor) -> list[Tensor]:
            parts = zip(tensors[::3], tensors[1::3], tensors[2::3], totals, strict=True)
            batches = [Batch(*part) for part in parts]
            trusted = batches.pop() if has_trusted else None
            losses = self._method.step(batches, trusted)
            names[:] = losses
            return list(losses.values())

        return Captured(step, self._device), names
