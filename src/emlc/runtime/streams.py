"""Streams of random numbers: one for each thing that is drawn, derived from the seed of a run.

Whatever is drawn at random is a function of a key: the seed, the stream, and the position, such as the epoch
or the step. The length of the key is hashed too, and every number of it takes two words, because numpy pads
what it hashes with zeros: to it, ``[seed, 1]`` and ``[seed, 1, 0]`` are the same stream. Numbers for
whole tensors, one stream per sample, come from :func:`emlc.runtime.keyed.uniforms`, with the same streams.
"""

from enum import IntEnum

import numpy as np
import torch


class RandomStream(IntEnum):
    """The number of each stream, one per thing that is drawn; a change in one leaves the others alone."""

    TEST_SET = 1
    """Which samples are held out for testing."""
    TRUSTED_SET = 2
    """Which samples are trusted, with ``trusted_per_class``."""
    NOISY_SET = 3
    """Which noisy samples are used, with ``noisy_limit``; the same in training and in pretraining."""
    VALIDATION_SET = 4
    """Which trusted samples are held out for validation, with ``validation_fraction``."""
    LABEL_NOISE = 5
    """Which labels are changed, and to which class."""
    INITIAL_WEIGHTS = 6
    """Initial weights of the networks of a training run."""
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
    """Which trusted labels are corrupted for the gate, and to which class."""
    PROTOTYPES = 13
    """From which samples SMP takes the prototypes of a class; position: epoch."""
    LOSS_MIXTURE = 14
    """Initial components of the Gaussian mixture that is fitted to DivideMix's losses."""
    DECISION_SAMPLES = 15
    """On which samples the threshold of issues is calibrated; position: 0 trusted, 1 noisy."""
    PRETRAINING_WEIGHTS = 16
    """Initial weights of the backbone of a pretraining run."""
    PRETRAINING_ORDER = 17
    """The order of the images in a round; position: round."""
    PRETRAINING_VIEWS = 18
    """How the views of an image are augmented; position: view."""
    PRETRAINING_STEP = 19
    """What a step of pretraining draws from torch's generators; position: step, rank."""
    PROBE_SAMPLES = 20
    """On which trusted samples the linear probe is trained and tested."""
    PROBE_FOLDS = 21
    """The cross-validation folds of the linear probe."""
    MAP_SAMPLES = 22
    """Which samples a map of features shows."""
    MAP_COMPONENTS = 23
    """The principal components of a map of features."""
    MAP_LAYOUT = 24
    """The initial positions of t-SNE."""
    SEPARATION_SAMPLES = 25
    """On which samples the silhouette of the classes is measured."""
    EXAMPLE_INPUTS = 26
    """Inputs on which an exported network is compared with the original."""
    TIMING_BATCHES = 27
    """Images and labels of the steps that are timed."""
    TIMING_ORDER = 28
    """The order of the cases within the rounds."""
    TIMING_IMAGES = 29
    """Images whose loading is timed; position: 0 noisy, 1 trusted."""
    LABEL_PROBE_FOLDS = 30
    """The cross-fitting folds of the probe that label issues are judged by."""
    RIVAL_SAMPLES = 31
    """Which noisy samples the simple rivals of a run learn from."""
    RIVAL_FOLDS = 32
    """The cross-fitting folds of the simple rivals of a run."""
    RIVAL_SHUFFLES = 33
    """How labels are shuffled to see what chance would predict."""
    CHECKED_SAMPLES = 34
    """Which samples are drawn to be checked, and their order."""
    FEATURE_ROTATION = 35
    """The rotation of the principal components of features."""
    NEIGHBOUR_SCALE = 36
    """Which pairs of samples tell how far apart samples are."""
    REVIEW_ORDER = 37
    """The random order in which noisy samples are reviewed."""


def generator(seed: int, stream: RandomStream, *position: int) -> np.random.Generator:
    """Return numpy's generator for a stream at a position.

    Args:
        seed: Seed of the run, from 0 to 2**64 - 1.
        stream: What is drawn.
        position: Where in the stream, such as (epoch,); numbers from 0 to 2**64 - 1.
    """
    return np.random.default_rng(_sequence(seed, stream, *position))


def derived_seed(seed: int, stream: RandomStream, *position: int) -> int:
    """Return a seed from 0 to 2**32 - 1 for generators of other libraries, such as scikit-learn's."""
    return int(_sequence(seed, stream, *position).generate_state(1)[0])


def torch_generator(seed: int, stream: RandomStream, *position: int) -> torch.Generator:
    """Return torch's generator, on the CPU, for a stream at a position."""
    return torch.Generator().manual_seed(derived_seed(seed, stream, *position))


def seed_torch(seed: int, stream: RandomStream, *position: int) -> None:
    """Seed torch's default generators on every device."""
    torch.manual_seed(derived_seed(seed, stream, *position))


def _sequence(*key: int) -> np.random.SeedSequence:
    words = [word for number in key for word in divmod(number, 2**32)]
    return np.random.SeedSequence([len(key), *words])
