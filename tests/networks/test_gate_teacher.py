import math

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tiny
from emlc.methods.emlc import EMLC
from emlc.networks.gate_teacher import Teacher

N, DIM, WIDTH, C = 7, 4, 3, 5


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(DIM, WIDTH), nn.Tanh())
    return Teacher(backbone, WIDTH, C, label_embedding_dim=2, gate_hidden_dim=6).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, DIM, dtype=torch.float64, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0, 4])


def affine(layer, x):
    """A linear layer of one sample, in loops."""
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def slow_correction(teacher, x, label):
    h = [math.tanh(v) for v in affine(teacher.backbone[0], x)]
    scores = [math.exp(v) for v in affine(teacher.classifier, h)]
    y_hat = [s / sum(scores) for s in scores]
    z = teacher.label_embedding.weight[label].tolist()
    hidden = [max(0.0, v) for v in affine(teacher.gate[0], h + z)]
    w = 1 / (1 + math.exp(-affine(teacher.gate[2], hidden)[0]))
    q = [w * (c == label) + (1 - w) * y_hat[c] for c in range(C)]
    return q, y_hat, w


def test_soft_labels_sample_by_sample(teacher, batch):
    correction = teacher(*batch)
    for i, (x, label) in enumerate(zip(batch[0].tolist(), batch[1].tolist(), strict=True)):
        q, y_hat, w = slow_correction(teacher, x, label)
        assert correction.soft_labels[i].tolist() == pytest.approx(q, rel=1e-12)
        assert correction.prediction[i].tolist() == pytest.approx(y_hat, rel=1e-12)
        assert correction.retain_weight[i].item() == pytest.approx(w, rel=1e-12)


def test_soft_labels_are_distributions_and_retain_weights_lie_in_between(teacher, batch):
    q, y_hat, w = teacher(*batch)
    for probabilities in (q, y_hat):
        assert probabilities.shape == (N, C)
        assert (probabilities > 0).all()
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(N, dtype=torch.float64))
    assert w.shape == (N,)
    assert ((w > 0) & (w < 1)).all()


def test_the_retain_weight_looks_at_sample_and_label(teacher, batch):
    x, labels = batch
    w = teacher(x, labels).retain_weight
    assert (teacher(x, (labels + 1) % C).retain_weight != w).all()
    assert (teacher(x + 1, labels).retain_weight != w).all()
    torch.testing.assert_close(teacher(x, (labels + 1) % C).prediction, teacher(x, labels).prediction)


def test_the_gates_loss_reaches_the_backbone_but_not_the_classifier(teacher, batch):
    x, labels = batch
    logit = teacher.retain_logit(teacher.backbone(x), labels)
    torch.testing.assert_close(logit.sigmoid(), teacher(x, labels).retain_weight)
    binary_cross_entropy_with_logits(logit, torch.tensor([1.0, 0, 1, 0, 1, 0, 1]).double()).backward()
    for part in (teacher.backbone, teacher.label_embedding, teacher.gate):
        assert all(p.grad is not None and p.grad.norm() > 0 for p in part.parameters())
    assert all(p.grad is None for p in teacher.classifier.parameters())


@pytest.mark.parametrize("teacher_backbone", [None, "linear"])
def test_student_and_teacher_share_no_memory(teacher_backbone):
    settings = tiny.settings(teacher_backbone=teacher_backbone)
    method = EMLC(settings, tiny.samples().inputs, 3)
    memory = [
        {t.untyped_storage().data_ptr() for t in network.state_dict().values()}
        for network in (method.student, method.teacher)
    ]
    assert not memory[0] & memory[1]
