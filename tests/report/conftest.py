"""Runs to report on, trained in a moment; with class names and ids that mean harm."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

import tiny
from emlc import Run, train
from emlc.report import collect, render
from hostile import HOSTILE_CLASSES, HOSTILE_IDS

QUIET = Console(file=io.StringIO())


def table(names, n=75, seed=0, wrong=0.3, prefix="s", ids=()):
    """A table with these class names."""
    samples = tiny.samples(n, seed=seed, wrong=wrong, prefix=prefix)
    frame = pd.DataFrame(samples.inputs.numpy(), columns=["a", "b", "<i>c</i>", "d"])
    classes = np.array(names)
    frame = frame.assign(id=samples.ids, label=classes[samples.labels], truth=classes[samples.true_labels])
    frame.loc[: len(ids) - 1, "id"] = list(ids)
    return frame


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory) -> Run:
    """A run on a table, with a test set and true labels, whose names are attacks."""
    folder = tmp_path_factory.mktemp("hostile")
    table(HOSTILE_CLASSES, 90, ids=HOSTILE_IDS).to_csv(folder / "data.csv", index=False)
    table(HOSTILE_CLASSES, 15, seed=1, wrong=0, prefix="t").to_csv(folder / "trusted.csv", index=False)
    table(HOSTILE_CLASSES, 30, seed=2, wrong=0, prefix="u").to_csv(folder / "test.csv", index=False)
    names = {role: str(folder / f"{role}.csv") for role in ("data", "trusted", "test")}
    settings = tiny.settings(
        **names, true_label_column="truth", trusted_per_class=None, output=str(folder / "run"), epochs=4
    )
    return train(settings, console=QUIET)


@pytest.fixture(scope="session")
def glc_run(hostile_run, tmp_path_factory) -> Run:
    """A run on the same data, by a method that corrects its own labels without a teacher."""
    folder = tmp_path_factory.mktemp("glc") / "run"
    return train(replace(hostile_run.settings, method="glc", epochs=2, output=str(folder)), console=QUIET)


@pytest.fixture(scope="session")
def hostile_facts(hostile_run):
    return collect(hostile_run, samples=60, map_samples=40)


@pytest.fixture(scope="session")
def hostile_page(hostile_facts) -> str:
    return render(hostile_facts)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """A folder of images of 80 pixels, a sub-folder a class."""
    folder = tmp_path_factory.mktemp("images") / "pictures"
    samples = tiny.samples(60, image=True, wrong=0)
    for k, (pixels, label) in enumerate(zip(samples.inputs.numpy(), samples.labels, strict=True)):
        path = folder / tiny.CLASSES[label] / f"<{k}> & 'co'.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(pixels[0], np.ones((10, 10), dtype=np.uint8))).save(path)
    return folder


@pytest.fixture(scope="session")
def image_run(image_folder) -> Run:
    """A run on images that are brought to 8 pixels, with injected noise and a test set."""
    settings = tiny.settings(
        data=str(image_folder),
        image_size=8,
        noise="symmetric",
        noise_rate=0.4,
        test_fraction=0.2,
        epochs=3,
        output=str(image_folder.parent / "run"),
    )
    return train(settings, console=QUIET)


@pytest.fixture(scope="session")
def image_facts(image_run):
    return collect(image_run, map_samples=0)


@pytest.fixture(scope="session")
def array_run(tmp_path_factory) -> Run:
    """A run on samples in memory, which are not kept, without test set and truth."""
    samples = replace(tiny.samples(), true_labels=None)
    settings = tiny.settings(output=str(tmp_path_factory.mktemp("arrays") / "run"), trusted_per_class=None)
    return train(settings, samples, trusted=tiny.unlike(15, 1), console=QUIET)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory) -> Run:
    """A run of one epoch, by a method without a teacher, without test set and truth."""
    folder = tmp_path_factory.mktemp("plain")
    table(tiny.CLASSES).drop(columns="truth").to_csv(folder / "data.csv", index=False)
    table(tiny.CLASSES, 15, seed=1, wrong=0, prefix="t").to_csv(folder / "trusted.csv", index=False)
    names = {role: str(folder / f"{role}.csv") for role in ("data", "trusted")}
    settings = tiny.settings(
        **names, trusted_per_class=None, method="cross-entropy", epochs=1, output=str(folder / "run")
    )
    return train(settings, console=QUIET)
