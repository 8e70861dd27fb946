"""The groups that settings are composed of, and types that several groups share."""

from typing import Any, Literal

Precision = Literal["float32", "bf16-mixed"]
PrecisionSetting = Literal["auto", "float32", "bf16-mixed"]


def groups(kind: type[Any]) -> tuple[Any, ...]:
    """Return the groups of settings, dataclasses that ``kind`` inherits from, in the order of the help."""
    return kind.__bases__[::-1]
