"""Make the pictures of the tutorials from folders in which these were run.

``python docs/_build/pictures.py FOLDER`` draws that of tutorial.md, or of tutorial-photos.md if the folder has a shop.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

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


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    shop(folder) if (folder / "shop").is_dir() else digits(folder)
