"""The noise that a run has learned: from its weights, and beside that of the labels."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

import tiny
from emlc import Run, train
from emlc.data import split_samples
from emlc.data.classes import UNKNOWN
from emlc.labels.noise import noise_table
from emlc.methods.cross_entropy import CrossEntropy

QUIET = Console(quiet=True)
WRONG = 0.3
"""Share of the samples of a class that are called by the next."""


@pytest.fixture(scope="module")
def samples():
    return tiny.samples(600, wrong=WRONG)


@pytest.fixture(scope="module")
def run(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise") / "run"
    return train(tiny.settings(epochs=10, output=str(folder)), samples, console=QUIET)


def slow_softmax(scores):
    return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]


@pytest.mark.parametrize("which", ["chosen", "last"])
def test_it_is_the_softmax_of_the_stored_weights_times_their_reach(run, which):
    loaded = Run.load(run.folder, which=which, device="cpu")
    logits = load_file(run.folder / which / "teacher.safetensors")["transition_logits"]
    logits *= (len(tiny.CLASSES) / 2) ** 0.5
    np.testing.assert_allclose(loaded.transition, [slow_softmax(row) for row in logits.tolist()], rtol=1e-5)
    assert loaded.transition.index.tolist() == loaded.transition.columns.tolist() == list(tiny.CLASSES)
    assert (loaded.transition.index.name, loaded.transition.columns.name) == ("true_class", "given_label")


def test_the_file_says_what_was_learned_and_what_is_true(run, samples):
    table = pd.read_csv(run.folder / "noise.csv")
    assert table.columns.tolist() == ["true_class", "given_label", "probability", "actual_share"]
    noisy = split_samples(samples, settings=run.settings, seed=run.settings.seed).noisy
    names = np.array(tiny.CLASSES)
    true, given = names[noisy.true_labels].tolist(), names[noisy.given].tolist()
    pairs = list(zip(true, given, strict=True))
    for row in table.itertuples(index=False):
        share = pairs.count((row.true_class, row.given_label)) / true.count(row.true_class)
        assert row.actual_share == pytest.approx(share, abs=1e-6)
        learned = run.transition.loc[row.true_class, row.given_label]
        assert row.probability == pytest.approx(learned, abs=1e-6)
    assert len(table) == 9


def test_known_asymmetric_noise_is_learned(run):
    expected = (1 - WRONG) * np.eye(3) + WRONG * np.roll(np.eye(3), 1, axis=1)
    np.testing.assert_allclose(run.transition, expected, atol=0.15)


def test_shares_are_left_empty_or_out_where_the_truth_is_not_known(run, samples):
    of_cows = samples.true_labels == tiny.CLASSES.index("cow")
    hidden = replace(samples, true_labels=np.where(of_cows, UNKNOWN, samples.true_labels))
    known = noise_table(run.transition, hidden).groupby("true_class")["actual_share"].count()
    assert known.to_dict() == {"cat": 3, "cow": 0, "dog": 3}
    for truth in (None, np.full(600, UNKNOWN)):
        table = noise_table(run.transition, replace(samples, true_labels=truth))
        assert table.columns.tolist() == ["true_class", "given_label", "probability"]


@pytest.mark.parametrize("changes", [{"teacher": "gate"}, {"method": "cross-entropy"}, {"method": "fasten"}])
def test_what_learns_no_noise_of_the_given_labels_shows_none(tmp_path, changes):
    """FasTEN's matrix is of the labels as it has corrected them."""
    run = train(
        tiny.settings(output=str(tmp_path / "run"), epochs=1, **changes), tiny.samples(), console=QUIET
    )
    assert run.transition is None
    assert not (run.folder / "noise.csv").exists()


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("transition", torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]]))


def test_a_method_without_a_teacher_names_the_network_that_has_learned_it(tmp_path, monkeypatch):
    monkeypatch.setattr(CrossEntropy, "noise_model", "noise")
    monkeypatch.setattr(CrossEntropy, "networks", lambda self: {"student": self.student, "noise": Noise()})
    settings = tiny.settings(method="cross-entropy", output=str(tmp_path / "run"), epochs=1)
    run = train(settings, tiny.samples(), console=QUIET)
    assert run.transition.loc["cat"].tolist() == [0.5, 0.25, 0.25]
    assert pd.read_csv(run.folder / "noise.csv")["probability"].tolist()[:3] == [0.5, 0.25, 0.25]
    (run.folder / "chosen/noise.safetensors").unlink()  # as of an exported model
    assert Run.load(run.folder).transition is None


def test_the_matrix_can_be_injected(run, tmp_path):
    run.transition.to_csv(tmp_path / "noise-matrix.csv", index=False)
    settings = {"noise": "matrix", "noise_matrix": str(tmp_path / "noise-matrix.csv")}
    settings = tiny.settings(**settings, output=str(tmp_path / "run"), epochs=1)
    rate = train(settings, tiny.samples(300, wrong=0), console=QUIET).summary["noise_rate_nominal"]
    assert rate == pytest.approx(1 - np.diag(run.transition).mean(), abs=0.02)
