import math
import os.path
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest
import yaml

from emlc.config import PretrainSettings, Settings, facts_of, groups, names_of, paths_of
from emlc.errors import InputError, InputErrors

VALID = {"data": "digits", "trusted_per_class": 10}

OUT_OF_RANGE = {
    "trusted_per_class": [0, -1],
    "image_size": [0],
    "resize": [0],
    "memory_gib": [-0.1, math.nan, math.inf],
    "noisy_limit": [0],
    "noise_rate": [-0.1, 1.1, math.nan],
    "width": [0],
    "label_embedding_dim": [0],
    "gate_hidden_dim": [0],
    "look_ahead": [0, -2],
    "meta_weight": [-1.0, math.nan, math.inf],
    "ce_weight": [-0.1, math.nan],
    "bce_weight": [-0.1, math.inf],
    "likelihood_weight": [-0.1, math.inf],
    "anchor_weight": [-0.1, math.inf],
    "epochs": [0],
    "warm_up_epochs": [-1],
    "noisy_batch": [1],
    "trusted_batch": [1],
    "weight_decay": [-1e-9, math.nan],
    "seed": [-1, 2**63],
    "workers": [0],
    "devices": [0],
    "checkpoint_every": [0],
    "learning_rate": [0.0, -1.0, math.inf, math.nan],
    "teacher_learning_rate": [0.0, math.inf],
    "teacher_weight_decay": [-1e-9, math.nan],
    "momentum": [1.0, -0.1, math.nan],
    "teacher_momentum": [1.0, -0.1, math.nan],
    "test_fraction": [0.0, 1.0, math.nan],
    "validation_fraction": [0.0, 1.0],
    "device": ["gpu", "cuda:", "cuda:x", "cpu0"],
    "backbone": ["resnet 18", "", "nets:", "a:b:c"],
    "teacher_backbone": ["/nets.py:net"],
    "stem": ["small"],
    "method": ["mcl"],
    "overlap": ["ignore"],
    "separator": ["", "::"],
    "encoding": ["utf-9", "base64", ""],
    "repeated_ids": ["drop"],
    "noise": ["flip"],
    "noise_draw": ["all"],
    "meta_gradient": ["precise"],
    "jvp": ["reverse"],
    "corruption": ["none"],
    "schedule": ["linear"],
    "schedule_factor": [0.0, 1.0, math.nan],
    "noisy_augmentation": [["flip", "mixup"]],
    "trusted_augmentation": [["mixup"]],
}

CLASHES = [
    ({"nesterov": True, "momentum": 0.0}, "nesterov: needs momentum"),
    ({"nesterov": True, "teacher_momentum": 0.0}, "nesterov: needs teacher_momentum"),
    ({"test": "t.csv", "test_fraction": 0.5}, "test and test_fraction"),
    ({"separator": "\n"}, "separator: expected one character, or tab, got '\\n'"),
    ({"classes": ["cat", "cat"]}, "classes: expected at least one name, and no name twice"),
    ({"classes": []}, "classes: expected at least one name, and no name twice"),
    ({"trusted": "t.csv"}, "give exactly one of the three, got trusted and trusted_per_class"),
    (
        {"trusted_column": "t", "trusted_per_class": None, "trusted": "t.csv"},
        "got trusted and trusted_column",
    ),
    ({"trusted_per_class": None}, "got none"),
    ({"noise": "symmetric"}, "noise_rate: symmetric noise needs a rate"),
    ({"noise": "asymmetric"}, "noise_rate: asymmetric noise needs a rate"),
    ({"noise": "matrix"}, "noise and noise_matrix"),
    ({"noise_matrix": "m.csv"}, "noise and noise_matrix"),
    ({"noise_rate": 0.2}, "noise_rate: has no meaning with --noise none"),
    ({"noise": "matrix", "noise_matrix": "m.csv", "noise_rate": 0.2}, "no meaning with --noise matrix"),
    ({"meta_gradient": "exact", "jvp": "finite-difference"}, "meta_gradient and jvp"),
    ({"resize": 256}, "resize: needs an image_size of at most 256, got none"),
    ({"resize": 200, "image_size": 224}, "resize: needs an image_size of at most 200, got 224"),
    ({"human_labels_key": "worst"}, "human_labels_key: "),
    ({"human_labels": "h.pt", "true_label_column": "t"}, "human_labels and true_label_column: "),
    ({"human_labels": "h.pt", "noise": "symmetric", "noise_rate": 0.5}, "human_labels and noise: "),
    ({"schedule": "step"}, "schedule and schedule_epochs"),
    ({"schedule": "step", "schedule_epochs": []}, "schedule and schedule_epochs"),
    ({"schedule": "cosine", "schedule_epochs": [1]}, "schedule and schedule_epochs"),
    (
        {"schedule": "step", "schedule_epochs": [0, 1], "epochs": 15},
        "schedule_epochs: expected rising numbers from 1 to 14",
    ),
    ({"schedule": "step", "schedule_epochs": [2, 2]}, "schedule_epochs: expected rising"),
    ({"schedule": "step", "schedule_epochs": [15], "epochs": 15}, "schedule_epochs: expected rising"),
    ({"backbone": "cnn", "teacher_backbone": "mlp", "init": "a.pt"}, "teacher_init: needed with init"),
    ({"warm_up_epochs": 1, "teacher_init": "imagenet"}, "warm_up_epochs and teacher_init"),
]


def problems(**changes):
    with pytest.raises(InputErrors) as caught:
        Settings(**(VALID | changes))
    return caught.value.problems


def test_every_limit_has_a_case():
    assert names_of(Settings, lambda facts: facts.bounds) <= set(OUT_OF_RANGE)
    assert names_of(PretrainSettings, lambda facts: facts.bounds) <= set(OUT_OF_RANGE) | set(PRETRAINING)


TEXTS = {
    *("trusted_column", "label_column", "true_label_column", "id_column", "image_column", "text_column"),
    *("human_labels_key", "method", "backbone", "teacher_backbone", "device", "background"),
    *("separator", "encoding"),
}
"""Settings that are texts, and name columns, methods, networks, devices, formats: nothing of one machine."""


@pytest.mark.parametrize("kind", [Settings, PretrainSettings])
def test_every_setting_that_is_a_text_says_whether_it_is_a_path(kind):
    texts = {name for name, hint in get_type_hints(kind).items() if str in (hint, *get_args(hint))}
    paths = names_of(kind, lambda facts: facts.path)
    assert "output" in paths
    assert paths == texts - TEXTS


def test_names_are_no_paths_and_paths_are(tmp_path):
    names = {"data": "digits", "init": "imagenet", "text_model": "org/model", "text_column": "t"}
    settings = Settings(**(VALID | names))
    assert paths_of(settings).keys() == {"data_root", "embedding_cache"}
    (tmp_path / "model").mkdir()
    paths = {"data": "digits.csv", "init": "a/imagenet", "text_model": str(tmp_path / "model"), "test": "~/t"}
    paths["test"] = os.path.expanduser("~/t")
    assert paths_of(Settings(**(VALID | names | paths))).items() >= paths.items()
    assert paths_of(Settings(**(VALID | names | paths)), "model", "file").keys() == {"init", "text_model"}


def test_paths_in_the_home_folder_are_found_there(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(**(VALID | {"data": "~/a.csv", "test": "~/b.csv", "output": "~/run"}))
    assert [settings.data, settings.test] == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]
    assert settings.output == f"{tmp_path}/run"
    assert settings.data_root == "~/.cache/emlc"  # of this machine
    assert PretrainSettings(data="~/a.csv", output="~/run").output == f"{tmp_path}/run"


PRETRAINING = {
    "batch": ([1], "at least 2"),
    "temperature": ([0.0, math.inf, math.nan], "more than 0"),
    "projection_dim": ([0, 2**24 + 1], "between 1 and 16777216"),
    "smallest_crop": ([0.0, 1.1, math.nan], "more than 0 and at most 1"),
    "colour_strength": ([-0.1, 1.1], "between 0 and 1"),
    "momentum": ([-0.1, 1.0], "at least 0 and below 1"),
}


@pytest.mark.parametrize(
    ("name", "value", "range"), [(n, v, said) for n, (values, said) in PRETRAINING.items() for v in values]
)
def test_a_value_of_pretraining_out_of_range_is_told_its_range(name, value, range):
    with pytest.raises(InputErrors) as caught:
        PretrainSettings(data="digits", **{name: value})
    assert caught.value.problems == [f"{name}: expected {range}, got {value}"]


def test_defaults_are_within_their_bounds():
    for kind in (Settings, PretrainSettings):
        for name, facts in facts_of(kind).items():
            default = getattr(kind, name)
            assert not facts.bounds or default is None or facts.expected(default) is None, name


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in OUT_OF_RANGE.items() for v in values])
def test_a_value_out_of_range_is_named(name, value):
    rest = {"noise": "symmetric"} if name == "noise_rate" else {}
    (problem,) = problems(**rest, **{name: value})
    assert problem.startswith(f"{name}: expected")
    assert str(value[-1] if isinstance(value, list) else value) in problem


@pytest.mark.parametrize("name", ["epochs", "noisy_limit", "trusted_batch", "checkpoint_every"])
def test_an_integer_beyond_those_that_floats_hold_is_refused(name):
    assert problems(**{name: 10**4000}) == [f"{name}: expected at most 9007199254740992, got a larger number"]
    assert getattr(Settings(**VALID, **{name: 2**53}), name) == 2**53


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise_rate", 1.0),
        ("trusted_per_class", 1),
        ("look_ahead", 1),
        ("meta_weight", 0.0),
        ("ce_weight", 0.0),
        ("bce_weight", 0.0),
        ("likelihood_weight", 0.0),
        ("anchor_weight", 0.0),
        ("epochs", 1),
        ("noisy_batch", 2),
        ("trusted_batch", 2),
        ("momentum", 0.0),
        ("seed", 2**63 - 1),
        ("workers", 1),
        ("devices", 1),
        ("device", "cuda:11"),
        ("teacher_backbone", "resnet50"),
        ("backbone", "my.nets:Nets.small"),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(name, value):
    rest = {"noise": "symmetric"} if name == "noise_rate" else {}
    assert getattr(Settings(**(VALID | rest | {name: value})), name) == value


@pytest.mark.parametrize(("changes", "message"), CLASHES)
def test_settings_that_clash_are_named(changes, message):
    (problem,) = problems(**changes)
    assert message in problem


def test_all_problems_are_reported_together():
    bad = {name: values[0] for name, values in OUT_OF_RANGE.items() if name != "noise"}
    with pytest.raises(InputError) as caught:
        Settings(**(VALID | bad | {"noise": "matrix", "test": "t.csv"}))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the settings, {len(lines) - 1} problems:"
    for name in bad:
        assert any(line.startswith(f"  - {name}: ") for line in lines), name
    for clash in ("test and test_fraction", "noise and noise_matrix"):
        assert any(clash in line for line in lines)


def test_a_single_problem_is_one_line():
    with pytest.raises(InputError, match=r"\Aepochs: expected at least 1, got 0\Z"):
        Settings(**VALID, epochs=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "trusted_per_class": None,
            "trusted": "a b.csv",
            "classes": ["yes", "no", "007", "1e3"],
            "feature_columns": ["x", "y"],
            "noisy_augmentation": [],
            "trusted_augmentation": ["flip", "autoaugment"],
            "weight_decay": 5e-5,
            "meta_weight": 1e-7,
            "backbone": "resnet18",
            "teacher_backbone": "nets:small",
            "init": "imagenet",
            "teacher_init": "none",
            "schedule": "step",
            "schedule_epochs": [5, 10],
            "seed": 2**62,
            "output": "runs/ü: #1",
        },
    ],
)
def test_settings_survive_yaml(changes):
    settings = Settings(**(VALID | changes))
    text = yaml.safe_dump(settings.as_dict(), sort_keys=False)
    assert Settings(**yaml.safe_load(text)) == settings


def test_as_dict_has_every_setting_in_the_order_of_the_groups():
    names = [field.name for group in groups(Settings) for field in fields(group)]
    assert list(Settings(**VALID).as_dict()) == names
    assert set(names) == {field.name for field in fields(Settings)}


def test_values_of_another_type_are_reported_together() -> None:
    with pytest.raises(InputError) as caught:
        Settings(**VALID | {"epochs": "3", "momentum": True, "look_ahead": 1.5, "classes": "a"})
    text = str(caught.value)
    assert "epochs: expected int or none, got '3'" in text
    assert "momentum: expected float or int, got True" in text
    assert "look_ahead: expected int, got 1.5" in text
    assert "classes: expected list or none, got 'a'" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_range": ["a", "b"]}, "image_range: item 0: expected float or int, got 'a'"),
        ({"image_range": [0, None]}, "image_range: item 1: expected float or int, got None"),
        ({"classes": [["a"]]}, r"classes: item 0: expected str, got \['a'\]"),
        ({"classes": ["a", 1]}, "classes: item 1: expected str, got 1"),
        ({"schedule": "step", "schedule_epochs": ["1"]}, "schedule_epochs: item 0: expected int, got '1'"),
        ({"schedule_epochs": [1, 2.5]}, "schedule_epochs: item 1: expected int, got 2.5"),
        ({"noisy_augmentation": [["flip"]]}, r"noisy_augmentation: item 0: expected str, got \['flip'\]"),
    ],
    ids=str,
)
def test_an_item_of_another_type_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        Settings(**VALID | changes)
