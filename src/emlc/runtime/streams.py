"""Streams of random numbers: one for each thing that is drawn, found from the seed of a run.

Whatever is drawn at random is a function of a key: the seed, the stream, and the position, such as the epoch
or the step. The key's length is part of what is hashed, and every number of it takes the same room, as
numpy pads what it hashes with zeros: it makes one stream of ``[seed, 1]`` and ``[seed, 1, 0]``. Numbers for
whole tensors, one stream per sample, come from :func:`emlc.runtime.keyed.uniforms`, with the same streams.
"""

from enum import IntEnum

import numpy as np
import torch


class RandomStream(IntEnum):
    """What is drawn; a change in one draw leaves the others alone."""

    TEST_SET = 1
    """Which samples are held out for testing."""
    TRUSTED_SET = 2
    """Which samples are trusted, with ``trusted_per_class``."""
    NOISY_SET = 3
    """Which samples are learned from, with ``noisy_limit``; in training and in pretraining the same."""
    VALIDATION_SET = 4
    """Which trusted samples choose the epoch, with ``validation_fraction``."""
    LABEL_NOISE = 5
    """Which labels are made wrong, and which class they get."""
    INITIAL_WEIGHTS = 6
    """Of the networks of a training run."""
    NOISY_ORDER = 7
    """The order of the noisy samples in an epoch; position: epoch."""
    TRUSTED_ORDER = 8
    """The order of the trusted samples in a round; position: round."""
    NOISY_AUGMENTATION = 9
    """How noisy samples are augmented."""
    TRUSTED_AUGMENTATION = 10
    """How trusted samples are augmented."""
    TRAINING_STEP = 11
    """What a step draws from torch's generators: dropout, mixup, fake labels; position: step, rank."""
    CORRUPTION = 12
    """Which trusted labels are corrupted for the gate, and which class they get."""
    PROTOTYPES = 13
    """From which samples SMP takes the prototypes of a class; position: epoch."""
    LOSS_MIXTURE = 14
    """Where the mixture of Gaussians over DivideMix's losses starts."""
    DECISION_SAMPLES = 15
    """On which samples the threshold of issues is calibrated; position: 0 trusted, 1 noisy."""
    PRETRAINING_WEIGHTS = 16
    """Of the backbone of a pretraining run."""
    PRETRAINING_ORDER = 17
    """The order of the images in a round; position: round."""
    PRETRAINING_VIEWS = 18
    """How the views of an image are made; position: view."""
    PRETRAINING_STEP = 19
    """What a step of pretraining draws from torch's generators; position: step, rank."""
    PROBE_SAMPLES = 20
    """On which trusted samples features are probed."""
    PROBE_FOLDS = 21
    """The folds of the linear probe."""
    MAP_SAMPLES = 22
    """Which samples a map of features shows."""
    MAP_COMPONENTS = 23
    """The principal components of a map of features."""
    MAP_LAYOUT = 24
    """Where t-SNE starts."""
    SEPARATION_SAMPLES = 25
    """On which samples the silhouette of the classes is measured."""
    EXAMPLE_INPUTS = 26
    """Inputs on which an exported network is compared with the original."""
    TIMING_BATCHES = 27
    """Images and labels of the steps that are timed."""
    TIMING_ORDER = 28
    """The order of the cases within the rounds."""
    TIMING_IMAGES = 29
    """Images that are loaded where loading is timed; position: 0 noisy, 1 trusted."""


def generator(seed: int, stream: RandomStream, *position: int) -> np.random.Generator:
    """The numbers of a stream at a position.

    Args:
        seed: Of the run, from 0 to 2**64 - 1; like the numbers of the position.
        stream: What is drawn.
        position: Where in the stream, such as (epoch,).
    """
    return np.random.default_rng(_sequence(seed, stream, *position))


def derived_seed(seed: int, stream: RandomStream, *position: int) -> int:
    """A seed from 0 to 2**32 - 1 for the generators of others, such as scikit-learn's."""
    return int(_sequence(seed, stream, *position).generate_state(1)[0])


def torch_generator(seed: int, stream: RandomStream, *position: int) -> torch.Generator:
    """A generator of torch's on the CPU."""
    return torch.Generator().manual_seed(derived_seed(seed, stream, *position))


def seed_torch(seed: int, stream: RandomStream, *position: int) -> None:
    """Seed the generators that torch draws from by default, on every device."""
    torch.manual_seed(derived_seed(seed, stream, *position))


def _sequence(*key: int) -> np.random.SeedSequence:
    words = [word for number in key for word in divmod(number, 2**32)]
    return np.random.SeedSequence([len(key), *words])
