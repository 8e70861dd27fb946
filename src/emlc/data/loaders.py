"""Batches for training: shuffled, augmented, and the same again from any position.

The order of an epoch and the augmentation of a sample are functions of (seed, epoch, sample), not of
a generator's state: a resumed run skips to its position without loading what came before.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from emlc.data.augment import Augment
from emlc.data.samples import Samples


class Batch(NamedTuple):
    """Inputs (n, ...), labels (n,) int64, and the positions (n,) of the samples in their set."""

    inputs: Tensor
    labels: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in self))


_Item = tuple[int, int]
"""(round, position): the how-manieth visit to the sample, and its position in the set."""


class Stream:
    """A labelled set that is visited again and again in a new order.

    Args:
        samples: The set, with labels.
        augment: Augmentation of images, or None.
        batch_size: Samples a batch.
        key: Seed of the run, and a number of this stream's own.
        workers: Loading processes.
    """

    def __init__(
        self, samples: Samples, augment: Augment | None, batch_size: int, key: tuple[int, int], workers: int
    ) -> None:
        self._samples = samples
        self._dataset = _AugmentedSet(samples, augment, key)
        self._batch_size = batch_size
        self._key = key
        self._workers = workers

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one pass, from batch number ``start`` on; the last one may be smaller."""
        order = self._order(epoch)
        batches = [order[i : i + self._batch_size] for i in range(0, len(order), self._batch_size)]
        if len(batches) > 1 and len(batches[-1]) == 1:
            # Batch normalisation cannot train on a single sample.
            batches[-2:] = [np.concatenate(batches[-2:])]
        return self._load([[(epoch, int(i)) for i in batch] for batch in batches[start:]])

    def num_batches(self) -> int:
        """Batches in one pass."""
        full, rest = divmod(len(self._samples), self._batch_size)
        return max(1, full + (rest > 1))

    def cycle(self, start: int = 0) -> Iterator[Batch]:
        """Batches without end, from batch number ``start`` on, all of one size.

        Orders of successive rounds follow one another, so that every sample is visited equally often.
        """
        return self._load(self._endless(start))

    def _endless(self, start: int) -> Iterator[list[_Item]]:
        n = len(self._samples)
        size = min(self._batch_size, n)
        first, skip = divmod(start * size, n)
        items = [(first, int(i)) for i in self._order(first)][skip:]
        next_round = first + 1
        while True:
            while len(items) < size:
                items += [(next_round, int(i)) for i in self._order(next_round)]
                next_round += 1
            yield items[:size]
            items = items[size:]

    def _order(self, round_: int) -> NDArray[np.int64]:
        return np.random.default_rng([*self._key, round_]).permutation(len(self._samples))

    def _load(self, batches: "list[list[_Item]] | Iterator[list[_Item]]") -> Iterator[Batch]:
        if self._workers == 0:
            return (self._dataset.__getitems__(batch) for batch in batches)
        return iter(
            DataLoader(
                self._dataset,
                batch_sampler=batches,
                num_workers=self._workers,
                collate_fn=_as_is,
                # Its seed for the workers must not be drawn from the generator that dropout uses.
                generator=torch.Generator(),
            )
        )


class _AugmentedSet(Dataset[Batch]):
    def __init__(self, samples: Samples, augment: Augment | None, key: tuple[int, int]) -> None:
        assert samples.labels is not None
        self._inputs = samples.inputs
        self._labels = torch.from_numpy(samples.labels)
        self._augment = augment
        self._key = key

    def __getitems__(self, items: list[_Item]) -> Batch:
        positions = torch.tensor([position for _, position in items])
        inputs = self._inputs[positions]
        if self._augment is not None:
            inputs = self._augment(inputs, [(*self._key, *item) for item in items])
        return Batch(inputs, self._labels[positions], positions)


def _as_is(batch: Any) -> Any:
    return batch
