"""What labelling tools show of a sample: an image as a data URI, a text, or values by their names."""

import base64
from collections.abc import Iterator
from typing import Any

from emlc.data import Samples
from emlc.data.writing.images import browser_image, can_be_copied, original_images, pixel_images


def shown_kind(samples: Samples) -> str:
    """Return what is shown of samples: image, text or values."""
    if samples.pictures is not None:
        return "image"
    return "values" if samples.texts is None else "text"


def iter_values(samples: Samples, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the values of n rows by the names of their columns, as JSON holds them.

    Args:
        samples: Rows of numbers, or of a table.
        names: Names of the numbers; where there are none they are counted from 0.
    """
    if samples.table is not None:
        for row in samples.table.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}
        return
    names = names or tuple(map(str, range(samples.input_shape[0])))
    for k in range(len(samples)):
        yield dict(zip(names, samples.inputs[k].tolist(), strict=True))  # type: ignore[index]


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: dates, decimals and the like as text."""
    return value if value is None or isinstance(value, str | int | float | list) else str(value)


def iter_images(samples: Samples) -> Iterator[tuple[str, bytes]]:
    """Yield MIME type and content of n images as browsers show them: the originals where there are any."""
    for content in original_images(samples) if can_be_copied(samples) else pixel_images(samples):
        yield browser_image(content)


def data_uri(kind: str, content: bytes) -> str:
    """Return an image of a MIME type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
