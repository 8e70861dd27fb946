"""One step of EMLC against Eq. 12 written with autograd through the unrolled student, in float64."""

import logging
import math
import weakref
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy, cross_entropy, log_softmax

import tiny
from emlc.data import Split
from emlc.data.loaders import Batch
from emlc.meta.metagradient import InnerSGD
from emlc.methods import emlc as emlc_module
from emlc.methods.emlc import ce_weight
from references import flat, relative_error

ETA, TEACHER_ETA = 0.1, 0.03
EXACT_ENGINES = ["forward", "double-backward"]
M = 6
# What the trusted half becomes: labels, and whether they are right.
CORRUPTED = torch.tensor([0, 2, 2, 1, 1, 0]), torch.tensor([1.0, 0, 1, 0, 1, 0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def fixed_corruption(monkeypatch):
    monkeypatch.setattr(emlc_module, "corrupt_half", lambda *_, **__: CORRUPTED)


def make_method(**changes):
    torch.manual_seed(0)
    settings = tiny.settings(
        **(
            {
                "teacher": "gate",
                "learning_rate": ETA,
                "teacher_learning_rate": TEACHER_ETA,
                "momentum": 0.0,
                "jvp": "forward",
            }
            | changes
        )
    )
    return tiny.emlc_in_float64(settings, image=settings.backbone == "cnn")


def make_batches(k, image=False):
    data = tiny.samples(image=image)
    rows = torch.arange(75)[: 8 * k + M].split([8] * k + [M])
    return [Batch(data.inputs[r], torch.from_numpy(data.labels)[r], r, len(r)) for r in rows]


def parameters(network):
    return flat(network.parameters()).detach()


def slow_gate_loss(teacher, h):
    labels, is_right = CORRUPTED
    return binary_cross_entropy(teacher.retain_logit(h, labels).sigmoid(), is_right)


def slow_noise_losses(teacher, noisy, h, y, *, likelihood_weight, anchor_weight):
    """The likelihood of the given labels, the head that learns them, and the anchor of T."""
    powers = ((len(teacher.transition_logits) / 2) ** 0.5 * teacher.transition_logits).exp()
    T = powers / powers.sum(dim=1, keepdim=True)
    total = 0
    for x, given, *_ in noisy:
        features = teacher.backbone(x)
        p = teacher.classifier(features).softmax(dim=1)
        likelihood = (p @ T).gather(1, given[:, None])
        head = cross_entropy(teacher.noisy_head(features.detach()), given)
        total = total + (head - likelihood_weight * likelihood.log().mean()) / len(noisy)
    with torch.no_grad():
        predicted = teacher.noisy_head(h).softmax(dim=1)
        belief = teacher.classifier(h).softmax(dim=1).gather(1, y[:, None])
    return total - anchor_weight * (belief.square() * predicted * T[y].log()).sum(dim=1).mean()


def slow_step(
    method,
    noisy,
    trusted,
    *,
    meta_weight,
    ce_weight=1.0,
    bce_weight=1.0,
    likelihood_weight=1.0,
    anchor_weight=1.0,
):
    """The parameters of student and teacher after a first step with empty momentum buffers."""
    student, teacher, s = deepcopy(method.student), deepcopy(method.teacher), method.settings
    eta = method.student_sgd.param_groups[0]["lr"]
    w = dict(student.named_parameters())
    v = {name: torch.zeros_like(p) for name, p in w.items()}
    for x, y, *_ in noisy:
        q = teacher(x, y).soft_labels
        if s.student_trusted:  # one batch for batch norm, the mean over each of its two parts
            half = trusted.inputs[: M // 2], trusted.labels[: M // 2]
            log_p = log_softmax(functional_call(student, w, (torch.cat([x, half[0]]),)), dim=1)
            right = log_p[len(x) :].gather(1, half[1][:, None])
            loss = -(q * log_p[: len(x)]).sum() / len(x) - right.mean()
        else:
            loss = -(q * log_softmax(functional_call(student, w, (x,)), dim=1)).sum() / len(x)
        gradients = torch.autograd.grad(loss, list(w.values()), create_graph=True)
        for name, g in zip(list(w), gradients, strict=True):
            v[name] = s.momentum * v[name] + g + s.weight_decay * w[name]
            w[name] = w[name] - eta * v[name]
    judges = slice(M // 2, None) if s.student_trusted else slice(None)
    logits, y = functional_call(student, w, (trusted.inputs[judges],)), trusted.labels[judges]
    h = teacher.backbone(trusted.inputs)
    if s.teacher == "gate":
        shift, objective = 0.0, cross_entropy(logits, y)
    else:  # trusted samples have the classes in shares of their own
        shift = (teacher.trusted_shares / teacher.noisy_shares).log()
        objective = 1 - (logits + shift).softmax(dim=1)[range(len(y)), y].mean()
    ce = cross_entropy(teacher.classifier(h) + shift, trusted.labels)
    total = ce_weight * ce + meta_weight * objective
    if s.teacher == "gate":
        total = total + bce_weight * slow_gate_loss(teacher, h)
    else:
        weights = {"likelihood_weight": likelihood_weight, "anchor_weight": anchor_weight}
        total = total + slow_noise_losses(teacher, noisy, h, trusted.labels, **weights)
    alpha = list(teacher.parameters())
    gradients = torch.autograd.grad(total, alpha, allow_unused=True, materialize_grads=True)
    decay = s.weight_decay if s.teacher_weight_decay is None else s.teacher_weight_decay
    decays = [0.0 if p is getattr(teacher, "transition_logits", None) else decay for p in alpha]
    decayed = flat([g + d * p for g, d, p in zip(gradients, decays, alpha, strict=True)])
    return flat(w.values()).detach(), flat(alpha).detach() - TEACHER_ETA * decayed


def assert_step_is(method, noisy, trusted, **weights):
    before = parameters(method.student), parameters(method.teacher)
    expected = slow_step(method, noisy, trusted, **weights)
    method.step(noisy, trusted)
    after = parameters(method.student), parameters(method.teacher)
    for b, a, e in zip(before, after, expected, strict=True):
        assert relative_error(a - b, e - b) <= 1e-9


@pytest.mark.parametrize("engine", EXACT_ENGINES)
@pytest.mark.parametrize("backbone", ["mlp", "cnn"])
def test_a_step_is_equation_12(backbone, engine):
    method = make_method(backbone=backbone, jvp=engine, meta_weight=2.0, ce_weight=0.7, bce_weight=1.3)
    noisy, trusted = make_batches(1, image=backbone == "cnn")
    assert_step_is(method, [noisy], trusted, meta_weight=2.0, ce_weight=0.7, bce_weight=1.3)


@pytest.mark.parametrize(
    "weights",
    [
        {"meta_weight": 0.0, "ce_weight": 0.0, "bce_weight": 1.0},
        {"meta_weight": 0.0, "ce_weight": 1.0, "bce_weight": 0.0},
        {"meta_weight": 1.0, "ce_weight": 0.0, "bce_weight": 0.0},
        {"meta_weight": 0.0, "ce_weight": 1.0, "bce_weight": 1.0},
    ],
    ids=["bce", "ce", "meta", "no meta"],
)
def test_a_weight_of_zero_switches_its_term_off(weights):
    method = make_method(**weights)
    noisy, trusted = make_batches(1)
    assert_step_is(method, [noisy], trusted, **weights)


def test_all_weights_zero_leave_the_teacher_as_it_is():
    method = make_method(meta_weight=0.0, ce_weight=0.0, bce_weight=0.0)
    before = parameters(method.teacher)
    noisy, trusted = make_batches(1)
    method.step([noisy], trusted)
    assert torch.equal(parameters(method.teacher), before)


def reach(k, *, momentum, nesterov=False):
    """How far torch's SGD goes in k steps against a gradient of one."""
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([weight], ETA, momentum=momentum, nesterov=nesterov)
    for _ in range(k):
        weight.grad = torch.ones_like(weight)
        sgd.step()
    return -weight.item()


@pytest.mark.parametrize(
    "options", [{"momentum": 0.0}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}]
)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_reach_is_how_far_sgd_goes(k, options):
    assert InnerSGD(ETA, **options).step_scale(k, "exact") == pytest.approx(reach(k, **options))
    # Prop. 2 knows no momentum, and discounts earlier steps.
    discounted = sum(ETA * (1 - ETA) ** (k - 1 - tau) for tau in range(k))
    assert InnerSGD(ETA, **options).step_scale(k, "approximate") == pytest.approx(discounted)


@pytest.mark.parametrize("eta", [ETA, 0.01])
def test_the_default_meta_weight_of_one_step_is_one_over_the_learning_rate(eta):
    method = make_method(teacher="gate")
    method.student_sgd.param_groups[0]["lr"] = eta  # as a schedule does
    noisy, trusted = make_batches(1)
    assert_step_is(method, [noisy], trusted, meta_weight=1 / eta)


def test_that_of_the_noise_aware_teacher_is_smaller_by_what_the_batch_can_tell_and_by_the_first_rate():
    method = make_method(teacher="noise-aware")
    method.student_sgd.param_groups[0]["lr"] = ETA / 3
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    T = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
    method.teacher.noisy_shares.copy_(shares)
    method.teacher.trusted_shares.copy_(torch.tensor([0.4, 0.4, 0.2]))
    with torch.no_grad():
        method.teacher.transition_logits.copy_(T.log() / math.sqrt(3 / 2))
    noisy, trusted = make_batches(1)
    assert_step_is(
        method,
        [noisy],
        trusted,
        meta_weight=0.6 * (0.45 + 0.24 + 0.12) / (0.16 / 0.5 + 0.16 / 0.3 + 0.2) / ETA,
    )


@pytest.mark.parametrize("engine", EXACT_ENGINES)
@pytest.mark.parametrize("look_ahead", [1, 3])
def test_a_student_that_also_learns_from_half_of_the_trusted_batch(look_ahead, engine):
    method = make_method(
        look_ahead=look_ahead, meta_gradient="exact", jvp=engine, momentum=0.9, student_trusted=True
    )
    *noisy, trusted = make_batches(look_ahead)
    assert_step_is(method, noisy, trusted, meta_weight=1 / reach(look_ahead, momentum=0.9))


@pytest.mark.parametrize("backbone", ["mlp", "cnn"])
@pytest.mark.parametrize("likelihood_weight", [1.0, 0.3])
@pytest.mark.parametrize("anchor_weight", [0.0, 2.0])
def test_a_step_of_the_noise_aware_teacher(backbone, likelihood_weight, anchor_weight):
    weights = {"meta_weight": 2.0, "likelihood_weight": likelihood_weight, "anchor_weight": anchor_weight}
    method = make_method(teacher="noise-aware", backbone=backbone, **weights)
    noisy, trusted = make_batches(1, image=backbone == "cnn")
    assert_step_is(method, [noisy], trusted, **weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"look_ahead": 5},
        {"look_ahead": 2, "momentum": 0.9, "weight_decay": 0.01, "teacher_momentum": 0.0},
        {"look_ahead": 2, "student_trusted": True},
        {"look_ahead": 2, "save_memory": True},
        {"look_ahead": 3, "jvp": "double-backward"},
    ],
    ids=str,
)
def test_a_look_ahead_of_the_noise_aware_teacher_with_the_exact_gradient(changes):
    method = make_method(teacher="noise-aware", meta_gradient="exact", meta_weight=3.0, **changes)
    *noisy, trusted = make_batches(method.look_ahead)
    assert_step_is(method, noisy, trusted, meta_weight=3.0)


def test_the_noise_aware_teacher_keeps_the_shares_of_the_classes_in_the_noisy_batches():
    method = make_method(teacher="noise-aware", look_ahead=2)
    *noisy, trusted = make_batches(2)
    before = method.teacher.noisy_shares.clone()
    q = torch.stack([method.teacher(b.inputs, b.labels).soft_labels.mean(dim=0) for b in noisy]).mean(dim=0)
    method.step(noisy, trusted)
    torch.testing.assert_close(method.teacher.noisy_shares, 0.99 * before + 0.01 * q.detach())


@pytest.mark.parametrize(
    ("trusted", "noisy", "classes", "weight"),
    [
        (100, 49_900, 10, 0.02),
        (1000, 49_000, 10, (0.02 / 0.07) ** 2),
        (1000, 49_000, 100, 4 / 49),
        (50, 5000, 10, 0.8**4),
        (20, 1500, 2, (8 / 15) ** 4),
        (30, 1317, 10, 1.0),
        (5000, 45_000, 10, 1.0),
        (0, 0, 10, 1.0),
    ],
    ids=["least", "share", "size", "per class", "two classes", "small", "many", "none"],
)
def test_the_weight_of_few_trusted_samples_beside_many_given_labels(trusted, noisy, classes, weight):
    assert ce_weight(trusted, noisy, classes) == pytest.approx(weight)


def test_few_given_labels_per_class_let_the_trusted_weigh_more(monkeypatch):
    monkeypatch.setattr("emlc.methods.emlc._FEW_PER_CLASS", 20)
    method = make_method(teacher="noise-aware")
    data, rows = tiny.samples(), torch.arange(150).remainder(75).numpy()
    method.bind(Split(noisy=data.take(rows[1:]), trusted=data.take(rows[:1])))
    assert method.num_classes == 3
    assert method.loss_weights["teacher_ce"] == pytest.approx((60 / 149) ** 4)


@pytest.mark.parametrize(("trusted", "weight"), [(1, 0.02), (8, (8 / 150 / 0.07) ** 2), (40, 1.0)])
def test_the_fewer_the_trusted_samples_the_less_they_weigh_beside_given_labels(trusted, weight, monkeypatch):
    monkeypatch.setattr("emlc.methods.emlc._FEW", 0)
    method = make_method(teacher="noise-aware", meta_weight=0.0)
    data, rows = tiny.samples(), torch.arange(150).remainder(75).numpy()
    split = Split(noisy=data.take(rows[trusted:]), trusted=data.take(rows[:trusted]))
    method.bind(split)
    method.teacher.noisy_shares.copy_(method.teacher.trusted_shares)
    noisy, batch = make_batches(1)
    assert_step_is(method, [noisy], batch, meta_weight=0.0, ce_weight=weight)


def test_the_noise_aware_teacher_learns_from_given_labels_without_a_meta_loss():
    method = make_method(teacher="noise-aware", meta_weight=0.0)
    noisy, trusted = make_batches(1)
    assert_step_is(method, [noisy], trusted, meta_weight=0.0)
    assert set(method.step([noisy], trusted)) == {
        *("student_loss", "meta_objective"),
        *("teacher_ce", "teacher_anchor", "teacher_nll", "noisy_head_ce"),
    }


@pytest.mark.parametrize("engine", EXACT_ENGINES)
@pytest.mark.parametrize("sgd", [{}, {"momentum": 0.9, "weight_decay": 0.01}], ids=["plain", "momentum"])
def test_a_look_ahead_of_three_with_the_exact_gradient(sgd, engine):
    method = make_method(look_ahead=3, meta_gradient="exact", jvp=engine, **sgd)
    *noisy, trusted = make_batches(3)
    assert_step_is(method, noisy, trusted, meta_weight=1 / reach(3, momentum=sgd.get("momentum", 0.0)))


@pytest.mark.parametrize("teacher", ["gate", "noise-aware"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_teacher_may_have_a_weight_decay_of_its_own(teacher, decay):
    method = make_method(teacher=teacher, weight_decay=0.1, teacher_weight_decay=decay, meta_weight=1.0)
    noisy, trusted = make_batches(1)
    assert_step_is(method, [noisy], trusted, meta_weight=1.0)


def test_a_teacher_without_momentum_keeps_no_velocity():
    method = make_method(momentum=0.9, teacher_momentum=0.0)
    for _ in range(2):
        noisy, trusted = make_batches(1)
        before = parameters(method.teacher)
        method.step([noisy], trusted)
    gradient = flat([p.grad for p in method.teacher.parameters()])
    assert relative_error(parameters(method.teacher) - before, -TEACHER_ETA * gradient) <= 1e-12


def test_a_look_ahead_takes_k_student_steps_and_one_teacher_step(monkeypatch):
    method = make_method(look_ahead=3)
    taken = []
    for name, optimizer in method.optimizers().items():
        monkeypatch.setattr(
            optimizer, "step", lambda name=name, step=optimizer.step: (taken.append(name), step())
        )
    *noisy, trusted = make_batches(3)
    method.step(noisy, trusted)
    assert taken == ["student", "student", "student", "teacher"]


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("approximate", "finite-difference"),
        *((k, e) for k in ("approximate", "exact") for e in EXACT_ENGINES),
    ],
)
def test_the_student_is_what_k_plain_steps_make_it_running_statistics_included(kind, engine):
    method = make_method(look_ahead=2, momentum=0.9, jvp=engine, meta_gradient=kind)
    *noisy, trusted = make_batches(2)
    student, teacher = deepcopy(method.student), deepcopy(method.teacher)
    sgd = torch.optim.SGD(student.parameters(), ETA, momentum=0.9)
    for x, y, *_ in noisy:
        with torch.no_grad():
            q = teacher(x, y).soft_labels
        sgd.zero_grad()
        cross_entropy(student(x), q).backward()
        sgd.step()
    method.step(noisy, trusted)
    expected = student.state_dict()
    assert expected["backbone.3.running_mean"].norm() > 0
    assert expected["backbone.3.num_batches_tracked"] == 2
    for name, value in method.student.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12, msg=name)


def test_the_losses_are_those_of_the_step():
    method = make_method()
    noisy, trusted = make_batches(1)
    student, teacher = deepcopy(method.student), deepcopy(method.teacher)
    with torch.no_grad():
        student_loss = cross_entropy(student(noisy.inputs), teacher(*noisy[:2]).soft_labels)
        h = teacher.backbone(trusted.inputs)
        ce = cross_entropy(teacher.classifier(h), trusted.labels)
        bce = binary_cross_entropy(teacher.retain_logit(h, CORRUPTED[0]).sigmoid(), CORRUPTED[1])
    losses = method.step([noisy], trusted)
    with torch.no_grad():
        objective = cross_entropy(method.student(trusted.inputs), trusted.labels)
    expected = {
        "student_loss": student_loss,
        "teacher_ce": ce,
        "teacher_bce": bce,
        "meta_objective": objective,
    }
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert not loss.requires_grad
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-12), name


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_the_corruption_gets_the_trusted_labels_and_the_teachers_scores(monkeypatch, kind):
    method = make_method(corruption=kind)
    noisy, trusted = make_batches(1)
    with torch.no_grad():
        teacher = deepcopy(method.teacher)
        scores = teacher.classifier(teacher.backbone(trusted.inputs))
    calls = []
    monkeypatch.setattr(
        emlc_module, "corrupt_half", lambda *arguments, **_: (calls.append(arguments), CORRUPTED)[1]
    )
    method.step([noisy], trusted)
    ((labels, logits, asked, _),) = calls
    assert torch.equal(labels, trusted.labels)
    torch.testing.assert_close(logits.detach(), scores)
    assert asked == kind


def test_the_engine_is_told_to_those_who_debug(logged):
    logged.set_level(logging.DEBUG, "emlc")
    noisy, trusted = make_batches(1)
    asked, automatic = make_method(jvp="double-backward"), make_method(jvp="auto")
    for method in (asked, automatic):
        method.step([noisy], trusted)
    first, second = logged.messages
    assert first == "Jacobian-vector products by double-backward: as asked"
    assert second.startswith("Jacobian-vector products by forward")  # float64: no finite differences


def test_warm_up_learns_the_given_labels_and_then_starts_the_teacher_from_the_student():
    method = make_method(warm_up_epochs=1, epochs=3)
    first, trusted = make_batches(1)
    hand = deepcopy(method.student)
    teacher = parameters(method.teacher)

    method.start_epoch()
    losses = method.step([first], trusted)

    cross_entropy(hand(first.inputs), first.labels).backward()
    expected = torch.cat([(p - ETA * p.grad).flatten() for p in hand.parameters()]).detach()
    assert relative_error(parameters(method.student), expected) < 1e-12
    assert set(losses) == {"student_loss"}
    assert torch.equal(parameters(method.teacher), teacher)

    method.epoch = 1
    method.start_epoch()
    assert tiny.same_tensors(method.teacher.backbone.state_dict(), method.student.backbone.state_dict())
    assert tiny.same_tensors(method.teacher.classifier.state_dict(), method.student.classifier.state_dict())
    shared = {p.data_ptr() for p in method.student.parameters()} & {
        p.data_ptr() for p in method.teacher.parameters()
    }
    assert not shared
    assert "meta_objective" in method.step([first], trusted)


def test_the_teacher_is_copied_once():
    method = make_method(warm_up_epochs=1, epochs=4)
    first, trusted = make_batches(1)
    method.epoch = 1
    method.step([first], trusted)
    before = parameters(method.teacher)
    method.epoch = 2
    method.start_epoch()
    assert torch.equal(parameters(method.teacher), before)


# --- save_memory -------------------------------------------------------------------------------


def backbone_with_dropout(shape):
    return nn.Sequential(nn.Linear(*shape, 7), nn.BatchNorm1d(7), nn.ReLU(inplace=True), nn.Dropout(0.3))


def with_dropout(**changes):
    changes = {"backbone": f"{__name__}:backbone_with_dropout", "momentum": 0.9} | changes
    return make_method(**changes)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "changes",
    [
        {"look_ahead": 1},
        {"look_ahead": 3},
        {"look_ahead": 3, "meta_gradient": "exact"},
        {"look_ahead": 2, "student_trusted": True},
        {"look_ahead": 2, "meta_weight": 0.0},
    ],
    ids=str,
)
def test_saving_memory_changes_nothing(changes, seed):
    results = []
    for save_memory in (False, True):
        method = with_dropout(save_memory=save_memory, **changes)
        torch.manual_seed(seed)
        *noisy, trusted = make_batches(method.look_ahead)
        losses = [method.step(noisy, trusted) for _ in range(3)]
        after = {f"{n}.{k}": v for n, net in method.networks().items() for k, v in net.state_dict().items()}
        results.append({"networks": after, "losses": losses, "generator": torch.get_rng_state()})
    counts = [v.item() for name, v in results[0]["networks"].items() if name.endswith("num_batches_tracked")]
    assert len(counts) == 2
    assert min(counts) >= 3
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


class _Held:
    """Stands in a graph for a tensor that it keeps for the backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def bytes_of(tensors):
    """Of what tensors hold, each storage once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def held_before_the_meta_gradient(monkeypatch, k, **changes):
    """Bytes that graphs hold when the meta-gradient is asked for, and those of the kept products."""
    method = with_dropout(look_ahead=k, **changes)
    *noisy, trusted = make_batches(k)
    held, found = weakref.WeakSet(), []
    original = emlc_module.meta_gradient

    def meta_gradient(steps, *arguments, **options):
        states = [tensor for net in method.networks().values() for tensor in net.state_dict().values()]
        own = {tensor.untyped_storage().data_ptr() for tensor in states}
        tensors = [h.tensor for h in held if h.tensor.untyped_storage().data_ptr() not in own]
        products = [product.values for step in steps for product in step.products or ()]
        found.append((bytes_of(tensors), bytes_of(products)))
        assert not any(targets.requires_grad for targets in options["targets"])
        return original(steps, *arguments, **options)

    def pack(tensor):
        wrapped = _Held(tensor.detach())
        held.add(wrapped)
        return wrapped

    monkeypatch.setattr(emlc_module, "meta_gradient", meta_gradient)
    with saved_tensors_hooks(pack, lambda wrapped: wrapped.tensor):
        for _ in range(2):  # products are kept once the engine is known
            method.step(noisy, trusted)
    return found[1]


def test_saving_memory_keeps_no_graph_of_the_teacher_and_no_products(monkeypatch):
    kept = [held_before_the_meta_gradient(monkeypatch, k) for k in (1, 4)]
    assert kept[0][0] > 0
    assert kept[1][0] == 4 * kept[0][0]
    assert kept[0][1] > 0
    assert kept[1][1] == 4 * kept[0][1]
    for k in (1, 4):
        assert held_before_the_meta_gradient(monkeypatch, k, save_memory=True) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "keeps"),
    [
        ({"jvp": "auto"}, [False, True]),  # float64: auto finds forward in the first step
        ({"jvp": "double-backward"}, [False, False]),
        ({"meta_gradient": "exact"}, [False, False]),
        ({"meta_weight": 0.0}, [False, False]),
        ({"save_memory": True}, [False, False]),
    ],
    ids=str,
)
def test_products_are_kept_for_the_engine_that_wants_them(monkeypatch, changes, keeps):
    kept = []
    original = emlc_module.record_step

    def record_step(student, x, *, keep_products):
        kept.append(keep_products)
        return original(student, x, keep_products=keep_products)

    monkeypatch.setattr(emlc_module, "record_step", record_step)
    method = make_method(**changes)
    noisy, trusted = make_batches(1)
    for _ in range(2):
        method.step([noisy], trusted)
    assert kept == keeps


@pytest.mark.parametrize("backbone", ["mlp", "cnn"])
def test_a_step_with_kept_products_is_equation_12(backbone):
    method = make_method(backbone=backbone)
    method.decisions["jvp"] = "forward"  # as after a first step
    noisy, trusted = make_batches(1, image=backbone == "cnn")
    assert_step_is(method, [noisy], trusted, meta_weight=1 / ETA)


def test_a_decision_for_finite_differences_is_made_anew_where_they_drown():
    noisy, trusted = make_batches(1)
    method, other = make_method(jvp="auto"), make_method(jvp="forward")
    method.decisions["jvp"] = "finite-difference"  # of a run that began in float32, or on another device
    for each in (method, other):
        each.step([noisy], trusted)
    assert method.decisions["jvp"] == "forward"
    assert torch.equal(parameters(method.teacher), parameters(other.teacher))
