"""The exported student, run by the programs it was exported for."""

import json
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from rich.console import Console

import sources
import tiny
from emlc import InputError, Run, Samples, train
from emlc.cli import main
from emlc.exports.model import Deployed, _difference, describe, export_onnx, export_safetensors, export_torch

QUIET = Console(quiet=True)


def trained(folder, *, samples: Samples | None = None, image: bool = False, **changes) -> Run:
    settings = tiny.settings(image=image, **({"output": str(folder), "epochs": 3} | changes))
    return train(settings, samples or tiny.samples(image=image), console=QUIET, lean=True)


def as_float(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs


def assert_same_probabilities(run: Run, exported, samples: Samples) -> None:
    """On real samples, which the classifier is sure of to different degrees, in batches of any size."""
    expected = run.predict_proba(samples.inputs).numpy()
    assert expected.max(axis=1).std() > 1e-3
    x = as_float(samples.inputs).numpy()
    np.testing.assert_allclose(exported(x), expected, atol=1e-5)
    np.testing.assert_allclose(exported(x[:1]), expected[:1], atol=1e-5)


def by_onnxruntime(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["probabilities"], {"inputs": x})[0]


def by_torch(path):
    module = torch.export.load(path).module()

    def run(x):
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    return run


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("features") / "run")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("images") / "run", image=True)


@pytest.mark.parametrize(
    ("export", "run_exported"), [(export_onnx, by_onnxruntime), (export_torch, by_torch)]
)
@pytest.mark.parametrize("kind", ["features", "images"])
def test_runs_elsewhere_as_here(kind, export, run_exported, tmp_path, request):
    run = request.getfixturevalue(kind)
    said = export(run, tmp_path / "model.pt2")
    assert "probabilities differ by" in said
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert_same_probabilities(run, run_exported(tmp_path / "model.pt2"), tiny.samples(image=kind == "images"))


def test_network_of_torchvision(tmp_path):
    samples = tiny.samples(40, image=True)
    settings = {"backbone": "resnet18", "width": None, "epochs": 1, "learning_rate": 0.01}
    run = trained(tmp_path / "run", samples=samples, **settings)
    export_onnx(run, tmp_path / "model.onnx")
    assert_same_probabilities(run, by_onnxruntime(tmp_path / "model.onnx"), samples)


def test_network_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            class Squares(nn.Module):
                def forward(self, x):
                    return torch.cat([x, x ** 2], dim=1)

            class Unexportable(nn.Module):
                def forward(self, x):
                    return x if x.sum().item() > 0 else -x

            def squares(shape):
                return nn.Sequential(Squares(), nn.Linear(2 * shape[0], 6))

            def unexportable(shape):
                return Unexportable()
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    run = trained(tmp_path / "run", backbone="own_network:squares", width=None)
    export_onnx(run, tmp_path / "model.onnx")
    assert_same_probabilities(run, by_onnxruntime(tmp_path / "model.onnx"), tiny.samples())

    own = trained(tmp_path / "other", backbone="own_network:unexportable", width=None, epochs=1)
    for export, name, to in ((export_torch, "own.pt2", r"torch\.export"), (export_onnx, "own.onnx", "ONNX")):
        with pytest.raises(InputError, match=rf"this network cannot be exported to {to}: Could not guard on"):
            export(own, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_torch_export_asks_for_its_ending(features, tmp_path):
    with pytest.raises(InputError, match=r"needs a name that ends in \.pt2"):
        export_torch(features, tmp_path / "model")


def test_files_say_how_they_are_used(images, tmp_path):
    export_onnx(images, tmp_path / "model.onnx")
    export_torch(images, tmp_path / "model.pt2")
    extra = {"emlc.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    described = json.loads(extra["emlc.json"])
    assert json.loads({p.key: p.value for p in model.metadata_props}["emlc"]) == described
    assert described["classes"] == list(tiny.CLASSES)
    assert described["input"]["shape"] == ["batch", 1, 8, 8]
    (given,) = model.graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    sizes = given.type.tensor_type.shape.dim
    assert sizes[0].dim_param == "batch"
    assert [d.dim_value for d in sizes[1:]] == [1, 8, 8]
    (result,) = model.graph.output
    assert [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim] == ["batch", 3]


def test_another_network_is_not_handed_out(features, tmp_path, monkeypatch):
    monkeypatch.setattr("emlc.exports.model.Deployed.forward", lambda self, inputs: self.student(inputs))
    with pytest.raises(
        InputError, match="the exported network is not the run's: its probabilities differ by"
    ):
        export_onnx(features, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [False, True])
def test_probabilities_that_are_no_numbers_are_noticed(image, features, images):
    run = images if image else features
    with pytest.raises(
        InputError, match="the exported network is not the run's: its probabilities differ by nan"
    ):
        _difference(run, lambda x: torch.full((len(x), 3), torch.nan))


@pytest.mark.parametrize("source", [sources.npz_grey_images, sources.csv_features, sources.image_folder])
def test_the_run_s_own_samples_are_compared(source, tmp_path):
    """What random inputs do not show, as a network that is another where the data are."""
    run = sources.untrained_run(tmp_path, **source(tmp_path))
    real = as_float(run.split().noisy.inputs)
    student = Deployed(run.student)

    def wrong_on_real(x):
        found = (x[:, None] == real[None]).flatten(2).all(dim=2).any(dim=1)
        seen.append(bool(found.all()))
        return torch.where(found[:, None], torch.zeros(()), student(x))

    seen: list[bool] = []
    assert "differ by" in _difference(run, student)
    with pytest.raises(InputError, match="the exported network is not the run's"):
        _difference(run, wrong_on_real)
    assert seen == [False, False, True]


def test_onnx_is_an_extra(features, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"--to onnx needs onnxscript: pip install 'emlc\[onnx\]'"):
        export_onnx(features, tmp_path / "model.onnx")


def test_safetensors_are_a_run_without_its_data(features, tmp_path):
    export_safetensors(features, tmp_path / "model")
    run = Run.load(tmp_path / "model", device="cpu")
    samples = tiny.samples()
    torch.testing.assert_close(run.predict_proba(samples.inputs), features.predict_proba(samples.inputs))
    assert run.correct_labels(samples).equals(features.correct_labels(samples))
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        *("README.md", "model.json", "settings.yaml", "decision.json"),
        *("student.safetensors", "teacher.safetensors"),
    }
    for taken in (features.folder, tmp_path):
        before = sorted(taken.rglob("*"))
        with pytest.raises(InputError, match="is not empty; name another"):
            export_safetensors(features, taken)
        assert sorted(taken.rglob("*")) == before


@pytest.mark.parametrize(
    ("to", "name"), [("safetensors", "m"), ("torch-export", "m.pt2"), ("onnx", "m.onnx")]
)
def test_a_full_disk_is_one_message_and_leaves_nothing(to, name, features, tmp_path, capsys):
    """A limit on the size of files, as there is no disk to fill."""
    resource = pytest.importorskip("resource")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, unlimited[1]))
    try:
        status = main(["export", str(features.folder), "--to", to, "--output", str(tmp_path / name)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert status == 2
    err = capsys.readouterr().err
    assert err.startswith("emlc: error: ")
    assert "File too large" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_safetensors_tell_no_paths(features, tmp_path):
    told = replace(
        features,
        settings=replace(
            features.settings,
            data="/home/me/secret.csv",
            data_root="/home/me",
            noise="matrix",
            noise_matrix="/home/me/secret.npy",
            output="/home/me/runs",
        ),
    )
    export_safetensors(told, tmp_path / "model")
    assert "/home/me" not in (tmp_path / "model" / "settings.yaml").read_text()
    assert yaml.safe_load((tmp_path / "model" / "settings.yaml").read_text())["width"] == 5


def test_command(features, tmp_path, capsys):
    assert main(["export", str(features.folder), "--to", "onnx", "--output", str(tmp_path / "m.onnx")]) == 0
    assert "run by onnxruntime" in capsys.readouterr().out
    assert main(["export", str(features.folder), "--to", "safetensors", "--weights", "last"]) == 0
    assert "predicts, but cannot correct labels: " in capsys.readouterr().out  # its data are not kept
    last = Run.load(features.folder, which="last", device="cpu")
    exported = Run.load(features.folder / "safetensors", device="cpu")
    x = tiny.samples().inputs
    assert torch.equal(exported.predict_proba(x), last.predict_proba(x))
    assert main(["export", str(features.folder), "--to", "onnx", "--link"]) == 2
    assert "link: goes with" in capsys.readouterr().err


def test_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained("runs/wines", epochs=1)
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "python", "python", "python"]
    for command in blocks[0][1].splitlines():
        assert main(command.split("#")[0].split()[1:]) == 0
    for _, block in blocks[1:]:
        exec(block, {})
    out = capsys.readouterr().out
    assert sum(name in out for name in tiny.CLASSES) >= 1
    assert out.count("tensor(") == 2


def test_a_network_for_texts_says_whose_embeddings_it_takes(tmp_path):
    run = sources.untrained_run(tmp_path, **sources.csv_features(tmp_path))
    schema = replace(run.schema, text_column="review", text_model="minilm", feature_columns=())
    told = describe(replace(run, schema=schema))["input"]
    assert (told["text_column"], told["text_model"], told["feature_columns"]) == ("review", "minilm", None)
    assert told["meaning"] == "embeddings of texts by text_model"
    assert describe(run)["input"]["meaning"] == "features as they are in the data"
