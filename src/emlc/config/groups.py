"""How settings are composed of groups."""

from typing import Any, Literal

Precision = Literal["float32", "bf16-mixed"]
PrecisionSetting = Literal["auto", "float32", "bf16-mixed"]


def groups(kind: type[Any]) -> tuple[Any, ...]:
    """The groups, dataclasses too, that settings are composed of."""
    return kind.__bases__[::-1]
