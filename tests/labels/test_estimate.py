"""Labels and weights of methods without a teacher: in files, as they were at the chosen epoch."""

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import emlc
import tiny
from emlc.cli import main
from emlc.config.methods import method_class
from emlc.runs import fit as fit_module
from emlc.runs.reporters import QuietReporter
from emlc.runs.train import train

QUIET = Console(quiet=True)


def trained(folder, method, **changes):
    settings = tiny.settings(method=method, output=str(folder), epochs=3, **changes)
    return train(settings, tiny.samples(), test=tiny.unlike(30, 3), console=QUIET)


@pytest.mark.parametrize("method", ["mlc", "mslc", "dividemix"])
def test_corrected_labels_are_those_the_method_holds(tmp_path, method):
    run = trained(tmp_path / "run", method)
    estimates = load_file(tmp_path / "run/chosen/samples.safetensors")
    soft, split = estimates["soft_labels"], tiny.split(run.settings)
    table = pd.read_csv(tmp_path / "run/labels.csv", dtype={"id": str})
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "run/labels.parquet"), check_dtype=False)
    names, given = np.array(split.classes), split.noisy.labels
    assert table["id"].tolist() == split.noisy.ids.tolist()
    assert table["given_label"].tolist() == names[given].tolist()
    assert table["true_label"].tolist() == names[split.noisy.true_labels].tolist()
    assert table["corrected_label"].tolist() == [names[row.argmax()] for row in soft]
    assert table["is_label_issue"].tolist() == (table["corrected_label"] != table["given_label"]).tolist()
    for row, probabilities, label in zip(table.itertuples(), soft, given, strict=True):
        assert row.corrected_probability == pytest.approx(probabilities.max().item(), rel=1e-5)
        assert row.label_quality == pytest.approx(probabilities[label].item(), rel=1e-5)
    predicted = run.predict_proba(split.noisy.inputs).argmax(dim=1)
    assert table["predicted_label"].tolist() == names[predicted].tolist()
    assert ("retain_weight" in table) == ("weights" in estimates)
    if "weights" in estimates:
        np.testing.assert_allclose(table["retain_weight"], estimates["weights"], rtol=1e-5)
    recovered = 100 * (table["corrected_label"] == table["true_label"]).mean()
    assert run.summary["label_recovery"] == pytest.approx(recovered, abs=1e-3)
    assert (tmp_path / "run/recovery.png").read_bytes().startswith(b"\x89PNG")


def test_weights_are_written_with_what_they_weigh(tmp_path):
    run = trained(tmp_path / "run", "mw-net")
    weights = load_file(tmp_path / "run/chosen/samples.safetensors")["weights"]
    table = pd.read_csv(tmp_path / "run/weights.csv", dtype={"id": str})
    noisy = tiny.split(run.settings).noisy
    assert list(table) == ["id", "given_label", "weight", "true_label"]
    assert table["id"].tolist() == noisy.ids.tolist()
    assert table["given_label"].tolist() == [noisy.classes[label] for label in noisy.labels]
    np.testing.assert_allclose(table["weight"], weights, rtol=1e-5)
    assert not (tmp_path / "run/labels.csv").exists()
    right = noisy.labels == noisy.true_labels
    assert run.metrics["retain_weight_right"].iloc[-1] == pytest.approx(
        load_file(tmp_path / "run/last/samples.safetensors")["weights"][right].mean().item(), rel=1e-5
    )


def test_correct_says_where_the_labels_are(tmp_path, capsys):
    trained(tmp_path / "run", "mlc")
    assert main(["correct", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "mlc has corrected the labels of its own samples" in error
    assert str(tmp_path / "run/labels.csv") in error


def test_the_chosen_epochs_are_kept(tmp_path, monkeypatch):
    """Not the last ones: the networks and the labels are of one moment."""
    figures = iter({"choice_accuracy": float(accuracy), "choice_loss": 0.0} for accuracy in (50, 90, 60))
    monkeypatch.setattr(fit_module, "epoch_metrics", lambda *_: next(figures))
    settings = tiny.settings(method="dividemix", epochs=3, warm_up_epochs=1, learning_rate=0.5)
    split = tiny.split(settings)
    torch.manual_seed(0)
    method = method_class("dividemix")(settings, split.noisy.inputs, 3)
    estimates = []
    estimate = method.estimate
    monkeypatch.setattr(method, "estimate", lambda: estimates.append(estimate()) or estimates[-1])
    fit_module.fit(method, split, settings, QuietReporter(), tmp_path, tiny.ALONE)
    chosen = load_file(tmp_path / "chosen/samples.safetensors")["soft_labels"]
    last = load_file(tmp_path / "last/samples.safetensors")["soft_labels"]
    assert torch.equal(chosen, estimates[1].soft_labels)
    assert torch.equal(last, estimates[-1].soft_labels)
    assert not torch.equal(chosen, last)


def test_the_estimator_hands_them_out_in_the_words_of_y():
    samples = tiny.samples()
    X, y = samples.inputs.numpy(), np.array([10, 20, 30])[samples.labels]
    trusted = np.zeros(len(y), dtype=bool)
    for c in (10, 20, 30):
        trusted[np.flatnonzero(y == c)[:4]] = True
    small = {"epochs": 2, "width": 5, "random_state": 0}
    model = emlc.EMLCClassifier(method="dividemix", **small).fit(X, y, trusted=trusted)
    table = model.correct_labels()
    assert table["id"].tolist() == np.flatnonzero(~trusted).tolist()
    assert table["given_label"].tolist() == y[~trusted].tolist()
    assert set(table["corrected_label"]) <= {10, 20, 30}
    with pytest.raises(ValueError, match="dividemix corrects only the labels of training"):
        model.correct_labels(X, y)
    weighing = emlc.EMLCClassifier(method="mw-net", **small).fit(X, y, trusted=trusted)
    with pytest.raises(ValueError, match="no label was corrected"):
        weighing.correct_labels()
