"""Checks that settings of training and of pretraining share; each yields one message per problem."""

import codecs
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from PIL import ImageColor

from emlc.config.data import BUNDLED_TEXT_MODEL
from emlc.config.setting import facts_of

_LARGEST = 2**53
"""Largest integer, where a setting has no bound of its own: floats hold all up to it."""


def wrong_types(s: Any) -> Iterator[str]:
    """Yield a message for each value, and item of a list, of another type than its field's.

    The command line's parser checks them, too.
    """
    for name, kind in get_type_hints(type(s)).items():
        if get_origin(kind) is Literal:
            continue
        value, kinds = getattr(s, name), get_args(kind) or (kind,)
        accepted = _accepted({get_origin(k) or k for k in kinds})
        if type(value) not in accepted:
            yield f"{name}: expected {_in_words(accepted)}, got {value!r:.200}"
        elif isinstance(value, list):
            yield from _wrong_items(name, value, next(k for k in kinds if get_origin(k) is list))


def _wrong_items(name: str, values: list[Any], kind: Any) -> Iterator[str]:
    (item,) = get_args(kind)
    accepted = _accepted({str if get_origin(item) is Literal else item})
    for k, value in enumerate(values):
        if type(value) not in accepted:
            yield f"{name}: item {k}: expected {_in_words(accepted)}, got {value!r:.200}"
            return


def _accepted(kinds: set[type]) -> set[type]:
    return kinds | {int} if float in kinds else kinds


def _in_words(kinds: set[type]) -> str:
    return " or ".join(sorted("none" if k is type(None) else k.__name__ for k in kinds))


def data_problems(s: Any) -> Iterator[str]:
    """Yield a message for each clash between settings of the data."""
    for name in ("validation", "test"):
        if getattr(s, name) is not None and getattr(s, f"{name}_fraction") is not None:
            yield f"{name} and {name}_fraction: give one of the two"
    if s.resize is not None and 0 < s.resize < (s.image_size or math.inf):
        yield f"resize: needs an image_size of at most {s.resize}, got {s.image_size or 'none'}"
    for name in ("feature_columns", "image_column"):
        if s.text_column is not None and getattr(s, name) is not None:
            yield f"text_column and {name}: give one of the two"
    yield from _image_problems(s)
    if s.text_model != BUNDLED_TEXT_MODEL and s.text_column is None:
        yield "text_model: needs text_column, which names the column of the texts"
    if s.separator is not None and (s.separator in ('"', "\n", "\r") or _separator_length(s.separator) != 1):
        yield f"separator: expected one character, or tab, got {s.separator!r}"
    if s.encoding is not None and not _is_encoding(s.encoding):
        yield f"encoding: expected the name of an encoding, such as utf-8 or cp1252, got {s.encoding!r}"
    if s.classes is not None and len(set(s.classes)) < max(len(s.classes), 1):
        yield "classes: expected at least one name, and no name twice"
    if s.text_column is not None and s.image_model not in ("auto", "none"):
        yield "text_column and image_model: give one of the two"
    if s.feature_columns is not None and len(set(s.feature_columns)) < max(len(s.feature_columns), 1):
        yield "feature_columns: expected at least one name, and no name twice"
    if s.human_labels_key is not None and s.human_labels is None:
        yield "human_labels_key: needs human_labels, the file with these labels"
    if s.human_labels is not None and s.true_label_column is not None:
        yield "human_labels and true_label_column: with human labels, the data's own labels are the true ones"


def _image_problems(s: Any) -> Iterator[str]:
    try:
        ImageColor.getrgb(s.background or "white")
    except ValueError:
        yield f"background: expected a colour, by name or as #rrggbb, got {s.background!r}"
    limits = s.image_range
    if limits is not None and not (len(limits) == 2 and -math.inf < limits[0] < limits[1] < math.inf):
        yield f"image_range: expected two numbers, the smaller one first, got {limits}"


def _separator_length(separator: str) -> int:
    return 1 if separator in ("tab", "\\t") else len(separator.encode())


def _is_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


def out_of_range(s: Any) -> Iterator[str]:
    """Yield a message for each field whose value is out of its range, or not one of its choices."""
    for name, facts in facts_of(type(s)).items():
        value = getattr(s, name)
        if facts.bounds and value is not None and (expected := facts.expected(value)):
            yield f"{name}: expected {expected}, got {value}"
        elif type(value) is int and math.isinf(facts.at_most) and value > _LARGEST:
            yield f"{name}: expected at most {_LARGEST}, got a larger number"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", s.device):
        yield f"device: expected auto, cpu, cuda or cuda:N, got {s.device!r}"
    for name, kind in get_type_hints(type(s)).items():
        if get_origin(kind) is Literal and getattr(s, name) not in get_args(kind):
            yield f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(s, name)!r}"


def backbone_problems(s: Any) -> Iterator[str]:
    """Yield a message for each backbone whose name cannot be that of a network."""
    for name in ("backbone", "teacher_backbone"):
        value = getattr(s, name, None)
        # Whether torchvision has such a network shows when it is built: importing torchvision takes seconds.
        if value is not None and not re.fullmatch(r"\w+|[\w.]+:[\w.]+", value):
            yield f"{name}: expected the name of a network or module:factory, got {value!r}"
