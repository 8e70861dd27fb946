"""Hyper-parameters that belong to a single method; their defaults are the published values.

Hyper-parameters that methods share, such as the learning rate, are settings; those of a single method are
defined in its file. Presets hold the published values of both, with the data they were published for:
``emlc train --preset mw-net-cifar10``.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

HyperValue = bool | int | float
"""Type of a hyper-parameter's value."""


def within(default: Any, low: float = 0.0, high: float = math.inf) -> Any:
    """Define a hyper-parameter by its default and the inclusive range of its values, which are finite."""
    return field(default=default, metadata={"limits": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """The base class of every method's hyper-parameters; methods that have none use it as it is."""


def hyper_problems(method: str, kind: type[Hyper], values: Mapping[str, HyperValue]) -> Iterator[str]:
    """Yield a message for each value that does not fit the hyper-parameters of a method.

    Args:
        method: Name of the method.
        kind: The class of its hyper-parameters.
        values: Values that the user gave, by name.
    """
    known = {f.name: f for f in fields(kind)}
    for name, value in values.items():
        if name not in known:
            expected = f"expected any of {', '.join(known)}" if known else "it has none of its own"
            yield f"hyper.{name}: no hyper-parameter of {method}; {expected}"
            continue
        default = known[name].default
        if isinstance(default, bool) or isinstance(value, bool):
            if type(value) is not type(default):
                yield f"hyper.{name}: expected {type(default).__name__}, got {value!r}"
            continue
        if isinstance(default, int) and not isinstance(value, int):
            yield f"hyper.{name}: expected an integer, got {value!r}"
            continue
        if not isinstance(value, int | float):
            yield f"hyper.{name}: expected a number, got {value!r}"
            continue
        low, high = known[name].metadata["limits"]
        if not (low <= value <= high and math.isfinite(value)):
            most = "" if high == math.inf else f" and at most {high:g}"
            yield f"hyper.{name}: expected at least {low:g}{most}, got {value}"
