"""Sources of every kind, and runs on them that were never trained."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import nn

import tiny
from emlc import Run
from emlc.config.methods import method_class
from emlc.data import make_split
from emlc.labels.decision import KindsDecision
from emlc.networks.gate_teacher import Teacher

HOSTILE = ("../../x", "</script>", 'quo"te, comma', "line\nbreak", "=1+1", "1e5", "no", " 猫 🐈 ")


DOUBTFUL = KindsDecision(  # calibrated, it would find that these networks know nothing, and no issue
    threshold=0.5,
    noise_rate=0.5,
    expected_f1=0.5,
    slopes=(1.0, 0.0, 0.0),
    intercepts=(0.0, 0.0, -1000.0),
    shares=(0.5, 0.5, 0.0),
    calibrated_on="trusted",
    trusted_samples=12,
    noisy_samples=48,
)


def untrained_run(folder: Path, **values: object) -> Run:
    """What there is of a run before its first step: settings, split, and networks that know nothing."""
    settings = tiny.settings(
        **({"trusted_per_class": None, "output": str(folder), "teacher": "gate"} | values)
    )
    split, schema = make_split(settings, settings, settings.seed)
    split.save(folder / "split.csv")
    method = method_class(settings.method)(settings, split.noisy.inputs, len(split.classes))
    teacher = method.networks().get("teacher")
    assert teacher is None or isinstance(teacher, Teacher)
    if teacher is not None:
        nn.init.constant_(teacher.gate[-1].bias, -5)  # it doubts all labels
        DOUBTFUL.save(folder / "decision.json")
    return Run(folder, settings, schema, method.student, teacher)


# Sources: a function makes the data in a folder, and returns the settings


def frame(seed=0, n=60, prefix="s", wrong=0.3):
    samples = tiny.samples(n, seed=seed, wrong=wrong, prefix=prefix)
    names = np.array(samples.classes)
    columns = ["a", "b, c", 'd"', "e"]
    table = pd.DataFrame(samples.inputs.numpy(), columns=columns)
    return table.assign(id=samples.ids, label=names[samples.labels], truth=names[samples.true_labels])


def csv_features(folder):
    table = frame()
    table.insert(0, "checked", table.index < 12)
    table["label"] = table["label"].where(~table["checked"], table["truth"])
    table.to_csv(folder / "data.csv", index=False)
    return {
        "data": str(folder / "data.csv"),
        "trusted_column": "checked",
        "true_label_column": "truth",
        "test_fraction": 0.2,
    }


def parquet_features_of_their_own_sources(folder):
    """Without ids in the data, but with numbers as ids in the test set."""
    frame().drop(columns="id").to_parquet(folder / "data.parquet")
    frame(1, 15, wrong=0).drop(columns="id").to_parquet(folder / "trusted.parquet")
    frame(2, 30, wrong=0).assign(id=range(30)).to_csv(folder / "test.csv", index=False)
    frame(3, 12, wrong=0).to_csv(folder / "validation.csv", index=False)
    names = {"trusted": "trusted.parquet", "test": "test.csv", "validation": "validation.csv"}
    return {"data": str(folder / "data.parquet")} | {k: str(folder / v) for k, v in names.items()}


def features_called_as_ours(folder):
    """Numbers to learn from in columns that are called id, label, trusted and true_label."""
    names = {"a": "id", "b, c": "label", 'd"': "trusted", "e": "true_label"}
    table = frame().rename(columns={"id": "key", "label": "given"}).rename(columns=names)
    table["checked"] = table.index < 12
    table["given"] = table["given"].where(~table["checked"], table["truth"])
    table.to_csv(folder / "data.csv", index=False)
    return {
        "data": str(folder / "data.csv"),
        "trusted_column": "checked",
        "label_column": "given",
        "id_column": "key",
        "true_label_column": "truth",
        "feature_columns": list(names.values()),
    }


def injected_noise(folder):
    """Into the digits, which are arrays and bring no files."""
    return {
        "data": "digits",
        "trusted_per_class": 3,
        "noise": "symmetric",
        "noise_rate": 0.5,
        "noisy_limit": 60,
        "validation_fraction": 0.4,
    }


def npz(folder, X, **more):
    samples = tiny.samples(60)
    names = np.array(samples.classes)
    arrays = {"X": X, "y": names[samples.labels], "trusted": np.arange(60) < 12}
    np.savez(folder / "data.npz", **arrays, **more)
    return {"data": str(folder / "data.npz"), "trusted_column": "trusted", "test_fraction": 0.2}


def npz_features(folder):
    return npz(folder, tiny.samples(60).inputs.numpy(), classes=np.array(["dog", "cat", "cow"]))


def npz_grey_images(folder):
    return npz(folder, tiny.samples(60, image=True).inputs.numpy())


def npz_colour_images(folder):
    return npz(folder, np.random.default_rng(0).integers(0, 256, (60, 3, 5, 4), dtype=np.uint8))


def npz_float_images(folder):
    return npz(folder, np.random.default_rng(0).random((60, 1, 5, 4), dtype=np.float32))


def save_images(folder, paths, first=0, size=(5, 4)):
    for k, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        rgb = np.random.default_rng(first + k).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(folder / path)


def image_folder(folder):
    """The same names below the data and below the trusted folder, one class of which is called trusted."""
    paths = [f"{c}/{k},'\"=.png" for c in ("cat", "trusted") for k in range(20)]
    save_images(folder / "data", [*paths, *(f"trusted/cat/{k}.png" for k in range(3))])
    save_images(folder / "sure", [f"{c}/{k}.png" for c in ("cat", "trusted") for k in range(4)], 100)
    save_images(folder / "exam", [f"{c}/{k}.png" for c in ("cat", "trusted") for k in range(3)], 200)
    return {name: str(folder / f) for name, f in {"data": "data", "trusted": "sure", "test": "exam"}.items()}


def image_paths(folder):
    paths = [f"../photos/{k}.jpg" for k in range(40)]
    (folder / "tables").mkdir()
    save_images(folder / "tables", paths, size=(12, 9))
    names = np.array(["cat", "dog"])[np.arange(40) % 2]
    table = pd.DataFrame({"photo": paths, "label": names, "checked": np.arange(40) < 10})
    table.to_csv(folder / "tables/data.csv", index=False)
    return {
        "data": str(folder / "tables/data.csv"),
        "image_column": "photo",
        "trusted_column": "checked",
        "image_size": 6,
        "resize": 8,
        "test_fraction": 0.2,
    }


def embedded_images(folder):
    """Hostile names of classes, which a CSV file could not even hold."""
    save_images(folder, [f"{k}.png" for k in range(40)], size=(10, 12))
    cells = [{"bytes": (folder / f"{k}.png").read_bytes(), "path": "../x"} for k in range(40)]
    columns = {"image": cells, "label": [HOSTILE[k % 8] for k in range(40)], "checked": np.arange(40) < 16}
    pq.write_table(pa.table(columns), folder / "train.parquet")
    return {
        "data": str(folder / "train.parquet"),
        "trusted_column": "checked",
        "image_size": 6,
        "resize": 8,
    }


def stored(source):
    def of_source(folder):
        return source(folder) | {"memory_gib": 1e-9}

    of_source.__name__ = f"stored_{source.__name__}"
    return of_source


def stored_beside_arrays(folder):
    """Images that stay on disk, and test images that are but pixels: none must be resized twice."""
    settings = stored(embedded_images)(folder)
    X = np.random.default_rng(5).integers(0, 256, (16, 3, 6, 6), dtype=np.uint8)
    np.savez(folder / "test.npz", X=X, y=np.array([HOSTILE[k % 8] for k in range(16)]))
    return settings | {"test": str(folder / "test.npz")}


def human_labels(folder):
    table = frame().rename(columns={"label": "human"}).rename(columns={"truth": "label"})
    table.drop(columns="human").to_csv(folder / "data.csv", index=False)
    human = pd.DataFrame({"clean_label": table["label"], "worse_label": table["human"]})
    human.to_csv(folder / "human.csv", index=False)
    return {
        "data": str(folder / "data.csv"),
        "trusted_per_class": 4,
        "human_labels": str(folder / "human.csv"),
        "human_labels_key": "worst",
    }


def hostile_classes(folder):
    names = np.array(HOSTILE)[np.arange(60) % 8]
    frame().drop(columns="truth").assign(label=names, checked=np.arange(60) < 24).to_parquet(
        folder / "d.parquet"
    )
    return {
        "data": str(folder / "d.parquet"),
        "trusted_column": "checked",
        "classes": [*HOSTILE[::-1]],
    }


ALL = [
    *(
        csv_features,
        parquet_features_of_their_own_sources,
        features_called_as_ours,
        injected_noise,
    ),
    *(
        npz_features,
        npz_grey_images,
        npz_colour_images,
        npz_float_images,
        image_folder,
        image_paths,
    ),
    *(
        embedded_images,
        stored(embedded_images),
        stored(image_paths),
        stored_beside_arrays,
    ),
    *(human_labels, hostile_classes),
]
