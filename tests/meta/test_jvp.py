"""The three engines against dense Jacobians and Hessians, and what a recorded step keeps."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

from emlc.meta.jvp import (
    JVP,
    StudentStep,
    Weights,
    choose_engine,
    forward_over_reverse,
    jvp_double_backward,
    jvp_finite_difference,
    jvp_forward,
    record_step,
    reverse_over_reverse,
)
from references import (
    STUDENTS,
    conv_net,
    flat,
    mlp,
    problem,
    relative_error,
    student_hessian_product,
    student_jacobian,
    trained,
)

EXACT = [jvp_forward, jvp_double_backward]
WITH_HESSIAN = [forward_over_reverse, reverse_over_reverse]


def images(n: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 1, 6, 6, dtype=dtype)


def direction(student: nn.Module) -> Weights:
    return {name: torch.randn_like(p) for name, p in student.named_parameters() if p.requires_grad}


def recorded(student: nn.Module, x: Tensor) -> tuple[StudentStep, Tensor]:
    """A step, and the state of the generator its dropout masks were drawn from."""
    torch.manual_seed(3)
    rng_state = torch.get_rng_state()
    return record_step(student, x)[0], rng_state


# --- J u and H u -------------------------------------------------------------------------------


@pytest.mark.parametrize("jvp", EXACT)
@pytest.mark.parametrize("student", STUDENTS)
def test_jvp_is_the_dense_jacobian_times_the_direction(student: str, jvp: Any) -> None:
    network = problem(student, warm_up=2).student
    x, u = images(), direction(network)
    step, rng_state = recorded(network, x)
    assert relative_error(jvp(step, u), student_jacobian(network, x, rng_state) @ flat(u.values())) <= 1e-12


@pytest.mark.parametrize("student", STUDENTS)
def test_finite_difference_is_close_in_float32(student: str) -> None:
    network = problem(student, warm_up=2).student
    x, u = images(), direction(network)
    expected = student_jacobian(network, x, recorded(network, x)[1]) @ flat(u.values())
    step, _ = recorded(network.float(), x.float())
    value = jvp_finite_difference(step, {name: d.float() for name, d in u.items()})
    assert value.dtype == torch.float32
    assert relative_error(value, expected) <= 0.01


@pytest.mark.parametrize("product", WITH_HESSIAN)
@pytest.mark.parametrize("student", STUDENTS)
def test_hessian_product_is_the_dense_one(student: str, product: Any) -> None:
    network = problem(student, warm_up=2).student
    x, u = images(4), direction(network)
    step, rng_state = recorded(network, x)
    cotangent = torch.randn_like(step.log_probs)
    j_u, h_u = product(step, u, cotangent)
    dense = student_hessian_product(network, x, rng_state, flat(u.values()), cotangent)
    expected = dict(zip(u, dense.split([d.numel() for d in u.values()]), strict=True))
    assert relative_error(j_u, student_jacobian(network, x, rng_state) @ flat(u.values())) <= 1e-12
    assert relative_error(flat(h_u.values()), torch.cat([expected[name] for name in h_u])) <= 1e-9
    assert not any(expected[name].any() for name in u.keys() - h_u.keys())
    assert not any(t.requires_grad for t in [j_u, *h_u.values()])


@pytest.mark.parametrize("product", WITH_HESSIAN)
def test_hessian_product_leaves_out_unused_parameters(product: Any) -> None:
    network = STUDENTS["unused"]().double()
    step, _ = recorded(network, images())
    _, h_u = product(step, direction(network), step.log_probs)
    assert step.weights.keys() - h_u.keys() == {"unused.weight", "unused.bias"}


@pytest.mark.parametrize("jvp", JVP.values(), ids=list(JVP))
def test_zero_direction_gives_zero(jvp: Any) -> None:
    step, _ = recorded(conv_net(), images(dtype=torch.float32))
    zero = {name: torch.zeros_like(w) for name, w in step.weights.items()}
    assert torch.equal(jvp(step, zero), torch.zeros_like(step.log_probs))


def test_dropout_masks_are_the_steps() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 50), nn.Dropout(0.5), nn.Linear(50, 3)).double()
    x, u = images(), direction(network)
    step, _ = recorded(network, x)
    products = [jvp(step, u) for jvp in JVP.values()]
    torch.rand(10)  # the global generator moves on, the step's masks do not
    for product, jvp in zip(products, JVP.values(), strict=True):
        assert torch.equal(product, jvp(step, u))
        assert relative_error(product, products[0]) <= 1e-3
    other, _ = record_step(network, x)
    assert relative_error(jvp_forward(other, u), products[0]) > 0.1


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v


class Attention(nn.Module):
    """The six rows of an image as tokens; fused attention or the same in plain operators."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.qkv, self.head, self.fused = nn.Linear(6, 12), nn.Linear(4, 3), fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        attend = scaled_dot_product_attention if self.fused else plain_attention
        return self.head(attend(q, k, v).mean(dim=(1, 2)))


@pytest.mark.parametrize("product", WITH_HESSIAN)
def test_fused_attention_is_differentiated(product: Any) -> None:
    fused = Attention(fused=True).double()
    plain = deepcopy(fused)
    plain.fused = False
    x, u = images(), direction(fused)
    step, rng_state = recorded(fused, x)
    j_u, h_u = product(step, u, step.log_probs)
    assert relative_error(j_u, student_jacobian(plain, x, rng_state) @ flat(u.values())) <= 1e-12
    dense = student_hessian_product(plain, x, rng_state, flat(u.values()), step.log_probs)
    assert relative_error(flat(h_u.values()), dense) <= 1e-9


# --- precision and the choice of engine --------------------------------------------------------


@pytest.mark.parametrize("jvp", EXACT)
@pytest.mark.parametrize("student", [mlp, conv_net])
def test_bfloat16_autocast_keeps_the_direction(student: Any, jvp: Any) -> None:
    torch.manual_seed(0)
    network = student()
    x, u = images(16, torch.float32), direction(network)
    with torch.autocast("cpu", torch.bfloat16):
        step, rng_state = recorded(network, x)
    assert step.precision == torch.bfloat16
    value = jvp(step, u)
    network.double()
    expected = student_jacobian(network, x.double(), rng_state) @ flat(u.values()).double()
    assert cosine_similarity(value.double().flatten(), expected.flatten(), dim=0) >= 0.99
    assert relative_error(value, expected) > 1e-4  # it did run in bfloat16


class FloatLogits(nn.Sequential):
    """Casts its logits, as many a head does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


@pytest.mark.parametrize("student", [nn.Sequential, FloatLogits])
def test_finite_differences_refuse_bfloat16(student: Any) -> None:
    network = student(nn.Flatten(), nn.Linear(36, 3))
    with torch.autocast("cpu", torch.bfloat16):
        step, _ = recorded(network, images(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"drown in the rounding of bfloat16"):
        jvp_finite_difference(step, direction(network))
    assert choose_engine(step, exact=False)[0] == "forward"


@pytest.fixture
def rounded_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    yield
    torch.set_float32_matmul_precision(before)  # also under the newer name


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="torch has no such setting yet")
@pytest.mark.usefixtures("rounded_products")
def test_rounding_that_is_set_by_torchs_newer_names_is_noticed() -> None:
    network = mlp().to(torch.float32)
    step, _ = recorded(network, images(dtype=torch.float32))
    assert choose_engine(step, exact=False)[0] == "forward"
    with pytest.raises(ValueError, match="drown in the rounding of bfloat16"):
        jvp_finite_difference(step, direction(network))


@pytest.mark.parametrize(
    ("dtype", "exact", "engine", "reason"),
    [
        (torch.float32, False, "finite-difference", "one forward pass (float32 on cpu)"),
        (torch.float64, False, "forward", "exact in any precision (float64 on cpu)"),
        (torch.bfloat16, False, "forward", "exact in any precision (bfloat16 on cpu)"),
        (
            torch.float32,
            True,
            "forward",
            "the exact meta-gradient needs Hessian-vector products (float32 on cpu)",
        ),
    ],
)
def test_choice_of_engine(dtype: torch.dtype, exact: bool, engine: str, reason: str) -> None:
    step, _ = recorded(mlp().to(dtype), images(dtype=dtype))
    assert choose_engine(step, exact=exact) == (engine, reason)


# --- the record --------------------------------------------------------------------------------


def test_recording_is_the_students_forward_pass() -> None:
    network = problem("conv").student
    other, x = deepcopy(network), images()
    torch.manual_seed(3)
    expected = torch.log_softmax(other(x), dim=1)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    step, log_probs = record_step(network, x)
    assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(log_probs, expected)
    assert log_probs.requires_grad
    assert torch.equal(step.log_probs, expected)
    assert not step.log_probs.requires_grad
    torch.testing.assert_close(dict(network.named_buffers()), dict(other.named_buffers()), rtol=0, atol=0)


def test_steps_keep_weights_that_do_not_follow_the_student() -> None:
    network = problem("shared").student
    snapshots, steps = [], []
    for _ in range(3):
        snapshots.append([p.detach().clone() for p in trained(network)])
        steps.append(record_step(network, images())[0])
        with torch.no_grad():
            for tensor in [*network.parameters(), *network.buffers()]:
                tensor += 1
    kept = [
        tensor for step in steps for tensor in [*step.weights.values(), *step.forward_pass.buffers.values()]
    ]
    live = [*network.parameters(), *network.buffers()]
    assert len({tensor.data_ptr() for tensor in [*kept, *live]}) == len(kept) + len(live)
    for step, snapshot in zip(steps, snapshots, strict=True):
        assert len(step.weights) == len(snapshot)  # a shared weight once
        assert all(torch.equal(w, s) for w, s in zip(step.weights.values(), snapshot, strict=True))


def test_batch_is_held_by_reference() -> None:
    x = images()
    assert record_step(mlp().double(), x)[0].forward_pass.inputs[0] is x


class ShiftsItsBatch(nn.Module):
    """Writes into its input: a second pass sees another batch than the first."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp().double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.add_(1))


@pytest.mark.parametrize("jvp", JVP.values(), ids=list(JVP))
def test_student_that_writes_into_its_batch_is_refused(jvp: Any) -> None:
    network = ShiftsItsBatch()
    step, _ = recorded(network, images())
    with pytest.raises(ValueError, match="modified in place"):
        jvp(step, direction(network))
