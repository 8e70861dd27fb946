"""Images as the estimator's X: paths of files, pictures of Pillow, and arrays that differ in size."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from emlc.config import Settings
from emlc.data import Schema
from emlc.data.images.decode import ImageFormat
from emlc.data.images.decode_many import first_header
from emlc.data.images.given import GivenImages, given_images
from emlc.data.images.stored import Inputs, StoredImages, load_images
from emlc.data.sources.image_paths import look_like_image_paths
from emlc.data.sources.source import find_range
from emlc.errors import InputError
from emlc.runs.images import choose_image_model


def images_of(X: Any) -> GivenImages | None:
    """Return the images that X lists, or None if it has arrays of one shape, or a table.

    Raises:
        InputError: X lists images, and a value is none, or a file does not exist.
    """
    values = _listed(X)
    if values is None or not _are_images(values):
        return None
    return given_images(values, "X")


def _listed(X: Any) -> list[Any] | None:
    """Return X as a list if it has one value per sample."""
    if isinstance(X, pd.DataFrame | np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        column: list[Any] = np.asarray(X)[:, 0].tolist()
        return column if look_like_image_paths(column) and any(map(_is_path, column)) else None
    if isinstance(X, pd.Series) or (isinstance(X, np.ndarray) and X.ndim == 1):
        return list(X.tolist())
    return list(X) if isinstance(X, list | tuple) else None


def _are_images(values: list[Any]) -> bool:
    first = next((value for value in values if value is not None and not isinstance(value, float)), None)
    if _is_path(first) or isinstance(first, Image.Image):
        return True
    if not isinstance(first, np.ndarray | torch.Tensor) or first.ndim not in (2, 3):
        return False
    return len({getattr(value, "shape", None) for value in values}) > 1


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def open_images(images: GivenImages, settings: Settings) -> tuple[Inputs, dict[str, Any]]:
    """Open the images of a fit, for an image model or decoded, and return the settings that they decide.

    Raises:
        InputError: The networks are to learn from pixels, and images cannot be read or differ in size.
    """
    rows = np.arange(len(images))
    header = first_header(images, rows)
    side = None if header is None else min(header.height, header.width)
    model, limits = settings.image_model, settings.image_range
    if model == "auto":
        model = choose_image_model(settings, len(images), side)
    if limits is None and (found := find_range(images, rows, images.where)) is not None:
        limits = list(found)
    decided = {"image_model": model, "image_range": limits}
    if model != "none":
        return _stored(images), decided
    return _decoded(images, settings, background=settings.background, limits=limits), decided


def open_like(images: GivenImages, schema: Schema, settings: Settings) -> Inputs:
    """Open further images as those of a fit were.

    Raises:
        InputError: The fit learned from no images; or from pixels, and images cannot be read or have another
            size.
    """
    if not schema.has_images:
        raise InputError("X: expected rows of numbers as in the fit, found images")
    if schema.image_model is not None:
        return _stored(images)
    limits = schema.image_range
    return _decoded(images, settings, schema.input_shape, background=schema.background, limits=limits)


def _stored(images: GivenImages) -> StoredImages:
    header = first_header(images, np.arange(len(images)))
    height, width = (1, 1) if header is None else (header.height, header.width)
    return StoredImages(images, np.arange(len(images)), ImageFormat((3, height, width), any_size=True))


def _decoded(
    images: GivenImages,
    settings: Settings,
    shape: tuple[int, ...] = (),
    *,
    background: str | None,
    limits: Sequence[float] | None,
) -> Inputs:
    sets = {"X": (images, np.arange(len(images)))}
    value_range = None if limits is None else (limits[0], limits[1])
    opened = load_images(sets, settings, shape, background=background, value_range=value_range)
    return opened["X"][0]
