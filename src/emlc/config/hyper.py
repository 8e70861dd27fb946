"""What a method's own hyper-parameters are made of; their defaults are the published values.

What methods share, such as the learning rate, is a setting; what belongs to one alone stands in its file.
Published values of both, for the data they were published for, are presets:
``emlc train --preset mw-net-cifar10``.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

HyperValue = bool | int | float
"""Of a hyper-parameter."""


def within(default: Any, low: float = 0.0, high: float = math.inf) -> Any:
    """A hyper-parameter's default, and the finite range that its values are from."""
    return field(default=default, metadata={"limits": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """Hyper-parameters of a method that has none of its own."""


def hyper_problems(method: str, kind: type[Hyper], values: Mapping[str, HyperValue]) -> Iterator[str]:
    """Say what is wrong with values for a method's hyper-parameters, which are of this kind."""
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
