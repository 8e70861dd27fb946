"""Runs of somebody else's whose files describe networks that no machine can hold."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests import tiny

from emlc.errors import InputError
from emlc.runs.beside import load_comparison
from emlc.runs.run import Run
from emlc.runs.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("foreign") / "run").folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _change(file: Path, **changes: object) -> None:
    is_json = file.suffix == ".json"
    values = (json.loads if is_json else yaml.safe_load)(file.read_text())
    file.write_text((json.dumps if is_json else yaml.safe_dump)({**values, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"input_shape": [10**6]},
        {"classes": [f"c{k}" for k in range(10**5)]},
        {"input_shape": [1, 1000, 1000]},
    ],
)
def test_a_description_of_larger_networks_takes_no_memory(copy, changes):
    _change(copy / "model.json", **changes)
    with pytest.raises(
        InputError, match=r"\.safetensors: not the weights of this (student|teacher): .* shape"
    ):
        Run.load(copy, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 2**40},
        {"label_embedding_dim": 2**40, "teacher": "gate"},
        {"gate_hidden_dim": 2**40, "teacher": "gate"},
    ],
)
def test_settings_of_larger_networks_take_no_memory(copy, changes):
    _change(copy / "settings.yaml", **changes)
    with pytest.raises(InputError):
        Run.load(copy, device="cpu")


@pytest.mark.parametrize(
    "shape", [[10**5, 10**5], [3, 10**6, 10**6], [0], [-1], ["4"], [4.0], 4, [True], None]
)
def test_an_input_shape_that_is_none(copy, shape):
    _change(copy / "model.json", input_shape=shape)
    with pytest.raises(InputError, match=r"model\.json"):
        Run.load(copy, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": [1, 2, 3]},
        {"classes": "cat"},
        {"columns": [{"kind": "no such"}], "feature_columns": ["a"]},
        {"columns": [{"kind": "number", "name": "a", "shift": "x"}], "feature_columns": ["a"]},
        {"columns": [{"kind": "number", "name": "a", "scale": float("nan")}], "feature_columns": ["a"]},
        {"columns": [{"kind": "number", "name": "a"}], "feature_columns": ["b"]},
        {"image_range": ["a", "b"]},
        {"odd": 1},
    ],
)
def test_values_of_other_types(copy, changes):
    _change(copy / "model.json", **changes)
    with pytest.raises(InputError, match=r"model\.json"):
        Run.load(copy, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"width": 2**24, "backbone": "mlp"},
            r"weights take 2\.1e\+06 GiB, more than the",
        ),
        ({"label_embedding_dim": 2**22, "gate_hidden_dim": 2**24, "teacher": "gate"}, "of this machine"),
        ({"width": 10**400}, r"width: expected between 1 and 16777216"),
    ],
)
def test_larger_networks_than_the_machine_are_not_trained(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train(tiny.settings(output=str(tmp_path / "run"), **changes), tiny.samples(), lean=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "accuracy", [{}, {"emlc": 50.0}, {"emlc": None, "given labels": 50.0}, {"emlc": "x"}, [1], None]
)
def test_a_damaged_comparison_with_rivals_is_one_message(tmp_path, accuracy):
    values = {"measured_on": "test", "samples": 9, "standing": "worse", "rival": "given labels", "moved": []}
    (tmp_path / "rivals.json").write_text(json.dumps({**values, "accuracy": accuracy}))
    with pytest.raises(InputError, match=r"rivals\.json: not the comparison of a run"):
        load_comparison(tmp_path)
