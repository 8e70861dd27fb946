"""A run beside its simple rivals: on which samples, and that batch and epochs of a run stay."""

import json

import numpy as np
import pytest
import yaml
from rich.console import Console

import tiny
from emlc.labels.comparison import Comparison
from emlc.runs.beside import FILE, load_comparison
from emlc.runs.train import train
from tiny import unlike

QUIET = Console(quiet=True)


def comparison(folder, *, image=False, samples=None, **changes):
    parts = {name: changes.pop(name) for name in ("test", "validation") if name in changes}
    settings = tiny.settings(output=str(folder), rivals=True, image=image, **changes)
    run = train(settings, samples or tiny.samples(image=image), console=QUIET, **parts)
    return run, load_comparison(run.folder)


def test_a_test_set_is_what_the_student_of_the_run_is_compared_on(tmp_path):
    test = unlike(60, 3)
    run, found = comparison(tmp_path / "run", test=test, validation=unlike(30, 4))
    assert (found.measured_on, found.samples) == ("test", 60)
    right = run.predict_proba(test.inputs).argmax(dim=1).numpy() == test.given
    assert found.accuracy["emlc"] == pytest.approx(100 * right.mean(), abs=0.01)


def test_without_a_test_set_it_is_the_validation_set(tmp_path):
    _, found = comparison(tmp_path / "run", validation=unlike(30, 4))
    assert (found.measured_on, found.samples) == ("validation", 30)


def test_a_test_set_with_labels_as_noisy_as_the_others_does_not_count(tmp_path):
    noisy = tiny.samples(90)
    marked = tiny.Samples.from_arrays(
        noisy.inputs, np.array(tiny.CLASSES)[noisy.given], trusted=np.arange(90) < 30
    )
    _, found = comparison(tmp_path / "run", samples=marked, test_fraction=0.2, trusted_per_class=None)
    assert (found.measured_on, found.samples) == ("trusted", 30)


def test_without_held_out_samples_each_trusted_sample_is_left_out_once(tmp_path, monkeypatch):
    sizes = []
    original = tiny_fit()

    def fit(settings, split):
        sizes.append((len(split.trusted), len(split.noisy)))
        return original(settings, split)

    monkeypatch.setattr("emlc.runs.beside._fit", fit)
    run, found = comparison(tmp_path / "run")
    assert (found.measured_on, found.samples) == ("trusted", 12)
    assert sizes == [(8, 63)] * 3
    assert json.loads((run.folder / FILE).read_text())["samples"] == 12


def tiny_fit():
    from emlc.runs import beside

    return beside._fit


def test_images_are_compared_on_the_features_of_the_student(tmp_path):
    _, found = comparison(tmp_path / "run", image=True, epochs=1)
    assert found.measured_on == "trusted"
    assert found.standing is not None


def test_a_single_trusted_sample_of_a_class_allows_no_comparison(tmp_path):
    _, found = comparison(tmp_path / "run", trusted_per_class=1)
    assert (found.measured_on, found.standing) == ("none", None)


def test_no_comparison_where_it_is_off_and_for_other_methods(tmp_path):
    train(tiny.settings(output=str(tmp_path / "off")), tiny.samples(), console=QUIET)
    _, other = comparison(tmp_path / "other", method="cross-entropy")
    assert load_comparison(tmp_path / "off") is None
    assert other is None


def test_the_comparison_changes_nothing_else_of_a_run(tmp_path):
    off = train(tiny.settings(output=str(tmp_path / "off")), tiny.samples(), console=QUIET)
    run, found = comparison(tmp_path / "on")
    assert isinstance(found, Comparison)
    assert tiny.same_tensors(run.student.state_dict(), off.student.state_dict())
    assert (run.folder / "labels.csv").read_text() == (off.folder / "labels.csv").read_text()


def test_a_run_keeps_the_batch_and_the_epochs_that_were_chosen(tmp_path):
    folder = tmp_path / "run"
    settings = tiny.settings(output=str(folder), epochs=None, noisy_batch=None)
    with tiny.interrupted_after(10):
        train(settings, tiny.samples(), console=QUIET)
    stored = yaml.safe_load((folder / "settings.yaml").read_text())
    assert (stored["noisy_batch"], stored["epochs"]) == (16, 77)
    stored["epochs"] = 3  # as a run of before had it, or another rule
    (folder / "settings.yaml").write_text(yaml.safe_dump(stored))
    run = train(settings, tiny.samples(), resume=True, console=QUIET)
    assert len(run.metrics) == 3
