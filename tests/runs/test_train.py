"""Training from Python: what it leaves and what it refuses, in which precision it computes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

import tiny
from emlc import InputError, Samples, train
from emlc.config import PretrainSettings
from emlc.data.classes import UNKNOWN
from emlc.errors import EMLCWarning
from emlc.labels.decision import Decision
from emlc.methods.emlc import EMLC
from emlc.runs import plots
from emlc.runs.directory import resolve_precision
from emlc.runs.fit import fit
from emlc.runtime.distributed import start_ranks

QUIET = Console(file=io.StringIO())

SUMMARY = {
    "test_accuracy",
    "last_test_accuracy",
    "trusted_accuracy",
    "teacher_test_accuracy",
    "label_recovery",
    "wrong_label_recovery",
    "noise_rate_nominal",
    "noise_rate_actual",
    "seconds",
    "seed",
    "versions",
}

PICTURES = ["recovery.png", "retain_weights.png", "meta_objective.png"]

LABELS = [
    "id",
    "given_label",
    "corrected_label",
    "corrected_probability",
    "retain_weight",
    "predicted_label",
    "label_quality",
    "is_label_issue",
    "true_label",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.trained(tmp_path_factory.mktemp("runs") / "run")


# What a run leaves


def test_every_file_of_the_run_directory(run):
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard/events.out")}
    assert len(events) == 1
    weights = {
        f"{which}/{name}.safetensors" for which in ("chosen", "last") for name in ("student", "teacher")
    }
    tables = {"metrics.csv", "steps.csv", "labels.csv", "labels.parquet", "noise.csv", "split.csv"}
    others = {"settings.yaml", "model.json", "decision.json", "summary.json", "checkpoint.pt", *PICTURES}
    assert files - events == weights | tables | others


def test_the_summary(run):
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary == run.summary
    assert summary.keys() >= SUMMARY
    assert {"python", "emlc", "torch"} <= summary["versions"].keys()
    metrics = run.metrics
    chosen = metrics.loc[metrics["epoch"] == summary["chosen_epoch"]].iloc[0]
    for name in ("test_accuracy", "trusted_accuracy", "label_recovery", "wrong_label_recovery"):
        assert summary[name] == pytest.approx(chosen[name], abs=1e-3)
    assert summary["teacher_test_accuracy"] == pytest.approx(chosen["teacher_test_accuracy"], abs=1e-3)
    assert summary["last_test_accuracy"] == pytest.approx(metrics["test_accuracy"].iloc[-1], abs=1e-3)
    assert summary["chosen_epoch"] == metrics["epoch"].iloc[-1]  # noise-aware, without validation samples
    assert summary["noisy_test_labels"] is False
    assert summary["noise_rate_nominal"] is None
    assert 0.1 < summary["noise_rate_actual"] < 0.5
    labels = pd.read_csv(run.folder / "labels.csv")
    right = (labels["corrected_label"] == labels["true_label"]).mean()
    assert summary["corrected_label_accuracy"] == pytest.approx(100 * right, abs=1e-3)
    assert (summary["noisy_samples"], summary["trusted_samples"], summary["test_samples"]) == (63, 12, 60)


def test_it_learns(run):
    assert run.summary["test_accuracy"] > 85
    assert run.summary["label_recovery"] > 100 * (1 - run.summary["noise_rate_actual"])


def test_the_tables(run):
    assert len(run.metrics) == 8
    steps = pd.read_csv(run.folder / "steps.csv")
    assert steps["step"].tolist() == list(range(1, 33))
    assert {"student_loss", "teacher_ce", "teacher_nll", "meta_objective"} <= set(steps)
    of_last_epoch = steps.iloc[-4:].mean()
    for name in ("student_loss", "teacher_ce", "teacher_nll", "meta_objective"):
        assert run.metrics[name].iloc[-1] == pytest.approx(of_last_epoch[name])
    labels = pd.read_csv(run.folder / "labels.csv")
    assert labels.columns.tolist() == LABELS
    split = pd.read_csv(run.folder / "split.csv")
    noisy = split[split["role"] == "noisy"]
    assert labels["id"].tolist() == noisy["id"].tolist()
    assert labels["given_label"].tolist() == noisy["given_label"].tolist()
    assert set(labels["corrected_label"]) <= set(tiny.CLASSES)
    right_before = (labels["given_label"] == labels["true_label"]).mean()
    assert (labels["corrected_label"] == labels["true_label"]).mean() > right_before


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_show_something(run, name):
    with Image.open(run.folder / name) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 500
    assert 0.005 < (pixels < 200).any(axis=2).mean() < 0.9  # ink, but not everywhere
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_the_saved_settings_are_those_of_the_run(run):
    resolved = {"precision": "float32", "image_model": "none", "standardize": "columns"}
    settings = tiny.settings(output=str(run.folder), epochs=8, **resolved)
    assert yaml.safe_load((run.folder / "settings.yaml").read_text()) == settings.as_dict()
    assert run.settings == settings


def test_the_parquet_file_is_the_csv_file(run):
    table = pd.read_parquet(run.folder / "labels.parquet")
    assert table.columns.tolist() == LABELS
    assert (table.dtypes["is_label_issue"], table.dtypes["label_quality"]) == (bool, float)
    saved = pd.read_csv(run.folder / "labels.csv", dtype={"id": str})
    pd.testing.assert_frame_equal(table, saved, check_dtype=False, rtol=1e-6)


def test_the_decision_is_stored_and_followed(run):
    decision = Decision.load(run.folder / "decision.json")
    assert (decision.calibrated_on, decision.trusted_samples) == ("trusted", 12)
    assert decision.noisy_samples == 63
    labels = pd.read_csv(run.folder / "labels.csv")
    issue = labels["label_quality"] < decision.threshold
    assert issue.tolist() == labels["is_label_issue"].tolist()
    assert issue.tolist() == (labels["given_label"] != labels["corrected_label"]).tolist()
    assert 0 < issue.sum() < len(labels)


# What it learns from


def test_training_from_plain_arrays(tmp_path):
    data = tiny.samples()
    names = np.array(tiny.CLASSES)
    trusted = np.arange(75) < 20
    samples = Samples.from_arrays(data.inputs.numpy(), names[data.true_labels], trusted=trusted)
    settings = tiny.settings(trusted_per_class=None, output=str(tmp_path / "run"), epochs=1)
    run = train(settings, samples, console=QUIET)
    assert run.schema.classes == tiny.CLASSES
    assert (run.summary["trusted_samples"], run.summary["noisy_samples"]) == (20, 55)
    assert run.summary["test_accuracy"] is None
    assert run.summary["label_recovery"] is None
    assert not (run.folder / "recovery.png").exists()
    assert "true_label" not in pd.read_csv(run.folder / "labels.csv")


def test_true_labels_that_are_known_of_no_noisy_sample(tmp_path):
    data = tiny.samples()
    known = np.concatenate([np.flatnonzero(data.true_labels == c)[:4] for c in range(3)])
    truth = np.full(75, UNKNOWN)
    truth[known] = data.true_labels[known]
    settings = tiny.settings(output=str(tmp_path / "run"), epochs=1)  # 4 trusted a class: all that are known
    run = train(settings, replace(data, true_labels=truth), console=QUIET)
    assert run.summary["label_recovery"] is None
    assert run.summary["noise_rate_actual"] is None
    assert run.metrics.notna().all(axis=None)


# What is refused before anything is written


def refuse(settings, match, data=None):
    folder = Path(settings.output).parent

    def contents():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()
    with pytest.raises(InputError, match=match):
        train(settings, data or tiny.samples(), console=QUIET)
    assert contents() == before


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("mine")
    refuse(tiny.settings(output=str(tmp_path / "run")), "output: .*run is a file, expected a directory")


@pytest.mark.parametrize("name", ["noisy_augmentation", "trusted_augmentation"])
def test_augmentation_is_for_images(tmp_path, name):
    settings = tiny.settings(output=str(tmp_path / "run"), **{name: ["crop"]})
    refuse(settings, f"{name}: crop is for images, but the samples are rows of numbers")


def test_a_backbone_for_images_on_rows_of_numbers(tmp_path):
    refuse(tiny.settings(output=str(tmp_path / "run"), teacher_backbone="cnn"), "backbone: cnn needs images")


def test_one_noisy_sample_is_not_enough(tmp_path):
    settings = tiny.settings(output=str(tmp_path / "run"), noisy_limit=1)
    refuse(settings, "there is 1 noisy sample; training needs at least 2")


def test_one_trusted_sample_is_not_enough(tmp_path):
    settings = tiny.settings(output=str(tmp_path / "run"), trusted_per_class=None)
    data = Samples.from_arrays(np.arange(10).reshape(5, 2), ["cat"] * 5, trusted=np.arange(5) == 2)
    refuse(settings, "there is 1 trusted sample; training needs at least 2", data)


def test_a_trusted_batch_that_is_halved_needs_four_samples(tmp_path):
    settings = tiny.settings(output=str(tmp_path / "run"), trusted_per_class=1, student_trusted=True)
    refuse(settings, "trusted_batch: student_trusted halves it; expected at least 4 trusted samples, got 3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bce_weight": 2.0, "corruption": "random"},
            "--teacher noise-aware: corruption, bce_weight",
        ),
        ({"teacher": "gate", "anchor_weight": 2.0}, "--teacher gate: anchor_weight"),
        ({"method": "cross-entropy", "look_ahead": 3}, "no effect with --method cross-entropy: look_ahead"),
        (
            {"method": "cross-entropy", "teacher": "gate", "ce_weight": 0.1},
            "--method cross-entropy: teacher, label_embedding_dim, gate_hidden_dim, ce_weight",
        ),
        ({"method": "mlc", "label_embedding_dim": 64}, "no effect with --method mlc: label_embedding_dim"),
        ({"method": "glc", "student_trusted": True}, "no effect with --method glc: student_trusted"),
        ({"method": "fasten", "epochs": 2, "warm_up_epochs": 1}, "with --method fasten: warm_up_epochs"),
    ],
    ids=str,
)
def test_a_setting_without_effect_is_told(tmp_path, changes, message):
    settings = tiny.settings(**({"epochs": 1} | changes), output=str(tmp_path / "run"))
    with pytest.warns(EMLCWarning, match=f"{message}$"):
        train(settings, tiny.samples(), lean=True, console=QUIET)


@pytest.mark.parametrize(
    "changes", [{"anchor_weight": 2.0, "look_ahead": 2}, {"teacher": "gate", "bce_weight": 2.0}], ids=str
)
@pytest.mark.filterwarnings("always::emlc.errors.EMLCWarning")
def test_settings_that_the_method_follows_are_not_told_of(tmp_path, recwarn, changes):
    settings = tiny.settings(**changes, epochs=1, output=str(tmp_path / "run"))
    train(settings, tiny.samples(), lean=True, console=QUIET)
    assert [str(told.message) for told in recwarn if "no effect" in str(told.message)] == []


def test_a_run_that_is_there_already(run):
    refuse(tiny.settings(output=str(run.folder)), "holds a run already; --resume goes on with it")


# In which precision a run computes


@pytest.fixture
def bfloat16(monkeypatch):
    """Says whether the hardware computes it."""
    monkeypatch.setattr(plots, "save_run_plots", lambda *_: None)  # they take the longest
    return lambda native: monkeypatch.setattr("emlc.runs.directory.computes_bfloat16", lambda device: native)


def train_in(folder, *, image=True, resume=False, **changes):
    """What autocast was told in the steps of a short run, and the run."""
    common = {"output": str(folder), "width": 2, "epochs": 1, "checkpoint_every": 1}
    settings = tiny.settings(image=image, **common, **changes)
    original, steps = EMLC.step, []

    def step(*arguments):
        losses = original(*arguments)
        steps.append(arguments[0].ranks.precision)
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EMLC, "step", step)
        run = train(settings, tiny.samples(image=image), resume=resume, console=QUIET)
    return steps, run


def assert_precision(folder, precision):
    assert yaml.safe_load((folder / "settings.yaml").read_text())["precision"] == precision
    assert json.loads((folder / "summary.json").read_text())["precision"] == precision


@pytest.mark.parametrize(
    ("native", "image", "changes", "expected"),
    [
        (True, True, {}, "bf16-mixed"),
        (True, False, {}, "float32"),
        (False, True, {}, "float32"),
        (False, False, {}, "float32"),
        (True, True, {"precision": "float32"}, "float32"),
        (False, False, {"precision": "bf16-mixed"}, "bf16-mixed"),
        (True, True, {"jvp": "finite-difference"}, "float32"),  # they drown in the rounding of bfloat16
    ],
    ids=str,
)
def test_precision_auto(tmp_path, bfloat16, native, image, changes, expected):
    bfloat16(native)
    steps, run = train_in(tmp_path / "run", image=image, **changes)
    assert_precision(tmp_path / "run", expected)
    assert run.settings.precision == expected
    assert set(steps) == {expected}
    decisions = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["decisions"]
    assert decisions == {"jvp": "forward" if expected == "bf16-mixed" else "finite-difference"}


@pytest.mark.parametrize("native", [True, False])
def test_a_run_goes_on_in_the_precision_that_it_began_with(tmp_path, bfloat16, native):
    began, other = ("bf16-mixed", "float32") if native else ("float32", "bf16-mixed")
    bfloat16(native)
    train_in(tmp_path / "whole")
    with tiny.interrupted_after(2):
        train_in(tmp_path / "run")
    assert (tmp_path / "run/checkpoint.pt").exists()

    bfloat16(not native)  # the run moves to another machine
    with pytest.raises(InputError, match=f"precision was '{began}', now '{other}'"):
        train_in(tmp_path / "run", resume=True, precision=other)
    steps, _ = train_in(tmp_path / "run", resume=True)
    assert steps == [began, began]
    assert_precision(tmp_path / "run", began)
    weights = [load_file(tmp_path / name / "last/student.safetensors") for name in ("run", "whole")]
    assert tiny.same_tensors(*weights)
    train_in(tmp_path / "run", resume=True, precision=began)


@pytest.mark.parametrize("native", [True, False])
def test_a_pretraining_resolves_its_precision_too(tmp_path, bfloat16, native):
    bfloat16(native)
    ranks = start_ranks("cpu")
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    precision = resolve_precision(PretrainSettings(data="digits"), tmp_path, ranks, images)
    assert precision == ("bf16-mixed" if native else "float32")
    assert ranks.precision == "float32"  # which it leaves to the caller


# Where the images are


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    samples = tiny.samples(60, image=True, wrong=0)
    for k, (image, label) in enumerate(zip(samples.inputs, samples.labels, strict=True)):
        path = folder / tiny.CLASSES[label] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return folder


@pytest.mark.parametrize(
    "changes",
    [{"workers": 1}, {"workers": 3}, {"image_cache": "cache"}],
    ids=["one worker", "three workers", "cache"],
)
def test_images_on_disk_train_like_those_in_memory(image_folder, tmp_path, logged, changes):
    if "image_cache" in changes:
        changes = {"image_cache": str(tmp_path / "cache")}

    def weights(name, **more):
        settings = tiny.settings(
            data=str(image_folder),
            image_size=8,
            noise="symmetric",
            noise_rate=0.3,
            test_fraction=0.2,
            output=str(tmp_path / name),
            **more,
        )
        train(settings, console=QUIET)
        return load_file(tmp_path / name / "last/student.safetensors")

    in_memory = weights("memory")
    on_disk = weights("disk", memory_gib=0.0, **changes)
    assert "images stay on disk: 60 of 1 x 8 x 8 bytes take" in logged.text
    assert tiny.same_tensors(in_memory, on_disk)
    tables = [(tmp_path / name / "labels.csv").read_bytes() for name in ("memory", "disk")]
    assert tables[0] == tables[1]


def test_a_lean_run_is_not_resumed(tmp_path):
    settings = tiny.settings(output=str(tmp_path / "run"))
    with pytest.raises(InputError, match="resume: goes on from a checkpoint, and a lean run has none"):
        train(settings, tiny.samples(), resume=True, lean=True, console=QUIET)
    assert list(tmp_path.iterdir()) == []


# Initial weights from a file, by which the decision on images is made


@pytest.fixture
def pixels(tmp_path):
    """Settings of a run on images whose initial weights are in a file."""
    settings = tiny.settings(image=True, output=str(tmp_path / "run"))
    torch.manual_seed(5)
    network = EMLC(settings, tiny.samples(image=True).inputs, 3)
    save_file(network.student.backbone.state_dict(), tmp_path / "init.safetensors")
    return replace(settings, init=str(tmp_path / "init.safetensors"))


def test_initial_weights_may_be_gone_at_the_end(pixels, tmp_path, monkeypatch):
    def fit_and_lose(*arguments, **options):
        progress = fit(*arguments, **options)
        (tmp_path / "init.safetensors").rename(tmp_path / "moved.safetensors")
        return progress

    monkeypatch.setattr("emlc.runs.train.fit", fit_and_lose)
    run = train(pixels, tiny.samples(image=True), lean=True, console=QUIET)
    kept, decision = run.folder / "initial/student.safetensors", run.decision
    assert tiny.same_tensors(load_file(kept), load_file(tmp_path / "moved.safetensors"))
    split = tiny.split(pixels, image=True)
    assert run.decide(split) == decision
    kept.unlink()  # as in runs of before
    with pytest.raises(InputError, match=r"init\.safetensors"):
        run.decide(split)
    (tmp_path / "moved.safetensors").rename(tmp_path / "init.safetensors")
    assert run.decide(split) == decision


def test_initial_weights_may_be_gone_when_a_run_is_resumed(pixels, tmp_path):
    samples = tiny.samples(image=True)
    with tiny.interrupted_after(5):
        train(pixels, samples, console=QUIET)
    (tmp_path / "init.safetensors").unlink()
    resumed = train(pixels, samples, resume=True, console=QUIET)
    assert resumed.summary["epochs"] == pixels.epochs


def test_a_broken_file_of_initial_weights(pixels):
    run = train(pixels, tiny.samples(image=True), lean=True, console=QUIET)
    (run.folder / "initial/student.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="not the initial weights of this student"):
        run.decide(tiny.split(pixels, image=True))


@pytest.mark.parametrize("changes", [{"init": "none"}, {"validation_fraction": 0.5}], ids=str)
def test_initial_weights_are_kept_only_where_the_decision_needs_them(pixels, changes):
    run = train(replace(pixels, **changes), tiny.samples(image=True), lean=True, console=QUIET)
    assert not (run.folder / "initial").exists()
