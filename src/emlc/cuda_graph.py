"""A training step, recorded once as a CUDA graph and replayed from then on.

A step of EMLC is some thousands of small kernels, which take longer to launch one by one than to run.
Recorded, they are launched by one call. What a recorded step may depend on lives in tensors, at the
same addresses every time: batches, weights, learning rates, the number of the step.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from emlc.data.loaders import Batch

_EAGER_STEPS = 3
"""Steps taken before one is recorded, in which libraries choose their kernels and get their memory."""


class Recordable(Protocol):
    """What can be recorded: :class:`emlc.methods.base.Method` is."""

    notes: list[str]

    @property
    def warming_up(self) -> bool: ...
    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> dict[str, Tensor]: ...


_Shapes = tuple[object, ...]


class CapturedStep:
    """``method.step`` for batches on a CUDA device, with the same results.

    Batches of other shapes than the most frequent, such as the last ones of an epoch, and networks that
    cannot be recorded take their steps kernel by kernel.
    """

    def __init__(self, method: Recordable, device: torch.device) -> None:
        self._method = method
        self._device = device
        # Warm-up and recording share a stream, which must not be the default one.
        self._stream = torch.cuda.Stream(device)
        self._eager_steps: Counter[_Shapes] = Counter()
        self._recording: _Recording | None = None
        self._refused = False

    def __call__(self, noisy: Sequence[Batch], trusted: Batch | None) -> dict[str, Tensor]:
        """Take a step; the losses are those of :meth:`Method.step`, and stay as they are."""
        shapes = (self._method.warming_up, *map(_shape, noisy), _shape(trusted))
        if self._recording is None and not self._refused and self._eager_steps[shapes] >= _EAGER_STEPS:
            self._record(shapes, noisy, trusted)
        if self._recording is not None and self._recording.shapes == shapes:
            return self._recording.replay(noisy, trusted)
        self._eager_steps[shapes] += 1
        return self._eagerly(noisy, trusted)

    def _eagerly(self, noisy: Sequence[Batch], trusted: Batch | None) -> dict[str, Tensor]:
        before = torch.cuda.get_rng_state(self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            losses = self._method.step(noisy, trusted)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        if not self._refused and not torch.equal(before, torch.cuda.get_rng_state(self._device)):
            # A look-ahead step replays its dropout masks, and a recording cannot set the generator back.
            self._refuse("it draws random numbers")
        return losses

    def _record(self, shapes: _Shapes, noisy: Sequence[Batch], trusted: Batch | None) -> None:
        try:
            self._recording = _Recording(self._method, shapes, noisy, trusted, self._stream)
        except RuntimeError as error:
            self._refuse(str(error).splitlines()[0])

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self._method.notes.append(f"the step is not recorded as a CUDA graph: {reason}")


class _Recording:
    """The graph, the batches that it reads, and the losses that it writes."""

    def __init__(
        self,
        method: Recordable,
        shapes: _Shapes,
        noisy: Sequence[Batch],
        trusted: Batch | None,
        stream: torch.cuda.Stream,
    ) -> None:
        self.shapes = shapes
        self._noisy = [_copy(batch) for batch in noisy]
        self._trusted = None if trusted is None else _copy(trusted)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._losses = method.step(self._noisy, self._trusted)

    def replay(self, noisy: Sequence[Batch], trusted: Batch | None) -> dict[str, Tensor]:
        for there, here in zip(self._noisy, noisy, strict=True):
            _fill(there, here)
        if trusted is not None and self._trusted is not None:
            _fill(self._trusted, trusted)
        self._graph.replay()
        # The next replay writes its losses into the same place.
        return {name: loss.clone() for name, loss in self._losses.items()}


def _shape(batch: Batch | None) -> tuple[object, ...] | None:
    return None if batch is None else (batch.inputs.shape, batch.inputs.dtype, batch.total)


def _copy(batch: Batch) -> Batch:
    return Batch(batch.inputs.clone(), batch.labels.clone(), batch.positions.clone(), batch.total)


def _fill(there: Batch, here: Batch) -> None:
    there.inputs.copy_(here.inputs)
    there.labels.copy_(here.labels)
    there.positions.copy_(here.positions)
