"""Runs used from Python: read again from their directories, and what is broken in these."""

import csv
import io
import json
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file, save_file

import tiny
from emlc import InputError, Run, Samples, train
from emlc.labels.decision import Decision
from emlc.runs.calibration import _few

QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.trained(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(run, tmp_path):
    """The same run in a directory that may be spoilt."""
    return shutil.copytree(run.folder, tmp_path / "copy")


# Using a run


def test_a_loaded_run_predicts_and_corrects_as_before(run):
    again = Run.load(run.folder, device="cpu")
    test = tiny.unlike(60, 3)
    probabilities = again.predict_proba(test.inputs)
    assert torch.equal(probabilities, run.predict_proba(test.inputs))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(60))
    hits = np.array(tiny.CLASSES)[probabilities.argmax(dim=1)] == np.array(test.classes)[test.labels]
    assert 100 * hits.mean() == pytest.approx(run.summary["test_accuracy"], abs=1e-3)
    noisy = tiny.split(run.settings).noisy
    table = again.correct_labels(noisy)
    with (run.folder / "labels.csv").open() as file:
        saved = list(csv.DictReader(file))
    assert [row["corrected_label"] for row in saved] == table["corrected_label"].tolist()
    assert [float(row["retain_weight"]) for row in saved] == pytest.approx(table["retain_weight"].tolist())


def test_the_stored_decision_is_the_one_that_is_used(copy):
    before = Run.load(copy, device="cpu").correct_labels(tiny.unlike(60, 3))
    stored = json.loads((copy / "decision.json").read_text())
    (copy / "decision.json").write_text(json.dumps(stored | {"threshold": 0.0}))
    after = Run.load(copy, device="cpu").correct_labels(tiny.unlike(60, 3))
    assert not after["is_label_issue"].any()
    pd.testing.assert_series_equal(after["label_quality"], before["label_quality"])


def test_without_a_decision_the_run_reads_its_samples_again(copy):
    (copy / "decision.json").unlink()
    with pytest.raises(InputError, match="given from Python, which are not kept"):
        Run.load(copy, device="cpu").correct_labels(tiny.samples())


def test_with_the_samples_at_hand_a_run_is_decided_without_reading_them(run, copy):
    (copy / "decision.json").unlink()
    undecided = Run.load(copy, device="cpu")
    decided = undecided.with_decision(tiny.split(run.settings))
    assert decided.decision == Decision.load(run.folder / "decision.json")
    assert undecided.known_decision is None


def test_the_decision_on_validation_samples_and_a_draw_of_many(run, monkeypatch):
    monkeypatch.setattr("emlc.runs.calibration._MOST_SAMPLES", 40)
    split = tiny.split(run.settings, validation=tiny.unlike(60, 5))
    decision = run.decide(split)
    assert (decision.calibrated_on, decision.trusted_samples) == ("validation", 40)
    assert decision.noisy_samples == 40
    assert decision == run.decide(split)


def test_validation_samples_that_lack_a_class_leave_the_decision_to_the_trusted_ones(run):
    validation = tiny.unlike(60, 5)
    lacking = validation.take(np.append(np.flatnonzero(validation.given > 0), 0))
    split = tiny.split(run.settings, validation=lacking)
    assert run.decide(split) == run.decide(tiny.split(run.settings))
    assert run.decide(split).calibrated_on == "trusted"


def test_of_wide_rows_fewer_decide(run, monkeypatch):
    monkeypatch.setattr("emlc.runs.calibration._MOST_CELLS", 4 * 1500)
    assert len(_few(run, tiny.unlike(2000, 5))) == 1500
    monkeypatch.setattr("emlc.runs.calibration._MOST_CELLS", 1)
    assert len(_few(run, tiny.unlike(2000, 5))) == 1000


def test_after_training_the_decision_is_read_from_no_file(tmp_path, monkeypatch):
    """Other processes may not see at once what the first one writes."""

    def never(path):
        raise AssertionError(path)

    monkeypatch.setattr(Decision, "load", never)
    settings = tiny.settings(output=str(tmp_path / "run"), epochs=1)
    trained = train(settings, tiny.samples(), console=QUIET)
    monkeypatch.undo()
    assert trained.decision == Decision.load(tmp_path / "run" / "decision.json")


def test_labels_do_not_depend_on_the_block(run, monkeypatch):
    samples = tiny.samples()
    whole = run.correct_labels(samples, all_probabilities=True)
    monkeypatch.setattr("emlc.labels.table.BLOCK", 11)
    pd.testing.assert_frame_equal(run.correct_labels(samples, all_probabilities=True), whole, rtol=1e-5)


def test_chosen_and_last_weights(run):
    for which in ("chosen", "last"):
        student = Run.load(run.folder, which=which, device="cpu").student
        assert tiny.same_tensors(student.state_dict(), load_file(run.folder / which / "student.safetensors"))
    assert (
        not tiny.same_tensors(
            *(load_file(run.folder / which / "student.safetensors") for which in ("chosen", "last"))
        )
        or run.summary["chosen_epoch"] == 8
    )


def test_a_baseline_has_no_teacher_and_corrects_nothing(tmp_path):
    settings = tiny.settings(method="cross-entropy", output=str(tmp_path / "run"), epochs=1)
    run = train(settings, tiny.samples(), console=QUIET)
    assert run.teacher is None
    assert run.summary["label_recovery"] is None
    assert not (run.folder / "labels.csv").exists()
    with pytest.raises(InputError, match="method cross-entropy corrects no labels; train with emlc"):
        run.correct_labels(tiny.samples())


def test_labels_of_other_classes_are_not_read_as_those_of_the_run(run):
    """Codes 0 and 1 would be other classes, or none, if one class does not occur among the samples."""
    given = tiny.samples()
    pair = given.take(np.flatnonzero(given.labels != 0))
    names = np.array(given.classes)[pair.labels]
    with pytest.raises(
        InputError, match=r"classes: expected those of the run, cat, cow, dog, found cow, dog;"
    ):
        run.correct_labels(Samples.from_arrays(pair.inputs, names))
    known = Samples.from_arrays(pair.inputs, names, classes=given.classes)
    assert run.correct_labels(known)["given_label"].tolist() == names.tolist()


@pytest.mark.parametrize(("method", "teacher"), [("emlc", "gate"), ("cross-entropy", "noise-aware")])
def test_a_run_from_before_teachers_could_be_chosen_has_the_papers(method, teacher, tmp_path):
    settings = tiny.settings(method=method, teacher=teacher, output=str(tmp_path / "run"), epochs=1)
    run = train(settings, tiny.samples(), console=QUIET)
    stored = yaml.safe_load((run.folder / "settings.yaml").read_text())
    assert stored.pop("teacher") == teacher
    (run.folder / "settings.yaml").write_text(yaml.safe_dump(stored))
    loaded = Run.load(run.folder, device="cpu")
    # Of other methods the setting means nothing: they go on under the settings that they were given.
    assert loaded.settings.as_dict() == run.settings.as_dict()
    train(settings, tiny.samples(), resume=True, console=QUIET)
    if method == "emlc":
        assert tiny.same_tensors(loaded.teacher.state_dict(), run.teacher.state_dict())


def test_correcting_needs_labels(run):
    with pytest.raises(InputError, match="needs the given labels"):
        run.correct_labels(Samples.from_arrays(np.zeros((2, 4)), classes=tiny.CLASSES))


# Runs that are broken, or made to do harm


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        (2**60).to_bytes(8, "little") + b"{}",
        pickle.dumps(Harmful()),
    ],
    ids=["empty", "garbage", "huge header", "pickle"],
)
@pytest.mark.parametrize("name", ["student", "teacher"])
def test_broken_weights(copy, name, content):
    (copy / f"chosen/{name}.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=rf"chosen/{name}.safetensors: not the weights of this {name}"):
        Run.load(copy)


def test_weights_of_another_network(copy):
    path = copy / "chosen/student.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "classifier.bias": torch.zeros(7)}, path)
    with pytest.raises(
        InputError, match=r"student.safetensors: not the weights of this student(.|\n)*classifier\.bias"
    ):
        Run.load(copy)
    del tensors["classifier.bias"]
    save_file(tensors, path)
    with pytest.raises(InputError, match=r"Missing key.*classifier\.bias"):
        Run.load(copy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "data: [unclosed",
        "data: digits\nnonsense: 1",
        "data: digits\ntrusted_per_class: 1\nepochs: many",
        "data: digits\ntrusted_per_class: 1\nepochs: 0",
        "data: digits\ntrusted_per_class: 1\nmethod: mcl",
        "!!python/object/apply:os.system ['false']",
        "\ufffe",
    ],
)
def test_broken_settings(copy, text):
    (copy / "settings.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(InputError, match=r"settings\.yaml: not the settings of a run"):
        Run.load(copy)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"nonsense": 1}', '{"classes": 3}', '{"classes": [], "input_shape": ["a"]}']
)
def test_broken_model_file(copy, text):
    (copy / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        Run.load(copy)


@pytest.mark.parametrize("name", ["settings.yaml", "model.json", "chosen/teacher.safetensors"])
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=name.split("/")[-1]):
        Run.load(copy)


def test_no_run_at_all(tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        Run.load(tmp_path / "nothing")


def test_networks_stay_in_evaluation_mode(run):
    loaded = Run.load(run.folder, device="cpu")
    loaded.correct_labels(tiny.samples(20))
    assert not any(
        module.training for network in (loaded.student, loaded.teacher) for module in network.modules()
    )


def test_arrays_and_lists_are_predicted_like_tensors(run):
    inputs = tiny.unlike(12, 3).inputs
    expected = run.predict_proba(inputs)
    for given in (inputs.numpy(), inputs.double().numpy(), inputs.double(), inputs.tolist()):
        assert torch.equal(run.predict_proba(given), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 3)), r"inputs: each has shape \(3,\), but the run learned from shape \(4,\)"),
        (torch.zeros(2, 3), r"inputs: each has shape \(3,\)"),
        (np.zeros(4), "inputs: expected"),
        (np.array([["a"] * 4]), "inputs: expected numbers"),
        (np.full((2, 4), np.nan), "inputs: row 0 .*: expected a finite number"),
        (torch.full((2, 4), np.nan), "inputs: row 0 .*: expected a finite number"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(run, inputs, message):
    with pytest.raises(InputError, match=message):
        run.predict_proba(inputs)


def test_images_are_predicted_from_arrays(tmp_path):
    settings = tiny.settings(image=True, output=str(tmp_path / "run"), epochs=1)
    trained = train(settings, tiny.samples(image=True), lean=True, console=QUIET)
    images = tiny.unlike(6, 3, image=True).inputs
    expected = trained.predict_proba(images)
    assert torch.equal(trained.predict_proba(images.numpy()), expected)
    assert torch.equal(trained.predict_proba(images.long()), expected)
    assert torch.equal(trained.predict_proba(images[:, 0].numpy()), expected)
    assert torch.equal(trained.predict_proba(images.permute(0, 2, 3, 1).numpy() / 255), expected)


def test_a_lean_run_has_metrics_and_says_that_it_has_no_summary(tmp_path):
    trained = train(tiny.settings(output=str(tmp_path / "run")), tiny.samples(), lean=True, console=QUIET)
    assert trained.metrics["epoch"].tolist() == [1, 2]
    with pytest.raises(InputError, match=r"summary\.json: no such file: a lean run has none"):
        _ = trained.summary
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(InputError, match=r"metrics\.csv: no such file: the folder is gone; EMLCClassifier"):
        _ = trained.metrics
