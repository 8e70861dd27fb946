"""Draw photos of products in a shop, some of them in the folder of another product.

``python -m examples.photos FOLDER`` makes three folders in FOLDER, each with one sub-folder per class:
``photos``, 600 images of which 30 % are in a wrong folder; ``checked``, 12 images per class in the right one;
and ``test``, 240 images in the right one. ``truth.csv`` has the true class of every photo.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]
SIZE = 192


def mug(d: Draw, body: Colour, mark: Colour) -> None:
    """Draw a mug with a round mark."""
    d.arc((105, 70, 165, 130), -100, 100, fill=body, width=14)
    d.rounded_rectangle((45, 55, 125, 150), 12, fill=body)
    d.ellipse((65, 85, 100, 120), fill=mark)


def bottle(d: Draw, body: Colour, mark: Colour) -> None:
    """Draw a bottle with a label."""
    d.rectangle((84, 25, 108, 80), fill=body)
    d.rounded_rectangle((68, 70, 124, 175), 14, fill=body)
    d.rectangle((68, 105, 124, 135), fill=mark)


def lamp(d: Draw, body: Colour, mark: Colour) -> None:
    """Draw a table lamp, its shade in the second colour."""
    d.rectangle((91, 95, 101, 160), fill=body)
    d.ellipse((60, 150, 132, 172), fill=body)
    d.polygon([(72, 30), (120, 30), (150, 98), (42, 98)], fill=mark)


def shoe(d: Draw, body: Colour, mark: Colour) -> None:
    """Draw a shoe, its sole in the second colour."""
    d.polygon([(30, 75), (75, 68), (105, 105), (165, 122), (168, 145), (30, 145)], fill=body)
    d.rectangle((28, 141, 172, 155), fill=mark)


def shirt(d: Draw, body: Colour, mark: Colour) -> None:
    """Draw a shirt with a stripe."""
    outline = [
        (62, 35),
        (130, 35),
        (175, 75),
        (152, 98),
        (134, 82),
        (134, 168),
        (58, 168),
        (58, 82),
        (40, 98),
    ]
    d.polygon([*outline, (17, 75)], fill=body)
    d.rectangle((58, 100, 134, 112), fill=mark)


PRODUCTS: dict[str, Callable[[Draw, Colour, Colour], None]] = {
    product.__name__: product for product in (bottle, lamp, mug, shirt, shoe)
}


def photo(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw a product in random colours: turned, small or large, before other things, more or less sharp."""
    body, mark, ground = (
        tuple(int(v) for v in rng.integers(low, high, 3)) for low, high in ((0, 190), (0, 256), (100, 256))
    )
    layer = Image.new("RGBA", (SIZE, SIZE))
    PRODUCTS[name](ImageDraw.Draw(layer), body, mark)  # type: ignore[arg-type]
    side = int(rng.uniform(0.55, 1) * SIZE)
    layer = layer.rotate(rng.uniform(-35, 35)).resize((side, side))
    picture = Image.new("RGB", (SIZE, SIZE), ground)
    clutter(ImageDraw.Draw(picture), rng)
    picture.paste(layer, tuple(int(v) for v in rng.integers(0, SIZE - side + 1, 2)), layer)
    grainy = np.asarray(picture) + rng.normal(0, 20, (SIZE, SIZE, 3))
    picture = Image.fromarray(grainy.clip(0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))


def clutter(d: Draw, rng: np.random.Generator) -> None:
    """Draw what else lies about: some boxes and balls in random colours."""
    for shape in (d.rectangle, d.ellipse, d.rectangle):
        x, y = (int(v) for v in rng.integers(-20, SIZE, 2))
        width, height = (int(v) for v in rng.integers(15, 80, 2))
        shape((x, y, x + width, y + height), fill=tuple(int(v) for v in rng.integers(60, 256, 3)))


def make(folder: Path, rng: np.random.Generator) -> None:
    """Write the photos and their true classes."""
    number, truth = 0, []
    for part, per_class, wrong in (("photos", 120, 0.3), ("checked", 12, 0.0), ("test", 48, 0.0)):
        for name in np.repeat(list(PRODUCTS), per_class):
            others = [other for other in PRODUCTS if other != name]
            shelf = str(rng.choice(others)) if rng.random() < wrong else name
            path = Path(part, shelf, f"{number:04d}.jpg")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            photo(name, rng).save(folder / path, quality=85)
            truth.append([path.as_posix(), name])
            number += 1
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "class"], *truth])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.folder, np.random.default_rng(arguments.seed))
