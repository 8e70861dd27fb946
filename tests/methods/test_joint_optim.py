"""Joint-Optim's losses, its labels and its second start, beside loops and records kept by hand."""

import math

import pytest
import torch

import tiny
from emlc.data.loaders import Batch
from emlc.methods.joint_optim import JointOptim

C = 3


def prepared(**hyper):
    torch.manual_seed(0)
    changes = {"method": "joint-optim", "epochs": 7, "warm_up_epochs": 3, "learning_rate": 0.3}
    settings = tiny.settings(**changes, hyper={"retraining_share": 0.3, "averaged_epochs": 3} | hyper)
    split = tiny.split(tiny.settings())
    method = JointOptim(settings, split.noisy.inputs, C)
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    return method, split


def all_samples(split):
    labels = torch.from_numpy(split.noisy.labels)
    return Batch(split.noisy.inputs, labels, torch.arange(len(labels)), len(labels))


@pytest.mark.parametrize("uniform", [True, False])
def test_the_loss_of_the_first_step(uniform):
    method, split = prepared(prior_weight=1.3, entropy_weight=0.6, uniform_prior=uniform)
    s = torch.rand(5, C, dtype=torch.float64).log_softmax(dim=1)
    y = torch.rand(5, C, dtype=torch.float64).softmax(dim=1)
    counts = [int((split.noisy.labels == c).sum()) for c in range(C)]
    prior = [1 / C] * C if uniform else [count / sum(counts) for count in counts]
    expected = 0.0
    for i in range(5):
        for j in range(C):
            expected -= y[i, j].item() * s[i, j].item() / 5
            expected -= 0.6 * math.exp(s[i, j]) * s[i, j].item() / 5
    for j in range(C):
        mean = sum(math.exp(s[i, j]) for i in range(5)) / 5
        expected += 1.3 * prior[j] * math.log(prior[j] / mean)
    assert method.loss(s, y).item() == pytest.approx(expected, rel=1e-6)


def test_labels_are_the_means_of_the_last_epochs_predictions():
    """Epochs 0-2 warm up, 3 and 4 correct labels, 5 and 6 retrain."""
    method, split = prepared()
    data, predictions = all_samples(split), []
    given = torch.nn.functional.one_hot(data.labels, C).float()
    initial = {name: tensor.clone() for name, tensor in method.student.state_dict().items()}
    for epoch in range(7):
        method.epoch = epoch
        method.start_epoch()
        if epoch < 3:
            expected = given
        elif epoch <= 5:
            expected = torch.stack(predictions[epoch - 3 : epoch]).mean(dim=0)
        torch.testing.assert_close(method.soft_labels, expected)
        torch.testing.assert_close(method.estimate().soft_labels, expected)
        if epoch == 5:
            assert tiny.same_tensors(dict(method.student.state_dict()), initial)
            assert not method.student_sgd.state
        else:
            assert not tiny.same_tensors(dict(method.student.state_dict()), initial) or epoch == 0
        state = {name: tensor.clone() for name, tensor in method.student.state_dict().items()}
        predictions.append(method.student(data.inputs).softmax(dim=1).detach())
        method.student.load_state_dict(state)  # the pass above has moved the running statistics
        method.step([data], None)
    assert [method.rate_factor for method.epoch in (4, 5)] == [1.0, 0.2 / 0.08]


def test_fewer_epochs_than_are_averaged_count_alone():
    method, split = prepared(averaged_epochs=10)
    method.step([all_samples(split)], None)
    method.epoch = 1
    method._update_labels()
    torch.testing.assert_close(method.soft_labels, method.predictions[:, 0])
    torch.testing.assert_close(method.soft_labels.sum(dim=1), torch.ones(len(split.noisy)))


def test_the_second_step_learns_from_the_labels_alone():
    method, split = prepared()
    method.epoch = 6
    data = all_samples(split)
    method.soft_labels = torch.rand(len(data.labels), C).softmax(dim=1)
    before = method.predictions.clone()
    log_s = method.student(data.inputs).log_softmax(dim=1)
    expected = -(method.soft_labels * log_s).sum() / len(data.labels)
    loss = method.step([data], None)["student_loss"]
    torch.testing.assert_close(loss, expected.detach())
    assert torch.equal(method.predictions, before)
