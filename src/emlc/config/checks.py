"""What is checked of every kind of settings, field by field; clashes between fields stand with their kind."""

import math
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from emlc.config.data import BUNDLED_TEXT_MODEL

LIMITS: dict[str, tuple[float, float]] = {
    "trusted_per_class": (1, math.inf),
    "image_size": (1, math.inf),
    "resize": (1, math.inf),
    "memory_gib": (0, math.inf),
    "noisy_limit": (1, math.inf),
    "noise_rate": (0, 1),
    "width": (1, math.inf),
    "label_embedding_dim": (1, math.inf),
    "gate_hidden_dim": (1, math.inf),
    "look_ahead": (1, math.inf),
    "meta_weight": (0, math.inf),
    "ce_weight": (0, math.inf),
    "bce_weight": (0, math.inf),
    "warm_up_epochs": (0, math.inf),
    "epochs": (1, math.inf),
    "noisy_batch": (2, math.inf),
    "trusted_batch": (2, math.inf),
    "weight_decay": (0, math.inf),
    "seed": (0, 2**63 - 1),
    "devices": (1, math.inf),
    "workers": (1, math.inf),
    "checkpoint_every": (1, math.inf),
    "batch": (2, math.inf),
    "projection_dim": (1, math.inf),
    "colour_strength": (0, 1),
}


def wrong_types(s: Any) -> Iterator[str]:
    """Values of another type than their field's; what the command line's parser checks already."""
    for name, kind in get_type_hints(type(s)).items():
        if get_origin(kind) is Literal:
            continue
        value = getattr(s, name)
        accepted = {get_origin(k) or k for k in (get_args(kind) or (kind,))}
        if float in accepted:
            accepted.add(int)
        if type(value) not in accepted:
            names = " or ".join(sorted("none" if k is type(None) else k.__name__ for k in accepted))
            yield f"{name}: expected {names}, got {value!r}"


def data_problems(s: Any) -> Iterator[str]:
    """Clashes between settings of the data."""
    for name in ("validation", "test"):
        if getattr(s, name) is not None and getattr(s, f"{name}_fraction") is not None:
            yield f"{name} and {name}_fraction: give one of the two"
    if s.resize is not None and 0 < s.resize < (s.image_size or math.inf):
        yield f"resize: goes with an image_size of at most {s.resize}, got {s.image_size or 'none'}"
    for name in ("feature_columns", "image_column"):
        if s.text_column is not None and getattr(s, name) is not None:
            yield f"text_column and {name}: give one of the two"
    if s.text_model != BUNDLED_TEXT_MODEL and s.text_column is None:
        yield "text_model: embeds the texts of text_column, which is not given"
    if s.human_labels_key is not None and s.human_labels is None:
        yield "human_labels_key: says which labels of the file human_labels, which is not given"
    if s.human_labels is not None and s.true_label_column is not None:
        yield "human_labels and true_label_column: with human labels, the data's own labels are the true ones"


def out_of_range(s: Any) -> Iterator[str]:
    """What is wrong with a field by itself, in settings of either kind."""
    for name, (low, high) in LIMITS.items():
        value = getattr(s, name, None)
        if value is not None and not (low <= value <= high and value < math.inf):
            wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            yield f"{name}: expected {wanted}, got {value}"
    for name in ("learning_rate", "teacher_learning_rate", "temperature"):
        value = getattr(s, name, None)
        if value is not None and not 0 < value < math.inf:
            yield f"{name}: expected more than 0, got {value}"
    if not 0 <= s.momentum < 1:
        yield f"momentum: expected at least 0 and below 1, got {s.momentum}"
    for name in ("validation_fraction", "test_fraction"):
        value = getattr(s, name)
        if value is not None and not 0 < value < 1:
            yield f"{name}: expected between 0 and 1, got {value}"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", s.device):
        yield f"device: expected auto, cpu, cuda or cuda:N, got {s.device!r}"
    for name, kind in get_type_hints(type(s)).items():
        if get_origin(kind) is Literal and getattr(s, name) not in get_args(kind):
            yield f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(s, name)!r}"


def backbone_problems(s: Any) -> Iterator[str]:
    """Names that cannot be those of a network."""
    for name in ("backbone", "teacher_backbone"):
        value = getattr(s, name, None)
        # Whether torchvision has it is found out when it is built: asking takes seconds here.
        if value is not None and not re.fullmatch(r"\w+|[\w.]+:[\w.]+", value):
            yield f"{name}: expected the name of a network or module:factory, got {value!r}"
