"""How long to train, and by which batches, where the settings leave it to the size of the data."""

import math
from dataclasses import replace

from emlc.config.methods import method_class
from emlc.config.training import MIN_EPOCHS, MOST_NOISY_BATCH, Settings

MIN_STEPS = 300
"""Minimum number of steps: small data get more epochs."""

MAX_EPOCHS = 100
"""Maximum number of epochs for small data."""

_SMALLEST_BATCH = 16
_BATCHES = 10
"""Minimum number of batches per epoch, unless they became smaller than the smallest."""


def fitted(settings: Settings, n: int) -> Settings:
    """Choose ``noisy_batch`` and ``epochs`` for n noisy samples, where they are None.

    A tenth of the samples makes a batch, at least 16 and at most 128; there are 15 epochs, or on small data
    as many as make 300 steps, at most 100. Warm-up epochs that are asked for come in addition, of a method
    whose published form has none.
    """
    if settings.noisy_batch is None:
        batch = min(MOST_NOISY_BATCH, max(_SMALLEST_BATCH, n // _BATCHES))
        settings = replace(settings, noisy_batch=batch)
    if settings.epochs is None:
        epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, epochs_of(MIN_STEPS, n, settings)))
        extra = settings.warm_up if adds_warm_up(settings.method) else 0
        settings = replace(settings, epochs=epochs + extra)
    return settings


def adds_warm_up(method: str) -> bool:
    """Tell whether warm-up epochs of a method come in addition: its published form has none."""
    kind = method_class(method)
    return bool(kind.warms_up and not kind.warm_up_share)


def epochs_of(steps: int, n: int, settings: Settings) -> int:
    """Return how many epochs of n noisy samples make at least this many steps of the teacher."""
    looks_ahead = method_class(settings.method).looks_ahead
    samples_per_step = settings.batch * (settings.look_ahead if looks_ahead else 1)
    return math.ceil(steps * samples_per_step / n)
