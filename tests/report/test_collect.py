"""The facts of a report, against the run's own files and other libraries."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

import tiny
from emlc import InputError, Run
from emlc.report import collect, render
from emlc.report.facts import identity_of


@pytest.fixture
def copy(hostile_run, tmp_path):
    """The run in a directory that may be spoilt."""
    return shutil.copytree(hostile_run.folder, tmp_path / "copy")


def test_the_student_is_measured_on_the_test_set(hostile_run, hostile_facts):
    test = hostile_run.split().test
    predicted = hostile_run.predict_proba(test.inputs).argmax(dim=1).numpy()
    assert hostile_facts.evaluated == "test"
    evaluation = hostile_facts.evaluation
    assert evaluation.figures["accuracy"] == pytest.approx(
        100 * accuracy_score(test.labels, predicted), abs=1e-3
    )
    np.testing.assert_array_equal(evaluation.confusion, confusion_matrix(test.labels, predicted))


def test_labels_gallery_and_map_are_of_the_label_table(hostile_run, hostile_facts):
    table = pd.read_csv(hostile_run.folder / "labels.csv", dtype={"id": str})
    assert hostile_facts.labels.samples == len(table) == 90
    assert hostile_facts.labels.issues == table["is_label_issue"].sum()
    quality = table.set_index("id")["label_quality"]
    records = hostile_facts.gallery.records
    assert len(records) == 60
    drawn = [record["id"] for record in records if record["place"] is not None]
    assert len(drawn) == 12
    worst = [r["quality"] for r in records if r["place"] is None and not r["uncertain"]]
    assert worst == pytest.approx(sorted(quality.drop(drawn))[:42], rel=1e-3)
    for record in records:
        assert record["quality"] == pytest.approx(quality[record["id"]], rel=1e-3)
    points = hostile_facts.points
    assert len(points) == 40
    assert set(points["id"]) < set(table["id"])
    assert (points.set_index("id")["given_label"] == table.set_index("id")["given_label"][points["id"]]).all()


def test_counts_and_environment(hostile_facts):
    assert hostile_facts.counts == {"noisy": 90, "trusted": 15, "test": 30}
    assert hostile_facts.summary["seed"] == 0
    assert len(hostile_facts.metrics) == 4
    assert hostile_facts.missing == {}


def test_an_image_run_shows_its_files(image_facts):
    assert image_facts.gallery.content == "image"
    assert image_facts.missing == {"map": "It was left out."}
    assert image_facts.points is None


def test_samples_given_from_python_are_not_kept(array_run):
    facts = collect(array_run)
    assert "which are not kept" in facts.missing["data"]
    assert facts.missing["map"] == facts.missing["data"]
    assert facts.evaluation is None
    assert facts.labels.samples == 75
    assert facts.labels.truth is None
    assert facts.gallery.content == "none"


def test_without_a_teacher_there_are_no_labels(plain_run):
    facts = collect(plain_run, map_samples=10)
    assert "cross-entropy has no teacher" in facts.missing["labels"]
    assert facts.labels is None
    assert facts.gallery is None
    assert facts.evaluated == "trusted"  # there is neither test nor validation set
    assert len(facts.points) == 10
    assert "corrected_label" not in facts.points


def test_labels_that_a_method_corrected_without_a_teacher_are_those_of_its_file(glc_run, tmp_path):
    table = pd.read_csv(glc_run.folder / "labels.csv", dtype={"id": str}, keep_default_na=False)
    facts = collect(glc_run, samples=20, map_samples=20)
    assert facts.labels.issues == table["is_label_issue"].sum()
    assert facts.labels.samples == 90
    assert facts.labels.retain is None
    assert facts.labels.truth.samples == 90
    assert facts.decision is None
    assert "corrected_label" in facts.points
    assert facts.missing == {"gallery": "It shows retain weights, and the method glc has none."}
    page = render(facts)
    assert "as the method estimated it in training" in page
    assert "Label noise, learned" in page
    assert "Retain weights" not in page
    last = collect(replace(glc_run, which="last"), map_samples=0)
    assert "glc has no teacher, and labels.csv is of the chosen weights" in last.missing["labels"]
    copy = shutil.copytree(glc_run.folder, tmp_path / "copy")
    table[::-1].to_csv(copy / "labels.csv", index=False)
    with pytest.raises(InputError, match=r"labels\.csv: expected one row for each noisy sample"):
        collect(Run.load(copy), map_samples=0)


def test_a_method_without_a_teacher_has_a_gallery_if_it_has_retain_weights(hostile_run):
    table = pd.read_csv(hostile_run.folder / "labels.csv", dtype={"id": str}, keep_default_na=False)
    facts = collect(replace(hostile_run, teacher=None), samples=20, map_samples=0)
    weights = table.set_index("id")["retain_weight"]
    assert facts.gallery.content == "values"
    assert len(facts.gallery.records) == 20
    for record in facts.gallery.records:
        assert record["retain"] == pytest.approx(weights[record["id"]], rel=1e-3)
        assert record["top"] == []


def test_the_true_noise_is_that_of_the_samples_with_or_without_a_teacher(
    hostile_run, hostile_facts, plain_run
):
    noisy = hostile_run.split().noisy
    confusion = confusion_matrix(noisy.true_labels, noisy.given, normalize="true")
    np.testing.assert_allclose(hostile_facts.true_noise, confusion)
    assert collect(plain_run, map_samples=0).true_noise is None
    alone = replace(hostile_run, teacher=None)
    np.testing.assert_allclose(collect(alone, map_samples=0).true_noise, confusion)


def test_the_last_weights(hostile_run):
    last = Run.load(hostile_run.folder, which="last")
    facts = collect(last, weights="last", samples=0, map_samples=0)
    assert facts.evaluation.figures["accuracy"] == pytest.approx(
        hostile_run.summary["last_test_accuracy"], abs=1e-3
    )
    assert facts.gallery is None
    assert "request" in facts.missing["gallery"]


def test_the_data_are_read_once(hostile_run, monkeypatch):
    last, reads = Run.load(hostile_run.folder, which="last"), []
    split = Run.split
    monkeypatch.setattr(Run, "split", lambda self: reads.append(1) or split(self))
    assert collect(last, weights="last", samples=5, map_samples=0).decision is not None
    assert len(reads) == 1


def test_the_identity_is_the_runs_own(hostile_run, hostile_facts, image_facts):
    again = collect(hostile_run, samples=5, map_samples=0)
    assert again.identity == hostile_facts.identity
    assert again.identity != image_facts.identity
    assert len(again.identity) == 24


def test_the_identity_outlives_other_hardware_and_another_place(hostile_run, copy):
    def identity(**changes):
        return identity_of(
            replace(hostile_run, folder=copy, settings=replace(hostile_run.settings, **changes))
        )

    same = identity_of(hostile_run)
    data = str(copy / "elsewhere.csv")
    assert identity(output=str(copy), data=data, device="cuda:1", workers=3, memory_gib=1.0) == same
    for changes in ({"epochs": 5}, {"seed": 1}, {"true_label_column": None}):
        assert identity(**changes) != same
    (copy / "split.csv").write_text("id,role\n")
    assert identity() != same


def test_an_interrupted_run(copy):
    for name in ("summary.json", "steps.csv", "labels.csv"):
        (copy / name).unlink()
    facts = collect(Run.load(copy), map_samples=0)
    assert facts.summary == {}
    assert facts.steps is None
    assert facts.labels.samples == 90  # computed again


def test_the_decision_is_that_of_the_run(hostile_run, hostile_facts, array_run):
    stored = json.loads((hostile_run.folder / "decision.json").read_text())
    assert hostile_facts.decision.threshold == stored["threshold"]
    assert collect(array_run).decision.threshold == array_run.decision.threshold
    quality = pd.read_csv(hostile_run.folder / "labels.csv")["label_quality"]
    assert hostile_facts.labels.issues == (quality < stored["threshold"]).sum()


def test_a_run_of_an_earlier_version_has_no_decision(array_run, tmp_path):
    copy = shutil.copytree(array_run.folder, tmp_path / "copy")
    (copy / "decision.json").unlink()
    facts = collect(Run.load(copy))
    assert facts.decision is None
    assert facts.labels.samples == 75


@pytest.mark.parametrize("content", ["{", "[1]", "\xff"])
@pytest.mark.parametrize("name", ["summary.json", "decision.json"])
def test_a_broken_file_is_bad_input(copy, name, content):
    (copy / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=name):
        collect(Run.load(copy), samples=5, map_samples=0)


def test_what_the_gallery_shows_are_the_corrected_soft_labels(hostile_run, hostile_facts):
    table = hostile_run.correct_labels(hostile_run.split().noisy, all_probabilities=True).set_index("id")
    for record in hostile_facts.gallery.records:
        row = table.loc[record["id"]]
        for index, share in record["top"]:
            assert share == pytest.approx(row[f"probability_{hostile_facts.classes[index]}"], rel=2e-3)


def test_if_the_data_changed_the_report_says_so_and_uses_labels_csv(copy):
    settings = (copy / "settings.yaml").read_text()
    (copy / "settings.yaml").write_text(settings.replace("data.csv", "gone.csv"))
    facts = collect(Run.load(copy))
    assert "gone.csv" in facts.missing["data"]
    assert facts.labels.samples == 90
    assert facts.labels.truth.samples == 90
    assert facts.gallery.content == "none"
    assert {record["id"] for record in facts.gallery.records} == set(
        pd.read_csv(copy / "labels.csv", dtype=str, keep_default_na=False)["id"]
    )


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("retain_weight", "x", "retain_weight.*'x'"), (None, None, "label_quality")],
)
def test_a_file_that_is_no_label_table(array_run, tmp_path, column, value, message):
    copy = shutil.copytree(array_run.folder, tmp_path / "copy")
    table = pd.read_csv(copy / "labels.csv", dtype=object)
    table = table.drop(columns="label_quality") if column is None else table.assign(**{column: value})
    table.to_csv(copy / "labels.csv", index=False)
    with pytest.raises(InputError, match=rf"labels\.csv.*{message}"):
        collect(Run.load(copy))


@pytest.mark.parametrize("column", ["given_label", "corrected_label", "predicted_label", "true_label"])
def test_a_label_that_is_no_class_of_the_run_is_bad_input(array_run, tmp_path, column):
    copy = shutil.copytree(array_run.folder, tmp_path / "copy")
    table = pd.read_csv(copy / "labels.csv", dtype=object)
    if column not in table:
        table[column] = ""
    table.loc[3, column] = "nobody"
    table.to_csv(copy / "labels.csv", index=False)
    with pytest.raises(InputError, match=rf"labels\.csv: row 3, column '{column}': 'nobody' is none of"):
        collect(Run.load(copy))


def test_a_label_is_an_issue_where_it_is_corrected_whatever_the_file_says(array_run, tmp_path):
    copy = shutil.copytree(array_run.folder, tmp_path / "copy")
    table = pd.read_csv(copy / "labels.csv", dtype=object)
    issue = table["corrected_label"] != table["given_label"]
    table.assign(is_label_issue=~issue).to_csv(copy / "labels.csv", index=False)
    facts = collect(Run.load(copy))
    assert facts.labels.issues == issue.sum() == facts.labels.corrected.sum() - facts.labels.corrected.trace()
    assert sum(record["issue"] for record in facts.gallery.records) == issue.sum()


def test_the_label_table_of_the_chosen_weights_is_not_that_of_the_last(array_run):
    facts = collect(Run.load(array_run.folder, which="last"), weights="last")
    assert facts.labels is None
    assert facts.decision is None
    assert facts.gallery is None
    assert "chosen weights" in facts.missing["labels"]
    assert "chosen weights" in render(facts)


def test_samples_in_memory_and_no_label_table(array_run, tmp_path):
    copy = shutil.copytree(array_run.folder, tmp_path / "copy")
    (copy / "labels.csv").unlink()
    facts = collect(Run.load(copy))
    assert facts.labels is None
    assert "no labels.csv" in facts.missing["labels"]


def test_classes_are_those_of_the_run(array_run):
    assert collect(array_run).classes == tiny.CLASSES
