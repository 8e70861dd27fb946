"""Somebody else's run or configuration file runs no code here, and has nothing written where it likes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from tests import tiny

from emlc.cli import main
from emlc.errors import InputError
from emlc.runs.run import Run
from emlc.runs.train import train

_CODE = """
from pathlib import Path
from torch import nn

Path("ran").touch()

def make(input_shape):
    return nn.Linear(input_shape[0], 3)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of a name of its own, which tells when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    module = tmp_path / f"net_{abs(hash(tmp_path)):x}.py"
    module.write_text(_CODE)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return tmp_path


def _code(place: Path) -> str:
    return f"{next(place.glob('net_*.py')).stem}:make"


def _foreign(place: Path, **changes: object) -> Path:
    """A run made here whose settings somebody has changed."""
    train(tiny.settings(output="run", epochs=1), tiny.samples(), lean=True)
    file = place / "run" / "settings.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))
    return place / "run"


def test_the_code_that_a_run_names_is_not_imported(place):
    run = _foreign(place, backbone=_code(place))
    with pytest.raises(InputError, match=rf"backbone: {_code(place)} is code .*{place}.*--trust_code"):
        Run.load(run, device="cpu")
    assert not (place / "ran").exists()


@pytest.mark.parametrize("name", ["pip:main", "os.path:abspath", "no_such_module:make", "__main__:make"])
def test_no_other_callable_is_called_either(place, name):
    run = _foreign(place, teacher_backbone=name)
    with pytest.raises(InputError, match=f"teacher_backbone: {name} is code"):
        Run.load(run, device="cpu")


def test_a_dotted_name_does_not_import_its_package(place):
    package = place / f"package_{abs(hash(place)):x}"
    package.mkdir()
    (package / "__init__.py").write_text(_CODE)
    run = _foreign(place, backbone=f"{package.name}.inner:make")
    with pytest.raises(InputError, match="is code"):
        Run.load(run, device="cpu")
    assert not (place / "ran").exists()


def test_a_run_made_here_opens_again_but_not_with_other_code_of_that_name(place, monkeypatch):
    train(tiny.settings(output="own", epochs=1, backbone=_code(place)), tiny.samples(), lean=True)
    (place / "ran").unlink()
    Run.load("own", device="cpu")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(next(place.glob("net_*.py")), elsewhere)
    monkeypatch.chdir(elsewhere)
    monkeypatch.delitem(sys.modules, _code(place).partition(":")[0])  # as in another process
    with pytest.raises(InputError, match="is code"):
        Run.load(place / "own", device="cpu")
    Run.load(place / "own", device="cpu", trust_code=True)
    assert json.loads((place / "state/emlc/trusted.json").read_text())["code"] == [
        [_code(place), str(next(place.glob("net_*.py")))]
    ]


def test_a_configuration_file_brings_no_code_unless_it_is_trusted(place, capsys):
    tiny_options = {"trusted_column": "checked", "epochs": 1, "backbone": _code(place), "rivals": False}
    Path("train.yaml").write_text(yaml.safe_dump({**tiny_options, "trust_code": True}))
    _write_table(place / "data.csv")
    command = ["train", "data.csv", "--config", "train.yaml", "--output", "out"]
    assert main(command) == 2
    assert "--trust_code" in capsys.readouterr().err
    assert not (place / "ran").exists()
    assert not (place / "out").exists()
    assert main([*command, "--trust-code"]) == 0
    assert main(["predict", "out", "data.csv"]) == 0  # remembered


def test_code_that_the_user_types_needs_no_further_word(place):
    _write_table(place / "data.csv")
    options = ["--trusted_column", "checked", "--epochs", "1", "--rivals", "false", "--output", "out"]
    assert main(["train", "data.csv", "--backbone", _code(place), *options]) == 0


def _write_table(file: Path) -> None:
    samples = tiny.samples()
    rows = [
        f"{n},{x[0]:.3f},{x[1]:.3f},{tiny.CLASSES[y]},{n < 20}"
        for n, (x, y) in enumerate(zip(samples.inputs.tolist(), samples.given.tolist(), strict=True))
    ]
    file.write_text("\n".join(["id,a,b,label,checked", *rows]) + "\n")


def test_folders_of_a_foreign_run_are_not_written_to(place, logged):
    folders = {name: str(place / name) for name in ("image_cache", "embedding_cache", "data_root")}
    run = _foreign(place, data="cifar10", **folders)
    settings = Run.load(run, device="cpu").settings
    assert (settings.image_cache, settings.embedding_cache) == (None, None)
    assert settings.data_root == "~/.cache/emlc"
    assert f"image_cache: {place / 'image_cache'} was not used here before" in logged.text
    assert not any((place / name).exists() for name in folders)
    assert Run.load(run, device="cpu", trust_code=True).settings.image_cache == folders["image_cache"]


def test_folders_that_were_used_here_are_used_again(place):
    settings = tiny.settings(output="own", epochs=1, image_cache=str(place / "cache"))
    train(settings, tiny.samples(), lean=True)
    assert Run.load("own", device="cpu").settings.image_cache == str(place / "cache")


def test_folders_of_a_configuration_file_are_written_to_only_if_somebody_names_them_here(place, capsys):
    _write_table(place / "data.csv")
    caches = {"image_cache": str(place / "pixels"), "embedding_cache": "vectors"}
    options = {"trusted_column": "checked", "epochs": 1, "rivals": False, "trust_code": True}
    Path("train.yaml").write_text(yaml.safe_dump({**options, **caches}))
    command = ["train", "data.csv", "--config", "train.yaml", "--output", "out"]
    assert main(command) == 2
    error = capsys.readouterr().err
    for name, folder in caches.items():
        assert f"train.yaml: {name}: files would be written to {folder}, which was not used" in error
    assert not any(Path(name).exists() for name in ("pixels", "vectors", "out"))
    assert main([*command, "--image_cache", caches["image_cache"]]) == 2
    assert main([*command, "--image_cache", caches["image_cache"], "--embedding_cache", "vectors"]) == 0
    assert main([*command[:-1], "again"]) == 0  # remembered


def test_the_output_of_a_configuration_file_is_told_before_it_is_written_to(place, capsys):
    Path("train.yaml").write_text(f"data: data.csv\noutput: {place / 'runs'}\ntrusted: none.csv\n")
    for name in ("data.csv", "none.csv"):
        Path(name).touch()
    assert main(["train", "--config", "train.yaml"]) == 2
    assert f"output: {place / 'runs'}, as the configuration file says" in capsys.readouterr().err
    assert main(["train", "--config", "train.yaml", "--output", "runs"]) == 2
    assert "as the configuration file says" not in capsys.readouterr().err


@pytest.mark.parametrize("complete", [True, False])
def test_data_in_a_folder_of_a_configuration_file_are_read_but_not_downloaded(place, capsys, complete):
    Path("data").mkdir()
    if complete:
        Path("data/train-00000.parquet").touch()
    Path("train.yaml").write_text("data: cifar10\ndata_root: data\ntrusted_per_class: 2\n")
    assert main(["train", "--config", "train.yaml", "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert ("data_root: files would be written to data" in error) is not complete
    assert len(list(Path("data").iterdir())) == complete
