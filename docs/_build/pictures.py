"""Make the pictures of the tutorial from a folder in which it was run: python docs/_build/pictures.py FOLDER."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

from emlc.runtime.colours import BLUE, ORANGE

ASSETS = Path(__file__).parents[1] / "assets"


def corrected(folder: Path) -> None:
    """Draw the sixteen labels of lowest quality, with the labels that emlc suggests."""
    labels = pd.read_csv(folder / "runs/first/labels.csv", keep_default_na=False).sort_values("label_quality").head(16)
    images = pd.read_csv(folder / "train.csv").set_index("id")["image"]
    figure, axes = plt.subplots(2, 8, figsize=(9, 3.1), dpi=110)
    for axis, row in zip(axes.flat, labels.itertuples(), strict=True):
        axis.imshow(Image.open(folder / images[row.id]), cmap="gray_r")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_color("#cccccc")
        given = "".join(f"{letter}\u0336" for letter in row.given_label)
        axis.text(0.5, -0.2, given, color=ORANGE, ha="center", transform=axis.transAxes, size=10)
        axis.text(0.5, -0.42, row.corrected_label, color=BLUE, ha="center", transform=axis.transAxes, weight="bold")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.14, hspace=0.5, wspace=0.12)
    figure.savefig(ASSETS / "corrected.png", facecolor="white")


if __name__ == "__main__":
    corrected(Path(sys.argv[1]))
