"""Cost of a Jacobian-vector product in forward passes, and its agreement with float64.

    python -m benchmarks.jvp --networks '["resnet18", "resnet34"]'

Each engine takes turns with a forward pass; figures are medians of the rounds' ratios. The cosine compares
the meta-gradient's coefficients, of all samples and classes of the batch as one vector.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from statistics import median

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from emlc.meta.jvp import JVP, Engine, StudentStep, Weights, record_step
from emlc.meta.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.networks.backbones import Classifier, build_backbone

_SGD = InnerSGD(lr=0.02)
_CASES: list[tuple[Engine, bool]] = [
    ("finite-difference", False),
    ("forward", False),
    ("double-backward", False),
    ("forward", True),
    ("double-backward", True),
]
"""Engine, and whether the networks compute in bfloat16."""


def jvp(
    networks: list[str] = ["resnet18"],  # noqa: B006  # the command line shows it
    noisy_batch: int = 128,
    trusted_batch: int = 32,
    image_size: int = 32,
    rounds: int = 5,
    seed: int = 0,
) -> None:
    """Print one Markdown table per network, measured on the CPU.

    Args:
        networks: Backbones of the student, as for ``emlc train``; weights are random.
        noisy_batch: Images of the student's step, whose Jacobian-vector products are taken.
        trusted_batch: Images of the trusted gradient, the direction g_w.
        image_size: Height and width in pixels.
        rounds: Number of turns.
        seed: Seed of images, labels and weights.
    """
    for network in networks:
        problem = _Problem(network, noisy_batch, trusted_batch, image_size, seed)
        exact, g_exact = problem.step(torch.float64, bf16=False, keep=False)
        truth = _coefficients(exact, g_exact, "forward")
        print(f"\n{network}, {noisy_batch} + {trusted_batch} images of {image_size} px\n")
        print("| engine | precision | forward passes | cosine, same g_w | cosine, own g_w |")
        print("|---|---|---|---|---|")
        for engine, bf16 in _CASES:
            step, g_w = problem.step(torch.float32, bf16=bf16, keep=engine == "forward")
            same_g = {name: g.float() for name, g in g_exact.items()}
            cosines = [
                cosine_similarity(_coefficients(step, g, engine).double().flatten(), truth.flatten(), dim=0)
                for g in (same_g, g_w)
            ]
            ratio = _ratio(partial(JVP[engine], step, g_w), partial(_forward, step), rounds)
            figures = f"{ratio:.2f} | {cosines[0]:.5f} | {cosines[1]:.5f}"
            print(f"| {engine} | {'bf16-mixed' if bf16 else 'float32'} | {figures} |", flush=True)


class _Problem:
    """A student, a noisy batch with soft labels, and a trusted batch."""

    def __init__(self, network: str, n: int, m: int, size: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.images = torch.randint(0, 256, (n + m, 3, size, size), dtype=torch.uint8)
        self.n, self.labels = n, torch.randint(10, (m,))
        self.q = torch.rand(n, 10).softmax(dim=1)
        self.student: nn.Module = Classifier(*build_backbone(network, self.images), 10)
        self.student = self.student.to(memory_format=torch.channels_last)

    def step(self, dtype: torch.dtype, *, bf16: bool, keep: bool) -> tuple[StudentStep, Weights]:
        """Return the record of a copy's first step, and the trusted gradient g_w after that step."""
        student = deepcopy(self.student).to(dtype)
        sgd = torch.optim.SGD(student.parameters(), _SGD.lr)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            step, log_probs = record_step(student, self.images[: self.n], keep_products=keep)
        soft_cross_entropy(log_probs, self.q.to(dtype)).backward()
        sgd.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            _, g_w = trusted_gradient(student, self.images[self.n :], self.labels)
        return step, g_w


def _coefficients(step: StudentStep, g_w: Weights, engine: Engine) -> Tensor:
    return meta_gradient([step], g_w, _SGD, engine=engine).coefficients[0]


@torch.no_grad()
def _forward(step: StudentStep) -> Tensor:
    return step.replay(step.weights)


def _ratio(one: Callable[[], object], other: Callable[[], object], rounds: int) -> float:
    one(), other()
    return median(_seconds(one) / _seconds(other) for _ in range(rounds))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    auto_cli(jvp)
