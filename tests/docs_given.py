"""What pages of the documentation take for granted: made in the current folder, small."""

import io
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_wine

from emlc.cli import main


def tables() -> None:
    """data.csv, trusted.csv and test.csv: wines; 30 % of data.csv's labels are random; truth.csv has all."""
    frame = load_wine(as_frame=True).frame.rename(columns={"target": "label"}).sample(frac=1, random_state=0)
    frame["label"] = frame["label"].map({0: "barolo", 1: "grignolino", 2: "barbera"})
    frame["id"] = [f"wine-{k}" for k in frame.index]
    data, trusted, test = frame[:110].copy(), frame[110:140], frame[140:]
    data.rename(columns={"label": "truth"})[["id", "truth"]].to_csv("truth.csv", index=False)
    data.loc[data.index[:33], "label"] = np.random.default_rng(0).permutation(data["label"])[:33]
    for name, part in {"data": data, "trusted": trusted, "test": test}.items():
        part.to_csv(f"{name}.csv", index=False)


def run() -> None:
    """runs/first: EMLC trained on the tables, or rather a copy of it that is made once."""
    tables()
    shutil.copytree(_trained(), "runs/first")


@cache
def _trained() -> Path:
    folder = Path(mkdtemp(prefix="emlc-docs-")) / "run"
    sources = ["data.csv", "--trusted", "trusted.csv", "--test", "test.csv"]
    assert main(["train", *sources, "--epochs", "3", "--noisy_batch", "32", "--output", str(folder)]) == 0
    return folder


def wines() -> None:
    """runs/wines, as :func:`run`, and decisions.csv on its three least credible labels."""
    tables()
    shutil.copytree(_trained(), "runs/wines")
    worst = pd.read_csv("runs/wines/labels.csv").sort_values("label_quality").head(3)
    decisions = worst[["id", "given_label"]].assign(
        decision="keep", label=worst["given_label"], suggested_label=worst["corrected_label"]
    )
    decisions.to_csv("decisions.csv", index=False)


def photo_run() -> None:
    """runs/photos: a run of an epoch on :func:`photos`."""
    photos()
    assert (
        main(["train", "photos", "--trusted", "photos-checked", "--epochs", "1", "--output", "runs/photos"])
        == 0
    )


def texts() -> None:
    """reviews.csv, checked.csv and new.csv: texts for and against; of reviews.csv some are mislabelled."""
    words = {"good": "loved enjoyed liked praised", "bad": "hated regretted disliked avoided"}
    rows = [
        {"text": f"We {verb} the {thing}.", "label": label}
        for label, verbs in words.items()
        for verb in verbs.split()
        for thing in ["food", "film", "hotel", "book", "music", "weather", "garden", "service", "coffee"]
    ]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)
    parts = {"checked": frame[:12], "new": frame[12:20].drop(columns="label"), "reviews": frame[20:].copy()}
    reviews = parts["reviews"]
    reviews["label"] = reviews["label"].where(reviews.index % 3 > 0, "good")
    for name, part in parts.items():
        part.to_csv(f"{name}.csv", index=False)


def demo() -> None:
    """runs/demo: that of `emlc demo`, of one epoch."""
    assert main(["demo", "--epochs", "1"]) == 0


def cifar() -> None:
    """cifar10/: 400 digits in CIFAR-10's layout, with human labels beside the true."""
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    digits, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    images = [_png(digits[k]) for k in order]
    truth = labels[order]
    worst = np.where(np.arange(len(truth)) % 3 == 0, (truth + 1) % 10, truth)
    kind = {"names": names, "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": kind, "worst": kind}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    Path("cifar10").mkdir()
    for name, part in {"train": slice(0, 340), "test": slice(340, 400)}.items():
        table = pa.table({"image": images[part], "label": truth[part], "worst": worst[part]})
        pq.write_table(table.replace_schema_metadata(meta), f"cifar10/{name}-00000-of-00001.parquet")


def human_labels() -> None:
    """The images of :func:`cifar`, and CIFAR-10_human.pt with human labels for them."""
    cifar()
    truth = pq.read_table("cifar10/train-00000-of-00001.parquet")["label"].to_numpy()
    worst = np.where(np.arange(len(truth)) % 3 == 0, (truth + 1) % 10, truth)
    torch.save({"clean_label": truth, "worse_label": worst}, "CIFAR-10_human.pt")


def _png(pixels: np.ndarray, scale: int = 2) -> dict[str, object]:
    grey = np.kron(pixels.reshape(8, 8) * 15.9, np.ones((scale, scale))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def photos() -> None:
    """photos/ with a sub-folder of images a class, and photos-checked/ likewise; 12 and 4 of each."""
    digits, labels = load_digits(return_X_y=True)
    for name, rows in {
        "photos": slice(0, 12),
        "photos-checked": slice(12, 16),
        "photos-new": slice(16, 20),
    }.items():
        for label in range(3):
            for k in np.flatnonzero(labels == label)[rows]:
                path = Path(name, f"class-{label}", f"{k}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_png(digits[k], 4)["bytes"])  # type: ignore[arg-type]


def embeddings() -> None:
    """embeddings.parquet: the tables in one file."""
    tables()
    pd.read_csv("data.csv").to_parquet("embeddings.parquet", index=False)
