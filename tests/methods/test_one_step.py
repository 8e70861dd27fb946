"""MW-Net and MSLC against the published order of things, unrolled by torch in float64."""

from copy import deepcopy

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import tiny
from emlc.config.methods import method_class
from emlc.data.loaders import Batch
from emlc.runs.metrics import recovery_metrics
from references import flat, relative_error

C = 3


def batch(n, seed, total=24):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    positions = torch.randperm(total, generator=generator)[:n]
    return Batch(x, torch.randint(0, C, (n,), generator=generator), positions, n)


def prepared(name, **changes):
    torch.manual_seed(1)
    options = {"backbone": "mlp", "learning_rate": 0.3, "jvp": "forward", "epochs": 4}
    settings = tiny.settings(method=name, **(options | changes))
    split = tiny.split(settings)
    method = method_class(name)(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    return method


def weight(net, losses):
    """1-100-1, by its own formula."""
    first, _, second, _ = net
    hidden = (losses[:, None] * first.weight[:, 0] + first.bias).clamp(min=0)
    return 1 / (1 + torch.exp(-(hidden @ second.weight[0] + second.bias)))


def mw_net_loss(method, nets, logits, noisy):
    losses = cross_entropy(logits, noisy.labels, reduction="none")
    return (weight(nets, losses.detach()) * losses).mean()


def mslc_loss(method, nets, logits, noisy):
    """As the published code has it: three cross-entropies, two of them with the largest classes."""
    earlier_labels = method.sample_state()["soft_labels"][noisy.positions].argmax(1)
    classes = [noisy.labels, earlier_labels, logits.argmax(1)]
    given, earlier, now = (cross_entropy(logits, y, reduction="none") for y in classes)
    a = weight(nets["a"], given.detach())
    b = weight(nets["b"], earlier.detach())
    return (a * given + b * (1 - a) * earlier + (1 - b) * (1 - a) * now).mean()


LOSS = {"mw-net": mw_net_loss, "mslc": mslc_loss}


def with_labels_so_far(method):
    if "soft_labels" in method.sample_state():
        table = method.sample_state()["soft_labels"]
        generator = torch.Generator().manual_seed(5)
        table.copy_(torch.rand(table.shape, generator=generator).softmax(dim=1))


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "nesterov": True}], ids=str)
@pytest.mark.parametrize("name", LOSS)
def test_a_step_is_the_published_one(name, options, logged):
    method = prepared(name, warm_up_epochs=0, **options)
    with_labels_so_far(method)
    for seed in range(2):  # the second step has momentum, and moments in Adam
        noisy, trusted = batch(7, seed), batch(6, 10 + seed)
        twin = deepcopy(method.meta_net)
        student = deepcopy(method.student)
        adam = torch.optim.Adam(twin.parameters(), 1e-3, weight_decay=1e-4)
        adam.load_state_dict(deepcopy(method.meta_adam.state_dict()))
        sgd = torch.optim.SGD(
            student.parameters(),
            0.3,
            momentum=0.9,
            weight_decay=options.get("weight_decay", 0),
            nesterov=options.get("nesterov", False),
        )
        sgd.load_state_dict(deepcopy(method.student_sgd.state_dict()))

        # As published: backward through the look-ahead step, then everything again with the new weights.
        w = {name: p.detach().clone().requires_grad_() for name, p in student.named_parameters()}
        spare = {name: b.clone() for name, b in student.named_buffers()}
        loss = LOSS[name](method, twin, functional_call(student, (w, spare), (noisy.inputs,)), noisy)
        gradients = torch.autograd.grad(loss, list(w.values()), create_graph=True)
        ahead = {k: p - 0.3 * g for (k, p), g in zip(w.items(), gradients, strict=True)}
        trusted_loss = cross_entropy(
            functional_call(student, (ahead, spare), (trusted.inputs,)), trusted.labels
        )
        expected = torch.autograd.grad(trusted_loss, list(twin.parameters()))
        for p, g in zip(twin.parameters(), expected, strict=True):
            p.grad = g.clone()
        adam.step()
        student.zero_grad()
        LOSS[name](method, twin, student(noisy.inputs), noisy).backward()
        sgd.step()

        start = flat(method.student.parameters()).detach().clone()
        losses = method.step([noisy], trusted)
        assert losses["meta_objective"].item() == pytest.approx(trusted_loss.item(), rel=1e-12)
        gradients = [p.grad for p in method.meta_net.parameters()]
        assert flat(expected).norm() > 1e-6
        assert relative_error(flat(gradients), flat(expected)) <= 1e-10
        assert relative_error(flat(method.meta_net.parameters()), flat(twin.parameters())) <= 1e-12
        change = flat(method.student.parameters()) - start
        assert relative_error(change, flat(student.parameters()) - start) <= 1e-10
        for key, buffer in method.student.named_buffers():  # each batch of noisy samples counts once
            torch.testing.assert_close(buffer, student.get_buffer(key))
    assert logged.messages in ([], ["Jacobian-vector products by forward: as asked"])


def test_mslc_keeps_the_soft_mixture_as_the_label_of_the_next_epoch():
    method = prepared("mslc", warm_up_epochs=0)
    with_labels_so_far(method)
    before = method.sample_state()["soft_labels"].clone()
    noisy = batch(7, 0)
    probabilities = deepcopy(method.student)(noisy.inputs).softmax(dim=1)
    method.step([noisy], batch(6, 1))
    table = method.sample_state()["soft_labels"]
    for i, k in enumerate(noisy.positions.tolist()):
        y, z, p = noisy.labels[i], before[k].double(), probabilities[i]
        a = weight(method.meta_net["a"], -p[y].log().reshape(1))
        b = weight(method.meta_net["b"], -p[z.argmax()].log().reshape(1))
        mixed = (1 - a) * (b * z + (1 - b) * p)
        mixed[y] += a.item()
        torch.testing.assert_close(table[k], mixed.float())
    others = torch.ones(len(table), dtype=torch.bool)
    others[noisy.positions] = False
    assert others.any()
    torch.testing.assert_close(table[others], before[others])


def test_mslc_begins_with_the_mean_prediction_of_the_warm_ups_last_epochs():
    method = prepared("mslc", epochs=5, warm_up_epochs=4, hyper={"averaged_epochs": 2})
    seen, noisy = [], batch(7, 0)
    for method.epoch in range(4):
        assert method.warming_up
        seen.append(deepcopy(method.student)(noisy.inputs).softmax(dim=1))
        method.step([noisy], batch(6, 1))
        assert method.estimate().soft_labels is None
    table = method.sample_state()["soft_labels"]
    torch.testing.assert_close(table[noisy.positions], ((seen[2] + seen[3]) / 2).float())
    method.epoch = 4
    assert not method.warming_up
    assert method.step([noisy], batch(6, 1)).keys() == {"student_loss", "meta_objective"}


def test_mslc_without_a_warm_up_begins_with_the_given_labels():
    method = prepared("mslc", warm_up_epochs=0)
    labels = tiny.split(method.settings).noisy.labels
    torch.testing.assert_close(method.sample_state()["soft_labels"], torch.eye(C)[labels])


@pytest.mark.parametrize("name", LOSS)
def test_what_it_holds_of_the_noisy_samples(name):
    settings = tiny.settings(method=name, warm_up_epochs=0)
    split = tiny.split(settings)
    method = method_class(name)(settings, split.noisy.inputs, C)
    method.setup(tiny.ALONE)
    method.bind(split)
    estimate = method.estimate()
    method.student.eval()
    y = torch.from_numpy(split.noisy.labels)
    losses = cross_entropy(method.student(split.noisy.inputs), y, reduction="none")
    net = method.meta_net if name == "mw-net" else method.meta_net["a"]
    torch.testing.assert_close(estimate.weights, weight(net, losses).detach())
    if name == "mslc":
        torch.testing.assert_close(estimate.soft_labels.sum(dim=1), torch.ones(len(y)))
    assert recovery_metrics(*estimate, split.noisy).keys() >= {"retain_weight_wrong", "retain_weight_right"}
