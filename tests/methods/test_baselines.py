"""The baselines against SGD with momentum and weight decay written by hand, in float64."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import log_softmax

import tiny
from emlc.config.methods import method_class
from emlc.data.classes import UNKNOWN
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.fine_tuning import FineTuning
from emlc.methods.trusted_only import TrustedOnly
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter
from references import flat, relative_error

ETA, MU, LAMBDA = 0.1, 0.9, 0.01


def batches():
    data = tiny.samples()
    rows = torch.arange(32).split(8)
    return [Batch(data.inputs[r], torch.from_numpy(data.labels)[r], r, len(r)) for r in rows]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("kind", [CrossEntropy, TrustedOnly])
def test_two_steps_are_sgd_on_the_right_labels(kind, nesterov):
    torch.manual_seed(0)
    settings = tiny.settings(learning_rate=ETA, momentum=MU, weight_decay=LAMBDA, nesterov=nesterov)
    method = kind(settings, tiny.samples().inputs, 3)
    method.student.double()
    method.setup(tiny.ALONE)
    method.train_mode()
    noisy, trusted = batches()[:2], batches()[2:]

    student = deepcopy(method.student)
    start = flat(student.parameters()).detach()
    v = [torch.zeros_like(p) for p in student.parameters()]
    for x, y, *_ in noisy if kind is CrossEntropy else trusted:
        loss = -log_softmax(student(x), dim=1)[torch.arange(8), y].mean()
        gradients = torch.autograd.grad(loss, list(student.parameters()))
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(student.parameters(), gradients, strict=True)):
                g = g + LAMBDA * p
                v[i] = MU * v[i] + g
                p -= ETA * (g + MU * v[i] if nesterov else v[i])
        if kind is CrossEntropy:
            losses = method.step([Batch(x, y, y, len(y))], None)
        else:
            losses = method.step([], Batch(x, y, y, len(y)))
        assert losses["student_loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    change = flat(method.student.parameters()) - start
    assert relative_error(change, flat(student.parameters()) - start) <= 1e-12


def trained(tmp_path, method, **changes):
    settings = tiny.settings(method=method, epochs=3, **changes)
    split = tiny.split(settings)
    torch.manual_seed(0)
    trained = method_class(method)(settings, split.noisy.inputs, 3)
    history = fit(trained, split, settings, QuietReporter(), tmp_path / method, tiny.ALONE).history
    return trained, history, split


def test_the_ceiling_is_cross_entropy_on_labels_that_are_right(tmp_path):
    ceiling, _, split = trained(tmp_path, "true-labels")
    assert (split.noisy.labels != split.noisy.true_labels).any()
    right = replace(split, noisy=replace(split.noisy, labels=split.noisy.true_labels))
    settings = tiny.settings(method="cross-entropy", epochs=3)
    torch.manual_seed(0)
    plain = CrossEntropy(settings, split.noisy.inputs, 3)
    fit(plain, right, settings, QuietReporter(), tmp_path / "plain", tiny.ALONE)
    assert tiny.same_tensors(ceiling.student.state_dict(), plain.student.state_dict())


@pytest.mark.parametrize("unknown", [1, 63])
def test_the_ceiling_needs_every_true_label(tmp_path, unknown):
    settings = tiny.settings(method="true-labels")
    split = tiny.split(settings)
    truth = split.noisy.true_labels.copy()
    truth[:unknown] = UNKNOWN
    method = method_class("true-labels")(settings, split.noisy.inputs, 3)
    with pytest.raises(InputError, match=f"needs true labels; {unknown} noisy samples have none"):
        method.check(replace(split, noisy=replace(split.noisy, true_labels=truth)))


def test_fine_tuning_takes_the_trusted_batches_in_its_last_epochs(tmp_path, monkeypatch):
    seen = []
    original = FineTuning.descend_cross_entropy

    def descend(self, batch):
        seen.append((self.epoch, len(batch.labels)))
        return original(self, batch)

    monkeypatch.setattr(FineTuning, "descend_cross_entropy", descend)
    _, history, _ = trained(tmp_path, "fine-tuning", hyper={"fine_tuned_share": 0.3})
    assert [row["warm_up"] for row in history] == [1, 1, 0]
    sizes = {epoch: [n for e, n in seen if e == epoch] for epoch in range(3)}
    assert sizes == {0: [16, 16, 16, 15], 1: [16, 16, 16, 15], 2: [8, 8, 8, 8]}
