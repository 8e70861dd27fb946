"""Make the pictures of the tutorials from folders in which these were run.

``python docs/_build/pictures.py FOLDER`` draws that of tutorial.md, or of tutorial-photos.md if the folder has a shop.
``python docs/_build/pictures.py REPORT.html PICTURE.png`` takes one of the review page: of ``emlc demo`` for report-review.png,
of the tutorial's first run for assets/review.png.
"""

import shutil
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image
from playwright.sync_api import sync_playwright

from emlc.runtime.colours import BLUE, ORANGE

ASSETS = Path(__file__).parents[1] / "assets"


def digits(folder: Path) -> None:
    """Draw the sixteen digits with the labels of lowest quality."""
    labels = worst(folder / "runs/first/labels.csv")
    images = pd.read_csv(folder / "train.csv").set_index("id")["image"]
    draw(labels, [folder / images[sample] for sample in labels["id"]], ASSETS / "corrected.png")


def shop(folder: Path) -> None:
    """Draw the sixteen photos with the labels of lowest quality."""
    labels = worst(folder / "runs/shop/labels.csv")
    draw(labels, [folder / "shop/photos" / sample for sample in labels["id"]], ASSETS / "shop.jpg")


def worst(file: Path) -> pd.DataFrame:
    """Read the sixteen rows with the lowest quality."""
    return pd.read_csv(file, keep_default_na=False).sort_values("label_quality").head(16)


def draw(labels: pd.DataFrame, images: Sequence[Path], output: Path) -> None:
    """Draw sixteen images, each with its given label struck out and the label that emlc suggests."""
    figure, axes = plt.subplots(2, 8, figsize=(9, 3.1), dpi=110)
    for axis, row, image in zip(axes.flat, labels.itertuples(), images, strict=True):
        axis.imshow(Image.open(image), cmap="gray_r")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_color("#cccccc")
        given = "".join(f"{letter}\u0336" for letter in row.given_label)
        axis.text(0.5, -0.2, given, color=ORANGE, ha="center", transform=axis.transAxes, size=10)
        axis.text(0.5, -0.42, row.corrected_label, color=BLUE, ha="center", transform=axis.transAxes, weight="bold")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.14, hspace=0.5, wspace=0.12)
    figure.savefig(output, facecolor="white")


def review(report: Path, output: Path) -> None:
    """Take a picture of a report's review page, with four suggestions accepted."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 860}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        page.click("#start")
        for _ in range(4):
            page.keyboard.press("a")
        page.evaluate("scrollBy(0, document.querySelector('.queue').getBoundingClientRect().top - 135)")  # below the bar
        picture = page.screenshot()
    shown = Image.open(BytesIO(picture)).convert("RGB")
    shown.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(output, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        review(*map(Path, sys.argv[1:]))
    else:
        folder = Path(sys.argv[1])
        shop(folder) if (folder / "shop").is_dir() else digits(folder)
