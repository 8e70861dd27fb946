"""Work on a GPU, captured once as a CUDA graph and launched as a whole from then on.

A step of EMLC launches some thousands of small kernels, which take longer to launch one by one than to run.
Once captured, they are launched by one call, and kernels that do not depend on each other run side by side.
Everything that changes from step to step lives in tensors, at the same addresses every time: batches,
weights, learning rates, the number of the step.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

_WARM_UP_CALLS = 3
"""Number of calls before the capture, in which libraries choose their kernels and allocate their memory."""

_Shapes = tuple[object, ...]


class Captured:
    """A function of tensors that is captured after a few calls; results are the same with and without.

    It is captured for the first shapes of inputs that have come often enough. Inputs of other shapes, and
    functions that cannot be captured, run kernel by kernel.

    Args:
        function: Maps tensors to tensors; whatever else it depends on must not change.
        device: The CUDA device of the tensors.

    Attributes:
        refusal: Why the function cannot be captured; None where nothing speaks against it yet.
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
        """Return the function's outputs for these inputs; later calls do not change them."""
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if self._graph is None and self.refusal is None and self._calls[shapes] >= _WARM_UP_CALLS:
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
            # A look-ahead step is replayed with the same dropout masks; a graph cannot reset the generator.
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
            torch.cuda.set_stream(current)  # torch does not restore it where the end of the capture fails
            # The end of the capture fails because of an earlier error, which is the reason to report.
            self.refusal = str(error.__context__ or error).splitlines()[0]
        else:
            self._graph = graph


def captured_map(
    function: Callable[[Tensor, Tensor], Tensor], device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of two tensors to one that is captured as by :class:`Captured`."""
    captured = Captured(lambda x, y: [function(x, y)], device)
    return lambda x, y: captured(x, y)[0]


def is_capturing(device: torch.device) -> bool:
    """Return whether kernels are being captured, so that no value of a tensor can be read."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class SideStream:
    """A CUDA stream for work that the rest of a captured step need not wait for.

    Where nothing is being captured, the work runs on the current stream like any other. Tensors that are
    used on both streams must live until the end of the step: the allocator reuses their memory in the order
    of one stream only.
    """

    def __init__(self, device: torch.device) -> None:
        self._main = torch.cuda.current_stream(device) if is_capturing(device) else None
        self._side = torch.cuda.Stream(device) if self._main is not None else None
        if self._main is not None and self._side is not None:
            self._side.wait_stream(self._main)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Launch the kernels of this block on the side stream, in their order."""
        # torch.cuda.stream(None) changes nothing either, but asks the driver how many GPUs there are.
        with nullcontext() if self._side is None else torch.cuda.stream(self._side):
            yield

    def join(self) -> None:
        """Let the main stream wait for the side stream."""
        if self._main is not None and self._side is not None:
            self._main.wait_stream(self._side)
