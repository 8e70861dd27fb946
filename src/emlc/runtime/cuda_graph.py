"""Work on a GPU, captured once as a CUDA graph and launched as a whole from then on.

A step of EMLC is some thousands of small kernels, which take longer to launch one by one than to run.
Captured, they are launched by one call, and what does not depend on one another runs side by side. What a
captured step may depend on lives in tensors, at the same addresses every time: batches, weights,
learning rates, the number of the step.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

_CALLS_BEFORE = 3
"""Calls before one is captured, in which libraries choose their kernels and get their memory."""

_Shapes = tuple[object, ...]


class Captured:
    """A function of tensors on a CUDA device, with the same results.

    Inputs of other shapes than those that came first often enough, and functions that cannot be captured,
    go kernel by kernel.

    Args:
        function: Of tensors, to tensors; whatever else it depends on must not change.
        device: Where they are.

    Attributes:
        refusal: Why the function cannot be captured, or None.
    """

    refusal: str | None = None

    def __init__(self, function: Callable[..., Sequence[Tensor]], device: torch.device) -> None:
        self._function = function
        self._device = device
        # Warm-up and capture share a stream, which must not be the default one.
        self._stream = torch.cuda.Stream(device)
        self._calls: Counter[_Shapes] = Counter()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The function of these inputs; the results are the caller's, and no later call changes them."""
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if self._graph is None and self.refusal is None and self._calls[shapes] >= _CALLS_BEFORE:
            self._capture(shapes, inputs)
        if self._graph is not None and shapes == self._shapes:
            torch._foreach_copy_(self._inputs, list(inputs))
            self._graph.replay()
            # The next replay writes its results into the same place.
            return [output.clone() for output in self._outputs]
        self._calls[shapes] += 1
        return self._call(inputs)

    def _call(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        before = torch.cuda.get_rng_state(self._device)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = list(self._function(*inputs))
        current.wait_stream(self._stream)
        for tensor in inputs:
            tensor.record_stream(self._stream)
        for tensor in outputs:
            tensor.record_stream(current)
        if not torch.equal(before, torch.cuda.get_rng_state(self._device)):
            # A look-ahead step replays its dropout masks, and a captured one cannot set the generator back.
            self.refusal = "it draws random numbers"
        return outputs

    def _capture(self, shapes: _Shapes, inputs: Sequence[Tensor]) -> None:
        current = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        self._shapes = shapes
        self._inputs = [x.clone() for x in inputs]
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._outputs = list(self._function(*self._inputs))
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # where the end of the capture fails, torch does not come back
            # It fails because of what went wrong before.
            self.refusal = str(error.__context__ or error).splitlines()[0]
        else:
            self._graph = graph


def captured_map(
    function: Callable[[Tensor, Tensor], Tensor], device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of two tensors to one, by :class:`Captured`."""
    captured = Captured(lambda x, y: [function(x, y)], device)
    return lambda x, y: captured(x, y)[0]


def is_capturing(device: torch.device) -> bool:
    """Whether kernels are being captured, so that no value can be looked at."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class SideStream:
    """Work that the rest of a captured step need not wait for; elsewhere it is work like any other.

    Tensors that cross from one side to the other must live until the step's end: their memory is
    given out again in the order of one side.
    """

    def __init__(self, device: torch.device) -> None:
        self._main = torch.cuda.current_stream(device) if is_capturing(device) else None
        self._side = torch.cuda.Stream(device) if self._main is not None else None
        if self._main is not None and self._side is not None:
            self._side.wait_stream(self._main)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Kernels launched in this block go to the side stream, in their order."""
        # torch.cuda.stream(None) changes nothing either, but asks the driver how many GPUs there are.
        with nullcontext() if self._side is None else torch.cuda.stream(self._side):
            yield

    def join(self) -> None:
        """Let the main stream wait for the side stream."""
        if self._main is not None and self._side is not None:
            self._main.wait_stream(self._side)
