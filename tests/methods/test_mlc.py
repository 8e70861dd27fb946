"""MLC's step beside an unrolled one: torch differentiates the student's whole step, in float64."""

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy, log_softmax
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.methods.mlc import MLC, MetaNet, MLCHyper
from emlc.timing.mlc import PrunedMLC
from references import relative_error

C = 3


def batch(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(0, C, (n,), generator=generator), torch.arange(n), n)


def prepared(kind=MLC, **changes):
    torch.manual_seed(0)
    settings = tiny.settings(method="mlc", backbone="mlp", learning_rate=0.3, **changes)
    method = kind(settings, batch(20, seed=9).inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.train_mode()
    return method


def reference(method, noisy, trusted, v):
    """Weights after a step on ``noisy``, and the derivative of the judging half's loss there in alpha."""
    s = method.settings
    half = len(trusted.labels) // 2
    n = len(noisy.labels)
    alpha = [p.detach().clone().requires_grad_() for p in method.meta_net.parameters()]
    w = {name: p.detach().clone().requires_grad_() for name, p in method.student.named_parameters()}
    buffers = {name: b.clone() for name, b in method.student.named_buffers()}

    def logits(weights, x):
        return functional_call(method.student, weights | {k: b.clone() for k, b in buffers.items()}, (x,))

    inner = {name.removeprefix("backbone."): p for name, p in w.items() if name.startswith("backbone.")}
    inner |= {k.removeprefix("backbone."): b.clone() for k, b in buffers.items()}
    h = functional_call(method.student.backbone, inner, (noisy.inputs,)).detach()
    names = [name for name, _ in method.meta_net.named_parameters()]
    q = functional_call(method.meta_net, dict(zip(names, alpha, strict=True)), (h, noisy.labels))
    soft = -(q * log_softmax(logits(w, noisy.inputs), 1)).sum()
    hard = cross_entropy(logits(w, trusted.inputs[half:]), trusted.labels[half:], reduction="sum")
    loss = (soft + hard) / (n + len(trusted.labels) - half)
    gradients = torch.autograd.grad(loss, list(w.values()), create_graph=True)
    moved = {}
    for (name, p), g in zip(w.items(), gradients, strict=True):
        d = g + s.weight_decay * p
        buffer = s.momentum * v[name] + d
        moved[name] = p - s.learning_rate * (d + s.momentum * buffer if s.nesterov else buffer)
    trusted_loss = cross_entropy(logits(moved, trusted.inputs[:half]), trusted.labels[:half])
    return moved, torch.autograd.grad(trusted_loss, alpha)


def momentum_buffers(method):
    state = {
        name: method.student_sgd.state[p].get("momentum_buffer")
        for name, p in method.student.named_parameters()
    }
    return {name: torch.tensor(0.0) if v is None else v.clone() for name, v in state.items()}


@pytest.mark.parametrize("kind", [MLC, PrunedMLC])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"momentum": 0.0}, {"nesterov": True}, {"hyper": {"skip": True}}],
    ids=str,
)
def test_step_equals_unrolled_step(kind, options):
    method = prepared(kind, **options)
    for seed in range(3):  # the second and third step have momentum
        noisy, trusted = batch(7, seed), batch(6, 10 + seed)
        moved, meta_gradient = reference(method, noisy, trusted, momentum_buffers(method))
        before = [p.detach().clone() for p in method.meta_net.parameters()]
        method.step([noisy], trusted)
        for name, p in method.student.named_parameters():
            torch.testing.assert_close(p, moved[name])
        for p, g, old in zip(method.meta_net.parameters(), meta_gradient, before, strict=True):
            torch.testing.assert_close(p.grad, g)
            assert not torch.equal(p, old)


def published_meta_gradient(method, noisy, trusted, *, moves_first):
    """The authors' iteration: the student gets its next weights *before* alpha's backward pass, or after."""
    half, s = len(trusted.labels) // 2, method.settings
    n, total = len(noisy.labels), len(noisy.labels) + len(trusted.labels) - half
    w = list(method.student.parameters())
    h = method.student.backbone(noisy.inputs)
    q = method.meta_net(h.detach(), noisy.labels)
    soft = -(q * log_softmax(method.student.classifier(h), 1)).sum(dim=1).mean()
    hard = cross_entropy(method.student(trusted.inputs[half:]), trusted.labels[half:])
    gradients = torch.autograd.grad((n * soft + (total - n) * hard) / total, w, create_graph=True)
    before = [p.data.clone() for p in w]
    moved = [p - s.learning_rate * g for p, g in zip(before, gradients, strict=True)]
    for p, new in zip(w, moved, strict=True):
        p.data = new.data
    judged = cross_entropy(method.student(trusted.inputs[:half]), trusted.labels[:half])
    g_moved = torch.autograd.grad(judged, w)
    for p, old in zip(w, before, strict=True):
        p.data = p.data if moves_first else old
    proxy = -sum((g * s.learning_rate * g2).sum() for g, g2 in zip(gradients, g_moved, strict=True))
    result = torch.autograd.grad(proxy, list(method.meta_net.parameters()))
    for p, old in zip(w, before, strict=True):
        p.data = old
    return torch.cat([each.flatten() for each in result])


def test_the_published_step_is_this_one_but_for_where_it_exchanges_the_weights():
    noisy, trusted = batch(7, 0), batch(6, 10)
    published, mended = (
        published_meta_gradient(prepared(), noisy, trusted, moves_first=each) for each in (True, False)
    )
    method = prepared()
    method.step([noisy], trusted)
    actual = torch.cat([p.grad.flatten() for p in method.meta_net.parameters()])
    assert relative_error(actual, mended) <= 1e-12
    assert relative_error(actual, published) > 1e-3


def test_history_is_discounted_by_gamma():
    method, beside = prepared(look_ahead=2), prepared()
    first, second, trusted = batch(7, 0), batch(7, 1), batch(6, 2)
    v = momentum_buffers(beside)
    _, earlier = reference(beside, first, trusted, v)
    beside.step([first], trusted)
    for p, q in zip(beside.meta_net.parameters(), method.meta_net.parameters(), strict=True):
        p.data.copy_(q)  # Adam has moved beside's, and not yet method's
    # gamma is the second iteration's: its g is taken where the first has led, its g' one step further.
    moved, latest = reference(beside, second, trusted, momentum_buffers(beside))

    def g(weights):
        weights = {name: p.detach().requires_grad_() for name, p in weights.items()}
        state = weights | {name: b.clone() for name, b in beside.student.named_buffers()}
        loss = cross_entropy(
            functional_call(beside.student, state, (trusted.inputs[:3],)), trusted.labels[:3]
        )
        return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(weights.values()))])

    g_w, g_moved = g(dict(beside.student.named_parameters())), g(moved)
    gamma = 0.7 * (g_moved @ g_w) / (g_w @ g_w)
    method.step([first, second], trusted)
    for p, now, before in zip(method.meta_net.parameters(), latest, earlier, strict=True):
        torch.testing.assert_close(p.grad, now + gamma * before)


def test_trusted_gradients_leave_running_statistics_alone():
    method, plain = prepared(), prepared()
    noisy, trusted = batch(7, 0), batch(6, 1)
    method.step([noisy], trusted)
    plain.student(noisy.inputs)
    plain.student(trusted.inputs[3:])
    for name, buffer in method.student.named_buffers():
        torch.testing.assert_close(buffer, plain.student.get_buffer(name))


def test_no_value_is_brought_from_the_device(monkeypatch):
    seen = set()

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    method = prepared()
    # On a CPU Adam counts its steps there; capturable, as it is made for CUDA, it does not.
    monkeypatch.setattr(method.meta_adam, "step", lambda: None)
    with Operators():
        method.step([batch(7, 0)], batch(6, 1))
    assert "addmm" in seen
    assert not seen & {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select"}


def test_the_gate_keeps_the_given_label_as_far_as_its_logit_says():
    net = MetaNet(5, C, MLCHyper(skip=True)).double()
    h, y = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 2, 1, 0])
    logits = net.layers(torch.cat([h, net.label_embedding.weight[y]], dim=1))
    for i, q in enumerate(net(h, y)):
        kept = 1 / (1 + torch.exp(-logits[i, C]))
        expected = (1 - kept) * logits[i, :C].exp() / logits[i, :C].exp().sum()
        expected[y[i]] += kept
        torch.testing.assert_close(q, expected)


def test_what_it_holds_are_the_meta_nets_labels_of_the_students_features():
    settings = tiny.settings(method="mlc")
    split = tiny.split(settings)
    method = MLC(settings, split.noisy.inputs, C)
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    estimate = method.estimate()
    assert method.student.training
    method.train_mode(False)
    with torch.no_grad():
        h = method.student.backbone(split.noisy.inputs)
        expected = method.meta_net(h, torch.from_numpy(split.noisy.labels))
    torch.testing.assert_close(estimate.soft_labels, expected)
    assert estimate.weights is None


def test_the_schedule_and_the_rate_of_the_meta_net():
    method = prepared()
    assert method.meta_adam.param_groups[0]["lr"] == 3e-4
    assert method.meta_adam.param_groups[0]["amsgrad"]
    assert method.scheduled() == [method.student_sgd]
    assert prepared(hyper={"meta_learning_rate": 0.01}).meta_adam.param_groups[0]["lr"] == 0.01
    given = prepared(hyper={"meta_learning_rate": 0.01}, teacher_learning_rate=0.02)
    assert given.meta_adam.param_groups[0]["lr"] == 0.02


def test_halves_of_the_trusted_batch_need_two_samples_each():
    settings = tiny.settings(method="mlc", trusted_batch=3)
    split = tiny.split(settings)
    method = MLC(settings, split.noisy.inputs, C)
    with pytest.raises(InputError, match="trusted_batch: mlc halves it; expected at least 4"):
        method.check(split)
