"""What is handed on, an export or a report, names no folder of the machine that made it."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import emlc
import image_models
import sources
from emlc import Run
from emlc.config import Settings, names_of, paths_of
from emlc.exports import TARGETS, export
from emlc.report import collect, render

HOME = "home-of-anna"
"""A folder above all that a run here reads and writes."""

CODE = (str(Path(emlc.__file__).parents[2]), str(Path(torch.__file__).parents[1]))
"""Where emlc and torch are installed."""


def everywhere(home):
    """A path in every setting that needs no file to be there."""
    names = ("data_root", "image_cache", "embedding_cache", "init", "teacher_init")
    return {name: str(home / name) for name in names}


def noisy_rows(home):
    """Rows of numbers, each set from a file of its own, and a matrix of noise."""
    np.savetxt(home / "matrix.csv", np.full((3, 3), 1 / 3), delimiter=",")
    found = sources.parquet_features_of_their_own_sources(home)
    return found | {"noise": "matrix", "noise_matrix": str(home / "matrix.csv")}


def texts(home):
    """Embeddings of texts by a model in a folder; the embedding itself is not what is looked at."""
    (home / "our-model").mkdir()
    return sources.csv_features(home)


def embedded_photos(home):
    """Embeddings of images by a network in a folder."""
    return sources.image_folder(home) | {"image_model": str(image_models.save_model(home / "our-network"))}


LABELLED = {
    "rows": noisy_rows,
    "human labels": sources.human_labels,
    "image files": sources.image_folder,
    "image paths": sources.image_paths,
    "pixels": sources.embedded_images,
    "embedded images": embedded_photos,
}
RUNS = LABELLED | {"texts": texts}
IMAGES = ("image files", "image paths", "pixels", "embedded images")
ONLY_IMAGES = ("imagefolder", "fiftyone")
NETWORKS = ("onnx", "torch-export", "safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    found = {}
    for name, source in RUNS.items():
        home = tmp_path_factory.mktemp("machine") / HOME
        home.mkdir()
        (home / "run").mkdir()
        found[name] = sources.untrained_run(home / "run", **source(home), **everywhere(home))
    text = found["texts"]
    model = str(text.folder.parent / "our-model")
    found["texts"] = replace(
        text,
        settings=replace(text.settings, text_column="review", text_model=model, feature_columns=None),
        schema=replace(text.schema, text_column="review", text_model=model),
    )
    return found


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a file or folder, unpacked, by its path."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {str(file.relative_to(path.parent)): unpacked(file) for file in files}


def unpacked(file: Path) -> bytes:
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        return repr((table.schema.metadata, table.to_pylist())).encode()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    return file.read_bytes()


def assert_names_no_folder(content: dict[str, bytes]) -> None:
    assert content
    for folder in (HOME, *CODE):
        assert [name for name, each in content.items() if folder.encode() in each] == [], folder


def test_the_runs_have_a_path_in_every_setting_that_takes_one(runs):
    held = {name: set() for name in runs}
    for name, run in runs.items():
        held[name] = {setting for setting, path in paths_of(run.settings).items() if HOME in path}
    assert set.union(*held.values()) == names_of(Settings, lambda facts: facts.path)


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        *((kind, to) for kind in LABELLED for to in TARGETS if kind in IMAGES or to not in ONLY_IMAGES),
        *(("texts", to) for to in NETWORKS),
    ],
)
def test_an_export_names_no_folder_of_its_machine(kind, to, runs):
    run = runs[kind]
    # Label Studio serves files by their path below a folder, which is for the user to say.
    options = {"document_root": str(run.folder.parent)} if to == "labelstudio" and "image" in kind else {}
    written, _ = export(run, to, **options)
    assert_names_no_folder(contents(written))


@pytest.mark.parametrize("kind", LABELLED)
def test_a_parquet_file_of_corrected_labels_names_no_folder_of_its_machine(kind, runs):
    written, _ = export(runs[kind], "csv", runs[kind].folder / "table.parquet")
    assert_names_no_folder(contents(written))


def test_relative_paths_of_images_lead_to_them(runs):
    for kind in ("image files", "image paths"):
        run = runs[kind]
        split = run.split()
        files = [*split.noisy.files.to_pylist(), *split.trusted.files.to_pylist()]
        table = pd.read_csv(export(run, "csv", run.folder / "again.csv")[0])
        named = table[run.schema.image_column or "image"]
        assert [(run.folder / path).resolve() for path in named] == [Path(file).resolve() for file in files]


@pytest.mark.parametrize("kind", RUNS)
def test_a_report_names_no_folder_of_its_machine(kind, runs):
    run = runs[kind]
    page = render(collect(run, samples=20, map_samples=0))
    assert "Settings of this run" in page
    assert_names_no_folder({"report.html": page.encode()})


def test_a_report_on_lost_data_names_their_file_and_not_its_folder(runs, tmp_path):
    run = runs["rows"]
    lost = replace(run, settings=replace(run.settings, trusted=str(run.folder.parent / "lost.parquet")))
    page = render(collect(lost, samples=20))
    assert "lost.parquet" in page
    assert_names_no_folder({"report.html": page.encode()})


def test_networks_are_read_again_on_another_machine(runs, tmp_path):
    """Also those of a method that cannot begin without initial weights."""
    run = runs["rows"]
    export(run, "safetensors", tmp_path / "model")
    again = Run.load(tmp_path / "model", device="cpu")
    inputs = run.split().noisy.inputs
    torch.testing.assert_close(again.predict_proba(inputs), run.predict_proba(inputs))
    home = tmp_path / "contrast"
    home.mkdir()
    contrast = sources.untrained_run(
        home, **sources.csv_features(home), method="c2d", init=str(home / "w.pt")
    )
    export(contrast, "safetensors", tmp_path / "contrasted")
    assert Run.load(tmp_path / "contrasted", device="cpu").settings.init == "w.pt"


def test_a_text_model_of_a_folder_is_looked_for_in_the_working_directory_and_not_on_the_hub(runs, tmp_path):
    export(runs["texts"], "safetensors", tmp_path / "model")
    settings = yaml.safe_load((tmp_path / "model" / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["text_model"] == "./our-model"
    assert Run.load(tmp_path / "model", device="cpu").schema.text_model == "./our-model"


def test_an_image_model_of_a_folder_is_looked_for_in_the_working_directory(runs, tmp_path):
    export(runs["embedded images"], "safetensors", tmp_path / "model")
    settings = yaml.safe_load((tmp_path / "model" / "settings.yaml").read_text(encoding="utf-8"))
    assert settings["image_model"] == "./our-network"
    assert Run.load(tmp_path / "model", device="cpu").schema.image_model == "./our-network"
