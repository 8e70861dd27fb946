"""The meta-gradient against dense Jacobians, autograd through the unrolled optimiser, and TorchOpt."""

import warnings
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from emlc.errors import EMLCWarning, SteepNetworkWarning
from emlc.meta.metagradient import (
    InnerSGD,
    MetaGradient,
    StudentStep,
    meta_gradient,
    record_step,
    soft_cross_entropy,
    trusted_gradient,
)
from references import (
    STUDENTS,
    Problem,
    equation_11,
    flat,
    mlp,
    problem,
    relative_error,
    student_jacobian,
    unrolled,
)

ENGINES = ["forward", "finite-difference", "double-backward"]
EXACT_IN_ANY_PRECISION = ["forward", "double-backward"]
COMBINATIONS = [("approximate", e) for e in ENGINES] + [("exact", e) for e in EXACT_IN_ANY_PRECISION]
MOMENTUM: dict[str, Any] = {"momentum": 0.9, "weight_decay": 5e-4}


class LookAhead:
    """What a user does: k real SGD steps, the trusted gradient, the coefficients, one backward pass."""

    def __init__(self, problem: Problem) -> None:
        self.student, optimizer = problem.copy()
        self.teacher = problem.teacher
        self.sgd = InnerSGD.of(optimizer)
        self.steps: list[StudentStep] = []
        self.soft_labels: list[Tensor] = []
        for x, label in problem.noisy:
            q = self.teacher(x, label)
            step, log_probs = record_step(self.student, x)
            soft_cross_entropy(log_probs, q.detach()).backward()
            optimizer.step()
            optimizer.zero_grad()
            self.steps.append(step)
            self.soft_labels.append(q)
        self.loss, self.g_w = trusted_gradient(self.student, *problem.trusted)

    def meta_gradient(self, **options: Any) -> MetaGradient:
        targets = [q.detach() for q in self.soft_labels]
        return meta_gradient(self.steps, self.g_w, self.sgd, targets=targets, **options)

    def alpha_gradient(self, **options: Any) -> Tensor:
        c = self.meta_gradient(**options).coefficients
        total = torch.stack([(c_t * q_t).sum() for c_t, q_t in zip(c, self.soft_labels, strict=True)]).sum()
        return flat(torch.autograd.grad(total, list(self.teacher.parameters()), retain_graph=True))


# --- Propositions 1 and 2 ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", EXACT_IN_ANY_PRECISION)
@pytest.mark.parametrize("student", STUDENTS)
def test_one_step_is_autograd_through_plain_sgd(student: str, engine: str) -> None:
    case = problem(student)
    assert relative_error(LookAhead(case).alpha_gradient(engine=engine), unrolled(case)) <= 1e-9


@pytest.mark.parametrize("engine", EXACT_IN_ANY_PRECISION)
@pytest.mark.parametrize("sgd", [{}, MOMENTUM], ids=["plain", "momentum"])
@pytest.mark.parametrize("sizes", [(6, 6), (6, 6, 6, 6, 6), (6, 6, 4)], ids=str)
@pytest.mark.parametrize("student", ["mlp", "conv", "shared"])
def test_k_steps_are_equation_11(
    student: str, sizes: tuple[int, ...], sgd: dict[str, Any], engine: str
) -> None:
    case = problem(student, sizes, **sgd)
    assert relative_error(LookAhead(case).alpha_gradient(engine=engine), equation_11(case)) <= 1e-9


# --- the exact gradient ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", EXACT_IN_ANY_PRECISION)
@pytest.mark.parametrize("warm_up", [0, 3], ids=["fresh", "warm"])
@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy-ball", "nesterov"])
@pytest.mark.parametrize("sizes", [(6, 6), (6, 6, 6, 6, 4)], ids=str)
@pytest.mark.parametrize("student", STUDENTS)
def test_exact_is_autograd_through_the_unrolled_optimiser(
    student: str, sizes: tuple[int, ...], nesterov: bool, warm_up: int, engine: str
) -> None:
    case = problem(student, sizes, warm_up=warm_up, nesterov=nesterov, **MOMENTUM)
    assert bool(case.buffers) == (warm_up > 0)
    value = LookAhead(case).alpha_gradient(kind="exact", engine=engine)
    assert relative_error(value, unrolled(case)) <= 1e-8


def test_exact_agrees_in_eval_mode() -> None:
    case = problem("conv", (6, 6, 4), warm_up=2, **MOMENTUM)
    case.student.eval()
    assert relative_error(LookAhead(case).alpha_gradient(kind="exact"), unrolled(case)) <= 1e-8


def test_exact_of_one_plain_step_is_proposition_1() -> None:
    look_ahead = LookAhead(problem("conv"))
    one, other = (look_ahead.alpha_gradient(kind=kind, engine="forward") for kind in ("exact", "approximate"))
    assert relative_error(one, other) <= 1e-12


@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy-ball", "nesterov"])
def test_exact_agrees_with_torchopt(nesterov: bool) -> None:
    with warnings.catch_warnings():
        # TorchOpt compiles helpers with torch.jit.script, which torch has deprecated.
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        torchopt = pytest.importorskip("torchopt")
    case = problem("mlp", (6, 6), nesterov=nesterov, **MOMENTUM)
    student, _ = case.copy()
    optimizer = torchopt.MetaSGD(student, **case.sgd)
    for x, label in case.noisy:
        optimizer.step(cross_entropy(student(x), case.teacher(x, label)))
    x, y = case.trusted
    expected = flat(torch.autograd.grad(cross_entropy(student(x), y), list(case.teacher.parameters())))
    assert relative_error(LookAhead(case).alpha_gradient(kind="exact"), expected) <= 1e-8


# --- the engines -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["approximate", "exact"])
@pytest.mark.parametrize("student", STUDENTS)
def test_engines_agree(student: str, kind: str) -> None:
    look_ahead = LookAhead(problem(student, (6, 6, 4), warm_up=2, **MOMENTUM))
    one, other = (look_ahead.alpha_gradient(kind=kind, engine=e) for e in EXACT_IN_ANY_PRECISION)
    assert relative_error(one, other) <= 1e-9


@pytest.mark.parametrize("warm_up", [0, 20], ids=["initialised", "trained"])
@pytest.mark.parametrize("student", STUDENTS)
def test_finite_differences_agree_within_a_percent_in_float32(student: str, warm_up: int) -> None:
    look_ahead = LookAhead(problem(student, (6, 6, 4), dtype=torch.float32, warm_up=warm_up))
    one, other = (look_ahead.alpha_gradient(engine=e) for e in ("finite-difference", "forward"))
    assert relative_error(one, other) <= 0.01


@pytest.mark.parametrize(
    ("dtype", "kind", "engine"),
    [
        (torch.float32, "approximate", "finite-difference"),
        (torch.float64, "approximate", "forward"),
        (torch.float32, "exact", "forward"),
    ],
)
def test_auto_reports_its_engine(dtype: torch.dtype, kind: str, engine: str) -> None:
    assert LookAhead(problem("mlp", dtype=dtype)).meta_gradient(kind=kind).engine == engine


# --- what is left alone ------------------------------------------------------------------------


def state_of(student: nn.Module) -> dict[str, Any]:
    return {
        "parameters": {name: p.detach().clone() for name, p in student.named_parameters()},
        "objects": {name: id(p) for name, p in student.named_parameters()},
        "gradients": {name: deepcopy(p.grad) for name, p in student.named_parameters()},
        "requires_grad": {name: p.requires_grad for name, p in student.named_parameters()},
        "buffers": {name: b.clone() for name, b in student.named_buffers()},
        "modes": [module.training for module in student.modules()],
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    torch.testing.assert_close(after.pop("parameters"), before.pop("parameters"), rtol=0, atol=0)
    torch.testing.assert_close(after.pop("buffers"), before.pop("buffers"), rtol=0, atol=0)
    for name, g in before.pop("gradients").items():
        h = after["gradients"].pop(name)
        assert h is None if g is None else torch.equal(g, h)
    after.pop("gradients")
    assert after == before


@pytest.mark.parametrize("student", ["frozen", "shared"])
@pytest.mark.parametrize(("kind", "engine"), COMBINATIONS)
def test_student_steps_and_generator_are_left_alone(student: str, kind: str, engine: str) -> None:
    look_ahead = LookAhead(problem(student, (6, 6), warm_up=2, **MOMENTUM))
    for p in look_ahead.student.parameters():
        p.grad = torch.randn_like(p) if p.requires_grad else None
    before, rng_state = state_of(look_ahead.student), torch.get_rng_state()
    records = [deepcopy((step.weights, step.forward_pass.buffers)) for step in look_ahead.steps]
    look_ahead.meta_gradient(kind=kind, engine=engine)
    assert_same_state(before, state_of(look_ahead.student))
    for record, step in zip(records, look_ahead.steps, strict=True):
        torch.testing.assert_close((step.weights, step.forward_pass.buffers), record, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), rng_state)


def test_trusted_gradient_leaves_the_student_alone() -> None:
    case = problem("frozen", warm_up=2)
    for p in case.student.parameters():
        p.grad = torch.randn_like(p) if p.requires_grad else None
    before = state_of(case.student)
    trusted_gradient(case.student, *case.trusted)
    assert_same_state(before, state_of(case.student))


@pytest.mark.parametrize("student", STUDENTS)
def test_trusted_gradient_is_the_gradient_of_the_mean_cross_entropy(student: str) -> None:
    case = problem(student)
    network, _ = case.copy()
    x, y = case.trusted
    rng_state = torch.get_rng_state()
    loss, g_w = trusted_gradient(network, x, y)
    torch.set_rng_state(rng_state)
    expected = -torch.log_softmax(network(x), dim=1)[torch.arange(len(y)), y].mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert not loss.requires_grad
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert g_w.keys() == trained.keys()
    for name, p in trained.items():
        torch.testing.assert_close(g_w[name], torch.zeros_like(p) if p.grad is None else p.grad)


@pytest.mark.parametrize(("kind", "engine"), COMBINATIONS)
def test_coefficients_have_no_graph(kind: str, engine: str) -> None:
    look_ahead = LookAhead(problem("conv", (6, 6, 4)))
    targets = look_ahead.soft_labels  # with their graph: it must not leak into the coefficients
    c = meta_gradient(
        look_ahead.steps,
        look_ahead.g_w,
        look_ahead.sgd,
        targets=targets,
        kind=kind,  # pyright: ignore[reportArgumentType]
        engine=engine,  # pyright: ignore[reportArgumentType]
    ).coefficients
    assert [c_t.shape for c_t in c] == [q.shape for q in targets]
    assert not any(c_t.requires_grad for c_t in c)
    assert not any(w.requires_grad for step in look_ahead.steps for w in step.weights.values())


def test_soft_cross_entropy_is_that_of_torch() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64)
    q = torch.softmax(torch.randn_like(logits), dim=1)
    torch.testing.assert_close(soft_cross_entropy(logits.log_softmax(dim=1), q), cross_entropy(logits, q))


# --- operators without forward-mode AD ---------------------------------------------------------


class _Softsign(torch.autograd.Function):
    """x / (1 + |x|) with a backward pass that autograd can follow, and no jvp."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x / (1 + x.abs())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] / (1 + x.abs()) ** 2


class SoftsignWithoutJvp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Softsign.apply(x)  # pyright: ignore[reportReturnType]


class Distances(nn.Module):
    """Logits as minus the distances to one prototype a class: ``torch.cdist`` or plain operators."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.prototypes, self.fused = nn.Parameter(torch.randn(3, 5)), fused

    def forward(self, x: Tensor) -> Tensor:
        w = self.prototypes
        return -torch.cdist(x, w) if self.fused else -(x[:, None] - w).norm(dim=2)


def without_forward_ad(operator: str) -> tuple[nn.Module, nn.Module]:
    """A student that forward-mode AD cannot pass, and the same one in plain operators."""
    net = mlp()
    assert isinstance(net, nn.Sequential)
    if operator == "_Softsign":
        net[2] = SoftsignWithoutJvp()
        plain = deepcopy(net)
        plain[2] = nn.Softsign()
    else:
        net[5] = Distances(fused=True)
        plain = deepcopy(net)
        plain[5].fused = False
    return net.double(), plain.double()


@pytest.mark.parametrize("kind", ["approximate", "exact"])
@pytest.mark.parametrize("operator", ["_Softsign", "_cdist_forward"])
def test_auto_falls_back_to_double_backward_and_names_the_operator(operator: str, kind: str) -> None:
    case = problem("mlp", (6, 4), **({} if kind == "approximate" else MOMENTUM))
    case.student, plain = without_forward_ad(operator)
    with pytest.warns(EMLCWarning, match=rf"forward-mode AD does not support .*{operator}:") as caught:
        value = LookAhead(case).alpha_gradient(kind=kind)
    assert [warning.filename for warning in caught] == [__file__]  # once, and at the caller's line
    case.student = plain
    expected = equation_11(case) if kind == "approximate" else unrolled(case)
    assert relative_error(value, expected) <= 1e-9


def test_fallback_is_reported_as_the_engine() -> None:
    case = problem("mlp")
    case.student, _ = without_forward_ad("_Softsign")
    with pytest.warns(EMLCWarning, match="double backward"):
        assert LookAhead(case).meta_gradient().engine == "double-backward"


@pytest.mark.parametrize("kind", ["approximate", "exact"])
@pytest.mark.parametrize("operator", ["_Softsign", "_cdist_forward"])
def test_explicit_forward_engine_does_not_fall_back(operator: str, kind: str) -> None:
    case = problem("mlp")
    case.student, _ = without_forward_ad(operator)
    with pytest.raises(NotImplementedError):
        LookAhead(case).meta_gradient(kind=kind, engine="forward")


def test_other_missing_implementations_are_not_swallowed() -> None:
    look_ahead = LookAhead(problem("mlp"))

    def unwritten(*_: object) -> None:
        raise NotImplementedError("to be written")

    look_ahead.student.register_forward_hook(unwritten)
    with pytest.raises(NotImplementedError, match="to be written"):
        look_ahead.meta_gradient()


# --- InnerSGD ----------------------------------------------------------------------------------


def test_inner_sgd_reads_the_optimiser() -> None:
    optimizer = torch.optim.SGD(mlp().parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
    assert InnerSGD.of(optimizer) == InnerSGD(0.02, 0.9, 5e-4, nesterov=True)


def parameter() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(2))]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (torch.optim.Adam(parameter(), lr=0.1), "must be torch.optim.SGD, not Adam"),
        (torch.optim.SGD(parameter(), lr=0.1, momentum=0.9, dampening=0.5), "dampening and maximize"),
        (torch.optim.SGD(parameter(), lr=0.1, maximize=True), "dampening and maximize"),
        (
            torch.optim.SGD([{"params": parameter(), "lr": 0.2}, {"params": parameter()}], lr=0.1),
            "groups with different settings",
        ),
    ],
    ids=["adam", "dampening", "maximize", "groups"],
)
def test_inner_sgd_refuses(optimizer: torch.optim.Optimizer, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InnerSGD.of(optimizer)


# --- errors ------------------------------------------------------------------------------------


def test_no_steps() -> None:
    with pytest.raises(ValueError, match="k >= 1"):
        meta_gradient([], {}, InnerSGD(0.1))


def test_exact_refuses_finite_differences() -> None:
    with pytest.raises(ValueError, match="finite differences cannot give the Hessian-vector products"):
        LookAhead(problem()).meta_gradient(kind="exact", engine="finite-difference")


@pytest.mark.parametrize("targets", [None, []])
def test_exact_needs_targets(targets: list[Tensor] | None) -> None:
    look_ahead = LookAhead(problem())
    with pytest.raises(ValueError, match="needs the soft labels of every step"):
        meta_gradient(look_ahead.steps, look_ahead.g_w, look_ahead.sgd, targets=targets, kind="exact")


@pytest.mark.parametrize("kind", ["approximate", "exact"])
def test_targets_of_another_batch(kind: str) -> None:
    look_ahead = LookAhead(problem("mlp", (6, 4)))
    look_ahead.soft_labels.reverse()
    with pytest.raises(ValueError, match=r"step 1 of 2: the batch differs.*\(4, 3\).*\(6, 3\)"):
        look_ahead.meta_gradient(kind=kind)


def test_log_probabilities_that_are_not_finite() -> None:
    case = problem("mlp", (6, 6))
    case.noisy[1][0][0] = torch.inf
    with pytest.raises(FloatingPointError, match="step 2 of 2: the student's log-probabilities"):
        LookAhead(case).meta_gradient()


def test_g_w_that_is_not_finite() -> None:
    look_ahead = LookAhead(problem("mlp", (6, 6)))
    look_ahead.g_w["3.weight"][0, 0] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"after look-ahead step 2: g_w of parameter 3\.weight is not"
    ):
        look_ahead.meta_gradient()


@pytest.mark.parametrize("engine", EXACT_IN_ANY_PRECISION)
def test_product_that_is_not_finite(engine: str) -> None:
    look_ahead = LookAhead(problem("mlp", (6, 6)))
    largest = torch.finfo(torch.float64).max
    look_ahead.g_w = {name: torch.full_like(g, largest) for name, g in look_ahead.g_w.items()}
    with pytest.raises(FloatingPointError, match="step 1 of 2: the Jacobian-vector product is not finite"):
        look_ahead.meta_gradient(engine=engine)


def test_g_w_of_other_parameters() -> None:
    look_ahead = LookAhead(problem())
    del look_ahead.g_w["3.weight"]
    with pytest.raises(ValueError, match="trained parameters are not those of g_w"):
        look_ahead.meta_gradient()


@pytest.mark.parametrize(("kind", "engine"), COMBINATIONS)
def test_batch_modified_in_place(kind: str, engine: str) -> None:
    case = problem("conv", (6, 6))
    look_ahead = LookAhead(case)
    case.noisy[0][0].mul_(2)
    with pytest.raises(ValueError, match="modified in place"):
        look_ahead.meta_gradient(kind=kind, engine=engine)


@pytest.mark.parametrize(("kind", "engine"), COMBINATIONS)
def test_changed_mode(kind: str, engine: str) -> None:
    look_ahead = LookAhead(problem("conv"))
    look_ahead.student.eval()
    with pytest.raises(ValueError, match="train/eval modes differ"):
        look_ahead.meta_gradient(kind=kind, engine=engine)


class Drifting(nn.Module):
    """Its output depends on how often it was called, not only on weights, batch and random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = mlp().double(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.net(x) * self.calls


@pytest.mark.parametrize(("kind", "engine"), [c for c in COMBINATIONS if c[1] != "finite-difference"])
def test_student_that_is_not_deterministic(kind: str, engine: str) -> None:
    case = problem()
    case.student = Drifting()
    with pytest.raises(ValueError, match="not a deterministic function of its weights"):
        LookAhead(case).meta_gradient(kind=kind, engine=engine)


def test_frozen_parameters_are_absent() -> None:
    look_ahead = LookAhead(problem("frozen"))
    frozen = {"0.weight", "0.bias", "5.weight", "5.bias"}
    assert not frozen & look_ahead.g_w.keys()
    assert not frozen & look_ahead.steps[0].weights.keys()


@pytest.mark.parametrize(("option", "value"), [("kind", "Exact"), ("engine", "fast")])
def test_an_unknown_kind_or_engine(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{option}: expected one of .*, got '{value}'"):
        LookAhead(problem()).meta_gradient(**{option: value})


@pytest.mark.parametrize("r", [[], [torch.ones(5) / 6]], ids=["another number", "another batch"])
def test_weights_of_other_samples(r: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=r"expected weights r for \[6\] samples"):
        LookAhead(problem("mlp")).meta_gradient(r=r)


class Steep(nn.Module):
    """A function that a small move of its weights turns upside down."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(1e6 * self.weight) * x


def test_auto_leaves_finite_differences_where_the_student_is_too_steep() -> None:
    x, g_w = torch.randn(4, 3), {"weight": torch.ones(3)}
    step, _ = record_step(Steep(), x)
    with pytest.warns(SteepNetworkWarning, match="too steep for finite differences"):
        result = meta_gradient([step], g_w, InnerSGD(lr=0.1))
    assert result.engine == "forward"
    expected = meta_gradient([step], g_w, InnerSGD(lr=0.1), engine="forward").coefficients
    assert torch.equal(result.coefficients[0], expected[0])
    with pytest.raises(ValueError, match="replaying"):
        meta_gradient([step], g_w, InnerSGD(lr=0.1), engine="finite-difference")


# --- auto with float32 on a CPU: finite differences, if they are near enough ------------------------


class _Ripples(torch.autograd.Function):
    """sin without a jvp."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * x.cos()


class Rippled(nn.Module):
    """An MLP with small ripples: a small move of its weights changes its slope, and hardly what it gives."""

    def __init__(self, *, forward_ad: bool) -> None:
        super().__init__()
        self.net, self.ripples, self.forward_ad = mlp(), nn.Linear(36, 3), forward_ad

    def forward(self, x: Tensor) -> Tensor:
        h = 3000 * self.ripples(x.flatten(1))
        ripples = h.sin() if self.forward_ad else _Ripples.apply(h)
        return self.net(x) + 0.01 * ripples  # pyright: ignore[reportOperatorIssue]


def of_auto(case: Problem, instead: str) -> tuple[LookAhead, MetaGradient, list[Tensor]]:
    """What auto gives, and the coefficients by automatic differentiation."""
    look_ahead = LookAhead(case)
    return look_ahead, look_ahead.meta_gradient(), look_ahead.meta_gradient(engine=instead).coefficients


@pytest.mark.parametrize("forward_ad", [True, False], ids=["forward", "double-backward"])
def test_auto_keeps_finite_differences_of_a_smooth_student(forward_ad: bool) -> None:
    instead = "forward" if forward_ad else "double-backward"
    case = problem("mlp", (6, 6, 4), dtype=torch.float32)
    if not forward_ad:
        case.student = without_forward_ad("_Softsign")[0].float()
    look_ahead, result, exact = of_auto(case, instead)
    assert result.engine == "finite-difference"
    differences = look_ahead.meta_gradient(engine="finite-difference").coefficients
    assert relative_error(result.coefficients[0], exact[0]) <= 1e-6  # it was computed anyway
    assert relative_error(differences[0], exact[0]) > 1e-6
    for coefficients, difference, value in zip(
        result.coefficients[1:], differences[1:], exact[1:], strict=True
    ):
        assert torch.equal(coefficients, difference)
        assert relative_error(coefficients, value) <= 0.01


@pytest.mark.parametrize("forward_ad", [True, False], ids=["forward", "double-backward"])
def test_auto_leaves_finite_differences_of_a_student_with_ripples(forward_ad: bool) -> None:
    instead = "forward" if forward_ad else "double-backward"
    case = problem("mlp", (6, 6, 4), dtype=torch.float32)
    torch.manual_seed(1)
    case.student = Rippled(forward_ad=forward_ad)
    with pytest.warns(
        SteepNetworkWarning, match=f"too steep for finite differences: .* uses {instead}$"
    ) as caught:
        look_ahead, result, exact = of_auto(case, instead)
    assert len(caught) == 1
    assert result.engine == instead
    # Near enough for the check of the replay, and not as a product.
    differences = look_ahead.meta_gradient(engine="finite-difference").coefficients
    assert relative_error(differences[0], exact[0]) > 0.05
    for coefficients, value in zip(result.coefficients, exact, strict=True):
        assert relative_error(coefficients, value) <= 1e-6


@pytest.mark.parametrize("student", ["mlp", "rippled"])
def test_the_first_product_of_auto_is_the_dense_one(student: str) -> None:
    case = problem("mlp", dtype=torch.float32)
    if student == "rippled":
        torch.manual_seed(1)
        case.student = Rippled(forward_ad=True)
    look_ahead = LookAhead(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SteepNetworkWarning)
        (coefficients,) = look_ahead.meta_gradient().coefficients
    before, x = case.student.double(), case.noisy[0][0].double()
    g_w = flat(look_ahead.g_w.values()).double()
    expected = case.sgd["lr"] / len(x) * student_jacobian(before, x, torch.get_rng_state()) @ g_w
    # sin(3000 ...) of float32 has lost four of its seven digits.
    assert relative_error(coefficients, expected) <= (1e-6 if student == "mlp" else 1e-2)
