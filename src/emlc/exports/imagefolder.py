"""Export the corrected data set as torchvision's ImageFolder: images in one sub-folder per class."""

import io
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS

from emlc.data import Samples
from emlc.data.images.formats import for_display, readable_formats
from emlc.data.sources.folders import SPLIT_NAMES
from emlc.data.writing.images import pixel_images
from emlc.errors import InputError
from emlc.exports.corrected import Corrected
from emlc.exports.names import safe_names
from emlc.runs.run import Run
from emlc.runtime.files import atomic_folder, check_free, write_csv
from emlc.runtime.progress import tracked

_TABLES = ("classes.csv", "files.csv")


def export_image_folder(run: Run, output: Path, *, link: bool = False) -> str:
    """Write each noisy image into the folder of its corrected label, trusted images into that of their label.

    Image files are copied; of images without files, the pixels that the run learned from are written as PNG.
    Folders and files are named like classes and image files as far as that is safe; ``classes.csv`` and
    ``files.csv`` say which is which.

    Args:
        run: The run.
        output: A new or empty folder.
        link: Make symbolic links to the image files instead of copies.

    Raises:
        InputError: If the samples are not images, an image is gone, or ``link`` is set for images without
            files.
    """
    check_free(output)
    if not run.schema.has_images:
        raise InputError("imagefolder: the samples are not images")
    corrected = Corrected.of(run)
    parts = [corrected.noisy, corrected.trusted]
    if link and any(part.files is None for part in parts):
        raise InputError("link: the images are not files of their own, and cannot be linked to")
    folders = _class_folders(run.schema.classes)
    files = _files(corrected, folders)
    with atomic_folder(output) as temporary:
        for folder in sorted({path.split("/")[0] for path in files["path"]}):
            (temporary / folder).mkdir()
        images = tracked(_sources(parts), "Writing the images", len(files))
        for path, image in zip(files["path"], images, strict=True):
            _write(temporary / path, image, link)
        counts = files["label"].value_counts()
        classes = pd.DataFrame({"folder": folders.values(), "class": folders.keys()})
        write_csv(temporary / _TABLES[0], classes.assign(images=[int(counts.get(c, 0)) for c in folders]))
        write_csv(temporary / _TABLES[1], files)
    return f"{len(files):,} images in {files['label'].nunique()} folders"


def _class_folders(classes: tuple[str, ...]) -> dict[str, str]:
    names = safe_names(classes, reserved=_TABLES)
    if set(names) <= SPLIT_NAMES:  # which would be taken for training and test sets
        names = [f"class-{name}" for name in names]
    return dict(zip(classes, names, strict=True))


def _files(corrected: Corrected, folders: dict[str, str]) -> pd.DataFrame:
    """Return path, id, label, given_label and trusted of every image, in the order of the samples."""
    noisy, trusted, labels = corrected.noisy, corrected.trusted, corrected.labels
    n, m = len(noisy), len(trusted)
    table = pd.DataFrame(
        {
            "path": "",
            "id": [*noisy.ids, *trusted.ids],
            "label": [*labels["corrected_label"], *corrected.trusted_labels],
            "given_label": [*labels["given_label"], *corrected.trusted_labels],
            "trusted": [False] * n + [True] * m,
        }
    )
    names = [name for part in (noisy, trusted) for name in _names(part)]
    in_folder: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(table["label"]):
        in_folder[folders[label]].append(row)
    for folder, rows in in_folder.items():
        stems, endings = zip(*(names[row] for row in rows), strict=True)
        safe = safe_names(stems, endings)
        table.loc[rows, "path"] = [f"{folder}/{name}" for name in safe]
    return table


def _names(samples: Samples) -> Iterator[tuple[str, str]]:
    """Yield the stem and the ending of each image's name."""
    if samples.files is None:
        yield from ((sample_id.removesuffix(".png"), ".png") for sample_id in samples.ids)
        return
    for file in samples.files.to_pylist():
        stem, ending = os.path.splitext(os.path.basename(file))
        # Files whose ending torchvision does not recognise are written as PNG.
        yield stem, ending if ending.lower() in IMG_EXTENSIONS else ".png"


def _sources(parts: list[Samples]) -> Iterator[Path | bytes]:
    for part in parts:
        yield from pixel_images(part) if part.files is None else map(Path, part.files.to_pylist())


def _write(path: Path, image: Path | bytes, link: bool) -> None:
    if isinstance(image, bytes):
        path.write_bytes(image)
        return
    same_format = image.suffix.lower() == path.suffix.lower()
    try:
        with image.open("rb") as file:
            content = None if same_format else _as_png(file)
    except OSError as error:
        raise InputError(f"{image}: cannot be read: {error}") from error
    # From here on an OSError is about the output.
    if content is not None:
        path.write_bytes(content)
    elif link:
        path.symlink_to(image)
    else:
        shutil.copyfile(image, path)


def _as_png(file: BinaryIO) -> bytes:
    out = io.BytesIO()
    with Image.open(file, formats=readable_formats()) as opened:
        picture = ImageOps.exif_transpose(opened)
        (picture if picture.mode in ("L", "RGB", "RGBA") else for_display(picture).convert("RGB")).save(
            out, "PNG"
        )
    return out.getvalue()
