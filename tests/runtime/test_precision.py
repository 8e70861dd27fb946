"""bf16 mixed precision against float64: the loss, the Jacobian-vector products, a whole run."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import tiny
from emlc.config.methods import method_class
from emlc.meta.jvp import StudentStep, Weights, record_step
from emlc.meta.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.networks.backbones import Classifier, build_backbone
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter
from emlc.runtime.distributed import start_ranks
from emlc.runtime.precision import computes_bfloat16

C = 10
SGD = InnerSGD(lr=0.02)


def take_step(backbone: str, dtype: torch.dtype, *, bf16: bool) -> tuple[StudentStep, Tensor, Weights]:
    """The record of a student step, its loss, and the gradient on trusted samples after it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=generator)
    y = torch.randint(C, (16,), generator=generator)
    q = torch.rand(16, C, generator=generator).softmax(dim=1).to(dtype)
    torch.manual_seed(0)
    student = Classifier(*build_backbone(backbone, images, 16), C).to(dtype)
    sgd = torch.optim.SGD(student.parameters(), SGD.lr)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        step, log_probs = record_step(student, images[:16])
    loss = soft_cross_entropy(log_probs, q)
    loss.backward()
    sgd.step()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        _, g_w = trusted_gradient(student, images[16:], y)
    return step, loss, g_w


@pytest.mark.parametrize(
    ("backbone", "engine"), [("cnn", "auto"), ("cnn", "double-backward"), ("resnet18", "auto")]
)
def test_bf16_keeps_loss_and_meta_gradient(backbone, engine):
    step, loss, rough_g_w = take_step(backbone, torch.float32, bf16=True)
    exact_step, exact_loss, g_w = take_step(backbone, torch.float64, bf16=False)
    assert loss.dtype == torch.float32
    assert {g.dtype for g in rough_g_w.values()} == {torch.float32}
    assert loss.item() == pytest.approx(exact_loss.item(), rel=2e-3)
    rough = meta_gradient([step], {name: g.float() for name, g in g_w.items()}, SGD, engine=engine)
    exact = meta_gradient([exact_step], g_w, SGD, engine="forward")
    assert rough.engine == ("forward" if engine == "auto" else engine)
    one, other = (c.coefficients[0].double().flatten() for c in (rough, exact))
    assert cosine_similarity(one, other, dim=0) >= 0.99


def test_finite_differences_refuse_bf16():
    step, _, g_w = take_step("cnn", torch.float32, bf16=True)
    with pytest.raises(ValueError, match="drown in the rounding of bfloat16"):
        meta_gradient([step], g_w, SGD, engine="finite-difference")


@pytest.mark.parametrize("method", ["emlc", "cross-entropy", "trusted-only"])
def test_a_run_in_bf16_is_within_the_noise_of_one_in_float32(method, tmp_path):
    def losses(precision: str, seed: int) -> torch.Tensor:
        settings = tiny.settings(method=method, precision=precision, width=32, epochs=6, seed=seed)
        split = tiny.split(tiny.settings())
        torch.manual_seed(seed)
        networks = method_class(method)(settings, split.noisy.inputs, 3)
        folder = tmp_path / f"{precision}{seed}"
        history = fit(
            networks, split, settings, QuietReporter(), folder, start_ranks("cpu", precision)
        ).history
        return torch.tensor([row["student_loss"] for row in history])

    exact = torch.stack([losses("float32", seed) for seed in range(4)])
    rough = torch.stack([losses("bf16-mixed", seed) for seed in range(4)])
    assert not torch.equal(rough, exact)
    assert ((rough - exact).abs().mean(dim=0) < exact.std(dim=0)).all()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
    ],
    ids=str,
)
def test_what_a_cpu_computes(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_bfloat16(torch.device("cpu")) is expected


@pytest.mark.parametrize("expected", [True, False])
def test_what_a_cpu_computes_as_older_torch_tells(monkeypatch, expected):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: expected, raising=False)
    assert computes_bfloat16(torch.device("cpu")) is expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_what_a_gpu_computes(monkeypatch, capability, expected):
    devices = []
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: (devices.append(device), capability)[1]
    )
    assert computes_bfloat16(torch.device("cuda:1")) is expected
    assert devices == [torch.device("cuda:1")]
