"""Batches for training: shuffled, augmented on the device, and reproducible from any position.

The order of an epoch and the augmentation of a sample are functions of (seed, epoch, sample), not of
a generator's state: a resumed run skips to its position without loading what came before, and neither
the number of workers nor that of ranks changes what a sample looks like.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emlc.data.images.stored import Inputs
from emlc.data.samples import Samples
from emlc.runtime.distributed import Ranks
from emlc.runtime.streams import RandomStream, generator

_AHEAD = 2
"""Number of batches of stored images that are decoded ahead of the training step."""

_DEVICE_SHARE = 0.5
"""Largest share of the free GPU memory that a set may take to be kept there."""


class Batch(NamedTuple):
    """This rank's share of a batch.

    Attributes:
        inputs: (n, ...) on the rank's device; with v views per sample (v n, ...), one view after another.
        labels: (n,) int64, given labels.
        positions: (n,) int64, positions of the samples in their set.
        total: Number of samples in the joint batch, over all ranks.
    """

    inputs: Tensor
    labels: Tensor
    positions: Tensor
    total: int

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels and positions."""
        return self.inputs, self.labels, self.positions

    @property
    def views(self) -> tuple[Tensor, ...]:
        """The inputs view by view, each (n, ...)."""
        views: tuple[Tensor, ...] = self.inputs.split(len(self.labels))
        return views


_Visits = NDArray[np.int64]
"""(n, 2) int64: the round in which a sample is visited, counted from 0, and its position in the set."""


class Stream:
    """A labelled set that is visited repeatedly, each time in a new order.

    Args:
        samples: The set, with labels.
        augments: One callable per view of a sample, such as
            :class:`~emlc.data.augment.augment.Augment`, which changes inputs (n, ...) given one number
            per visit, (n,) int64. None leaves the inputs as they are.
        batch_size: Samples per joint batch, over all ranks.
        key: Seed of the run, and the random stream of the order.
        ranks: The processes that share each batch.
        workers: Number of threads that decode images which are not held in memory.
        group: Number of samples with the same label that are visited one after the other.
    """

    def __init__(
        self,
        samples: Samples,
        augments: Sequence[Callable[[Tensor, Tensor], Tensor] | None],
        batch_size: int,
        key: tuple[int, RandomStream],
        ranks: Ranks,
        workers: int,
        *,
        group: int = 1,
    ) -> None:
        self._inputs = _on_device(samples.inputs, ranks.device)
        self._on_device = isinstance(self._inputs, Tensor) and self._inputs.device.type == "cuda"
        self._given, self._group = samples.given, group
        self._labels = torch.from_numpy(samples.given).to(ranks.device)
        self._augments = augments
        self._batch_size = batch_size
        self._key = key
        self._ranks = ranks
        self._workers = workers

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one pass, from batch number ``start`` on.

        Only the last one may differ in size: see :func:`batches_in`.
        """
        order = self._order(epoch)
        ends = [(k + 1) * self._batch_size for k in range(self.num_batches() - 1)]
        batches = np.split(np.stack([np.full_like(order, epoch), order], axis=1), ends)
        return self._load(batches[start:])

    def num_batches(self) -> int:
        """Return the number of batches in one pass."""
        return batches_in(len(self._labels), self._batch_size, self._ranks)

    def cycle(self, start: int = 0) -> Iterator[Batch]:
        """Return batches without end, from batch number ``start`` on, all of the same size.

        The orders of successive rounds follow one another, so that every sample is visited equally often.
        """
        return self._load(self._endless(start))

    def _endless(self, start: int) -> Iterator[_Visits]:
        n = len(self._labels)
        size = min(self._batch_size, n)
        first, skip = divmod(start * size, n)
        visits = np.empty((0, 2), np.int64)
        for round_ in range(first, np.iinfo(np.int64).max):
            order = self._order(round_)[skip:]
            visits = np.concatenate([visits, np.stack([np.full_like(order, round_), order], axis=1)])
            skip = 0
            while len(visits) >= size:
                yield visits[:size]
                visits = visits[size:]

    def _order(self, round_: int) -> NDArray[np.int64]:
        rng = generator(*self._key, round_)
        order = rng.permutation(len(self._labels))
        return order if self._group == 1 else grouped(order, self._given, self._group, rng)

    def _load(self, batches: Iterable[_Visits]) -> Iterator[Batch]:
        shares: deque[tuple[Tensor, int]] = deque()

        def rows() -> Iterator[Tensor]:
            for visits in batches:
                share = torch.from_numpy(visits[self._ranks.shard(len(visits))].T.copy())
                if self._on_device:
                    share = _to_device(share, self._ranks.device)
                shares.append((share, len(visits)))
                yield share[1]

        def batches_on_device() -> Iterator[Batch]:
            for inputs in read_ahead(self._inputs, rows(), self._workers):
                share, total = shares.popleft()
                yield self._batch(inputs, share, total)

        return _prefetched(batches_on_device(), self._ranks.device)

    def _batch(self, inputs: Tensor, share: Tensor, total: int) -> Batch:
        """Augment inputs (n, ...), whose rounds and positions are ``share`` (2, n), on the device."""
        rounds, positions = _to_device(share, self._ranks.device)
        inputs = _to_device(inputs, self._ranks.device)
        # The first view of a visit is the same however many there are.
        items = [(rounds + view * 2**28) * 2**32 + positions for view in range(len(self._augments))]
        views = [
            inputs if augment is None else augment(inputs, item)
            for augment, item in zip(self._augments, items, strict=True)
        ]
        inputs = views[0] if len(views) == 1 else torch.cat(views)
        return Batch(inputs, self._labels[positions], positions, total)


def grouped(
    order: NDArray[np.int64], labels: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Reorder samples (n,) into groups that have one label each, the groups in random order.

    Args:
        order: (n,) int64, positions of the samples, in random order.
        labels: The labels, by position.
        size: Samples per group; the last group of a label may have fewer, and these groups come last.
        rng: Draws the order of the groups.
    """
    by_label = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.bincount(labels))
    parts = np.split(by_label, ends[:-1])
    groups = [group for part in parts for group in np.split(part, range(size, len(part), size))]
    full = [group for group in groups if len(group) == size]
    rest = [group for group in groups if 0 < len(group) < size]
    shuffled = [part[k] for part in (full, rest) for k in rng.permutation(len(part))]
    return np.concatenate(shuffled)


def batches_in(samples: int, batch_size: int, ranks: Ranks) -> int:
    """Return the number of batches in one pass over a number of samples.

    The last batch has the remainder; one that is too small joins the batch before it.
    """
    full, rest = divmod(samples, batch_size)
    # Batch normalisation cannot train on a single sample, nor a rank on none.
    return max(1, full + (rest >= max(2, ranks.size)))


def read_ahead(inputs: Inputs, batches: Iterable[Tensor], workers: int) -> Iterator[Tensor]:
    """Yield the inputs (n, ...) of each batch of rows (n,), in order.

    Stored images are decoded some batches ahead, each batch by several threads.
    """
    if isinstance(inputs, Tensor):
        yield from (inputs.index_select(0, rows) for rows in batches)  # a quarter of the time of inputs[rows]
        return
    with ThreadPoolExecutor(1) as reader:
        pending: deque[Future[Tensor]] = deque()
        try:
            for rows in batches:
                pending.append(reader.submit(inputs.read, rows, workers))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            reader.shutdown(wait=True, cancel_futures=True)


def _on_device(inputs: Inputs, device: torch.device) -> Inputs:
    if not isinstance(inputs, Tensor) or device.type != "cuda":
        return inputs
    free, _ = torch.cuda.mem_get_info(device)
    return inputs.to(device) if inputs.nbytes <= _DEVICE_SHARE * free else inputs


def _prefetched(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches; on a GPU each is prepared on a side stream during the step before it."""
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)

    def prepare() -> Batch | None:
        with torch.cuda.stream(stream):
            return next(batches, None)

    batch = prepare()
    while batch is not None:
        training = torch.cuda.current_stream(device)
        training.wait_stream(stream)
        for tensor in batch.tensors:
            tensor.record_stream(training)
        following = prepare()
        yield batch
        batch = following


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to the device, without waiting for the work that is in progress there."""
    if device.type != "cuda" or values.device.type == "cuda":
        return values
    return values.pin_memory().to(device, non_blocking=True)
