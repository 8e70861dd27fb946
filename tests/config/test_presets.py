"""Presets of the paper's tables say what these say, and all train on data of the shape they are for."""

import io
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models import get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from emlc.cli import main
from emlc.config import PretrainSettings, Settings
from emlc.config.presets import COMMANDS, preset_comment, preset_names, preset_path, preset_summary
from emlc.data.noise import CIFAR10_CLASSES, CIFAR100_CLASSES
from emlc.errors import InputError

# Table 1 (mean and standard deviation): symmetric 20, 50, 80 and 90 %, and of CIFAR-10 asymmetric 40 %; by k.
TABLE_1 = {
    "cifar10": {
        1: "91.80 ± 0.51  91.16 ± 0.25  90.95 ± 0.24  90.71 ± 0.07  91.81 ± 0.05",
        5: "93.53 ± 0.21  92.63 ± 0.05  89.89 ± 0.07  89.57 ± 0.30  91.82 ± 0.19",
    },
    "cifar100": {
        1: "72.48 ± 0.44  67.08 ± 0.35  60.37 ± 0.31  54.04 ± 0.57",
        5: "73.05 ± 0.20  68.61 ± 0.34  60.51 ± 0.19  52.49 ± 0.18",
    },
}
HUMAN = ("aggregate", "random1", "worst")
KINDS_OF_DATA = ["text"]
"""Presets that are of no experiment, for a user's own data."""


# Table 5, by its rows; and Sec. 4.1: 1,000 balanced trusted images.
CIFAR = {
    "noisy_batch": 128,
    "trusted_batch": 32,
    "epochs": 15,
    "noisy_augmentation": ["flip", "crop"],
    "trusted_augmentation": ["flip", "crop", "autoaugment"],
    "schedule": "constant",
    "momentum": 0.9,
    "weight_decay": 0,
    "learning_rate": 0.02,
}
TABLE_5 = {
    "cifar10": CIFAR | {"backbone": "resnet34", "trusted_per_class": 100},
    "cifar100": CIFAR | {"backbone": "resnet50", "trusted_per_class": 10},
    "clothing1m": {
        "backbone": "resnet50",
        "init": "imagenet",
        "noisy_batch": 1024,
        "trusted_batch": 1024,
        "epochs": 3,
        "noisy_augmentation": [],
        "trusted_augmentation": ["flip", "autoaugment"],
        "schedule": "step",
        "momentum": 0.9,
        "weight_decay": 0,
        "learning_rate": 0.1,
    },
}
METHOD = {
    "gate_hidden_dim": 128,
    "method": "emlc",
    "teacher": "gate",
    "teacher_learning_rate": None,
    "teacher_momentum": None,
    "teacher_weight_decay": None,
    "nesterov": False,
    "meta_gradient": "approximate",
    "meta_weight": 1,
    "ce_weight": 1,
    "bce_weight": 1,
    "corruption": "adversarial",
    "warm_up_epochs": None,
}
# The authors' code on CIFAR: what both versions have in place of the above, and what each has.
AUTHORS = {
    "trusted_batch": 128,
    "weight_decay": 0.0005,
    "teacher_momentum": 0,
    "teacher_weight_decay": 0,
}
VERSIONS = {
    "first": AUTHORS | {"bce_weight": 1, "corruption": "adversarial", "student_trusted": True},
    "head": AUTHORS | {"bce_weight": 0, "student_trusted": False},
}


def content(name, command="train"):
    return yaml.safe_load(preset_path(name, command).read_text(encoding="utf-8"))


ROWS = {
    "cifar10": ["--noise", "symmetric", "--noise_rate", "0.8"],
    "cifar100": ["--noise", "asymmetric", "--noise_rate", "0.4"],
    "cifar10n": ["--human_labels_key", "worst"],
    "clothing1m": [],
    "cifar10-authors-first": ["--noise", "symmetric", "--noise_rate", "0.2"],
    "cifar10-authors-head": ["--noise", "asymmetric", "--noise_rate", "0.4"],
    "cifar100-authors-first": ["--noise", "symmetric", "--noise_rate", "0.5"],
    "cifar100-authors-head": ["--noise", "symmetric", "--noise_rate", "0.9"],
}
"""The paper's data sets, CIFAR-10N, and the authors' code, with what their presets leave to the user."""
PAPERS_TEXT = [name for name in ROWS if "authors" not in name]
OTHER_METHODS = [name for name in preset_names("train") if name not in {*KINDS_OF_DATA, *ROWS}]


def test_the_preset_for_texts_is_for_any_data():
    values = content("text")
    given = Settings(data="reviews.csv", trusted="checked.csv", **values).as_dict()
    assert given["text_column"] == "text"
    assert not set(values) & {"data", "trusted", "output", "noise", "seed", "device"}


@pytest.mark.parametrize("name", PAPERS_TEXT)
def test_every_preset_has_the_values_of_the_paper(name):
    settings = Settings(**content(name)).as_dict()
    expected = TABLE_5[settings["data"]] | METHOD | {"output": f"runs/{name}"}
    assert {key: settings[key] for key in expected} == expected
    assert settings["data"] == name.removesuffix("n")
    assert (settings["human_labels"] is None) == (name != "cifar10n")
    assert settings["student_trusted"] == (name == "clothing1m")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_the_presets_of_the_authors_code_have_its_values(data, version):
    name = f"{data}-authors-{version}"
    settings = Settings(**content(name)).as_dict()
    expected = TABLE_5[data] | METHOD | VERSIONS[version] | {"output": f"runs/{name}"}
    assert {key: settings[key] for key in expected} == expected
    assert settings["data"] == data


@pytest.mark.parametrize("name", ROWS)
def test_no_new_default_changes_a_preset_of_the_paper(name):
    losses = {"meta_weight", "ce_weight", "bce_weight", "student_trusted"}
    optimisers = {"noisy_batch", "trusted_batch", "learning_rate", "momentum", "weight_decay", "schedule"}
    networks = {"backbone", "stem", "init", "label_embedding_dim", "gate_hidden_dim"}
    images = {"noisy_augmentation", "trusted_augmentation"}
    settings = content(name)
    assert settings.keys() >= {"teacher", "meta_gradient", "epochs", *losses, *optimisers, *networks, *images}
    assert "corruption" in settings or settings["bce_weight"] == 0
    assert Settings(**settings).warm_up == 0


@pytest.mark.parametrize("name", preset_names("train"))
def test_every_preset_names_its_schedule(name):
    assert "schedule" in content(name)


@pytest.mark.parametrize("name", ROWS)
def test_the_presets_of_the_paper_leave_noise_and_look_ahead_to_the_user(name):
    assert not set(content(name)) & {
        "noise",
        "noise_rate",
        "human_labels_key",
        "look_ahead",
        "seed",
        "device",
    }


@pytest.mark.parametrize("name", [name for name in ROWS if ROWS[name]])
def test_what_a_preset_leaves_to_the_user_is_demanded(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--seed", "1"], ["--epochs", "x"]):
        assert main(["train", "--preset", name, *options]) == 2
        assert (
            f"{ROWS[name][0][2:]}: preset {name} leaves it to you: {ROWS[name][0]} "
            in capsys.readouterr().err
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [["--noise", "none"], ["--noise=none"], ["--human_labels", "no.pt"]])
def test_labels_that_are_right_can_be_asked_for_too(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "no.csv", "--preset", "mlc-cifar10", *given]) == 2
    assert capsys.readouterr().err.startswith("emlc: error: no.csv: no such file")


@pytest.mark.parametrize("name", OTHER_METHODS)
def test_the_presets_of_other_methods_leave_the_noise_to_the_user(name):
    values = content(name)
    settings = Settings(**values)
    assert name == f"{settings.method}-{settings.data}"
    assert values["output"] == f"runs/{name}"
    assert not set(values) & {"noise", "noise_rate", "seed", "device"}


@pytest.mark.parametrize("name", TABLE_1)
def test_the_figures_to_expect_are_those_of_table_1(name):
    lines = preset_comment(name, "train").splitlines()
    for k, figures in TABLE_1[name].items():
        (line,) = (line for line in lines if line.startswith(f"  k = {k}: "))
        assert line.split()[3:] == figures.split()


def test_the_figures_to_expect_of_clothing1m_are_those_of_table_2():
    assert preset_summary("clothing1m", "train").endswith(
        ": expect 79.35 % test accuracy with k = 1, 78.16 % with --look_ahead 5."
    )


# README of SupContrast, SimCLR, and the defaults of its main_supcon.py.
SIMCLR = {
    "batch": 1024,
    "learning_rate": 0.5,
    "temperature": 0.5,
    "epochs": 1000,
    "warm_up_epochs": 10,
    "weight_decay": 1e-4,
    "momentum": 0.9,
    "optimizer": "sgd",
    "projection_dim": 128,
    "views": ["crop", "flip", "colour", "grey"],
    "smallest_crop": 0.2,
}


def test_what_is_pretrained_is_what_training_starts_from():
    pretrained = {}
    for name in preset_names("pretrain"):
        settings = PretrainSettings(**content(name, "pretrain")).as_dict()
        assert {key: settings[key] for key in SIMCLR} == SIMCLR
        assert settings["trusted_per_class"] == TABLE_5[settings["data"]]["trusted_per_class"]
        pretrained[settings["data"], settings["backbone"]] = f"{settings['output']}/backbone.safetensors"
    for name in ROWS:
        settings = content(name)
        if settings["data"] != "clothing1m":
            assert settings["init"] == pretrained[settings["data"], settings["backbone"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_preset_is_answered_with_near_ones(command):
    with pytest.raises(InputError, match=rf"`emlc {command}` has no preset 'simclr-cifar10'; did you mean"):
        preset_path("simclr-cifar10", command)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("cifar10-sym80-k1", "cifar10"),
        ("cifar100-asym40-k5", "cifar100"),
        ("cifar10n-worst-k1", "cifar10n"),
        ("clothing1m-k5", "clothing1m"),
    ],
)
def test_a_name_with_noise_and_k_is_answered_with_the_one_without(name, near):
    with pytest.raises(InputError, match=rf"did you mean {near}\? Noise and k are options beside it"):
        preset_path(name, "train")


def test_a_preset_is_a_configuration_that_options_win_over(capsys):
    for option in (["--preset", "mlc-cifar10"], ["--preset=mlc-cifar10"]):
        with pytest.raises(SystemExit):
            main(["train", *option, "--epochs", "4", "--print_config"])
        printed = yaml.safe_load(capsys.readouterr().out)
        expected = content("mlc-cifar10") | {"epochs": 4}
        del expected["data"], expected["hyper"]  # given beside the options, and with defaults filled in
        assert {key: printed[key] for key in expected} == expected


def test_a_value_may_be_called_as_a_preset_is(capsys):
    with pytest.raises(SystemExit):
        main(["train", "text", "--preset", "text", "--label_column", "text", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["label_column"], printed["text_column"]) == ("text", "text")


def test_all_problems_beside_a_preset_are_reported(capsys):
    options = ["--preset", "cifar10", "--epochs", "0", "--noise_rates", "1", "--workers", "two"]
    assert main(["train", *options]) == 2
    message = capsys.readouterr().err
    for problem in (
        "epochs: expected at least 1",
        "noise_rates: no such setting",
        "workers: expected an integer",
    ):
        assert problem in message
    for command, name in (("train", "mlc-cifar1"), ("pretrain", "simclr-cifar10-resnet5")):
        assert main([command, "--preset", name]) == 2
        message = capsys.readouterr().err
        assert re.search(rf"`emlc {command}` has no preset '{name}'; did you mean .*{name[:-1]}", message)


def test_presets_are_listed(capsys):
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out
    for command in COMMANDS:
        for name in preset_names(command):
            assert re.search(rf"^  {name} +{re.escape(preset_summary(name, command))}$", listed, re.M)


# Two steps of each, on a few random images, with smaller networks of the kind that is named


class Small(ResNet):
    """An eighth as wide as torchvision's."""

    def _make_layer(self, block, planes, *args, **options):
        return super()._make_layer(block, planes // 8, *args, **options)


def small(name, **_):
    """One block a stage, instead of 3 to 6."""
    return Small({"resnet34": BasicBlock, "resnet50": Bottleneck}[name], [1, 1, 1, 1])


def encoded_image(seed, size, kind):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_cifar(folder, classes, images_a_class):
    """As Hugging Face has them; the labels of the training images are returned."""
    labels = np.arange(images_a_class * len(classes)) % len(classes)
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    folder.mkdir()
    for part, of_part, first in (("train", labels, 0), ("test", labels[:5], 1000)):
        files = [encoded_image(first + i, (32, 32), "png") for i in range(len(of_part))]
        images = [{"bytes": file, "path": f"{i}.png"} for i, file in enumerate(files)]
        table = pa.table({"image": images, "label": of_part}).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return labels


def write_clothing1m(folder):
    counts = {"noisy_train": 12, "clean_train": 14, "clean_val": 2, "clean_test": 2}
    for seed, (part, count) in enumerate(counts.items()):
        names = [f"images/{part}/{i}.jpg" for i in range(count)]
        (folder / "images" / part).mkdir(parents=True)
        for i, name in enumerate(names):
            (folder / name).write_bytes(encoded_image(1000 * seed + i, (300, 260), "jpeg"))
        (folder / f"{part}_key_list.txt").write_text("".join(f"{name}\n" for name in names))
        with (folder / f"{part.split('_')[0]}_label_kv.txt").open("a") as pairs:
            pairs.writelines(f"{name} {i % 14}\n" for i, name in enumerate(names))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A directory with little data of every kind, and the weights that presets start from.

    Those for CIFAR are made by two steps of the presets for pretraining.
    """
    folder = tmp_path_factory.mktemp("presets")
    (folder / "data").mkdir()
    labels = write_cifar(folder / "data/cifar10", CIFAR10_CLASSES, 3)
    write_cifar(folder / "data/cifar100", CIFAR100_CLASSES, 2)
    write_clothing1m(folder / "data/clothing1m")
    columns = {"aggre_label": 1, "random_label1": 2, "worse_label": 3}
    human = {name: (labels + (labels % 10 < wrong)) % 10 for name, wrong in columns.items()}
    torch.save({"clean_label": labels, **human}, folder / "CIFAR-10_human.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("emlc.architectures.layers.build_network", small)
        options = ["--epochs", "1", "--warm_up_epochs", "0", "--trusted_per_class", "1"]
        options += ["--data_root", "data", "--device", "cpu"]
        for name, batch in (("simclr-cifar10-resnet34", "15"), ("simclr-cifar100-resnet50", "100")):
            assert main(["pretrain", "--preset", name, "--batch", batch, *options]) == 0
    (folder / "torch/hub/checkpoints").mkdir(parents=True)
    imagenet = folder / "torch/hub/checkpoints" / get_model_weights("resnet50").DEFAULT.url.split("/")[-1]
    torch.save(small("resnet50").state_dict(), imagenet)
    return folder


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains(name, k, material, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(material)
    monkeypatch.setenv("TORCH_HOME", str(material / "torch"))
    monkeypatch.setattr("emlc.architectures.layers.build_network", small)
    monkeypatch.setattr("emlc.architectures.weight_files.build_network", small)
    monkeypatch.setattr("emlc.runs.results.plots.save_run_plots", lambda *_: None)
    # A group of k batches and a shorter one: two steps.
    batches = k + 1
    options = [
        "--noisy_batch",
        "2",
        "--trusted_batch",
        "4",
        "--noisy_limit",
        str(2 * batches),
        "--epochs",
        "1",
    ]
    options += [*ROWS[name], "--look_ahead", str(k)]
    options += ["--data_root", "data", "--device", "cpu", "--output", str(tmp_path / "run")]
    if name == "clothing1m":
        options += ["--schedule", "constant", "--schedule_epochs", "null"]
    else:
        options += ["--trusted_per_class", "1"]
    assert main(["train", "--preset", name, *options]) == 0
    messages = capsys.readouterr().err
    init = content(name)["init"]
    source = "torchvision's ResNet50_Weights" if init == "imagenet" else init
    for network in ("student", "teacher"):
        assert re.search(rf"^{network}: \d+ tensors from {re.escape(source)}", messages, re.M)
    steps = pd.read_csv(tmp_path / "run/steps.csv")
    assert len(steps) == 2
    assert np.isfinite(steps).all(axis=None)
    assert len(pd.read_csv(tmp_path / "run/labels.csv")) == 2 * batches
