"""Captured work against the same work kernel by kernel, on a GPU."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import tiny
from emlc.config.methods import method_class
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter
from emlc.runtime.cuda_graph import Captured
from emlc.runtime.distributed import Ranks, start_ranks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")


def test_captured_functions_give_the_same_and_their_results_stay() -> None:
    calls: list[Tensor] = []

    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        calls.append(x)
        return [x * y, x.sum()]

    captured = Captured(function, CUDA)
    inputs = [(torch.rand(5, 3, device=CUDA), torch.rand(3, device=CUDA)) for _ in range(8)]
    results = [captured(*pair) for pair in inputs]
    assert len(calls) == 4  # three to warm up, one to capture
    other = torch.rand(2, 3, device=CUDA), torch.rand(3, device=CUDA)
    for pair, result in zip([*inputs, other], [*results, captured(*other)], strict=True):
        torch.testing.assert_close(result, [pair[0] * pair[1], pair[0].sum()])
    assert captured.refusal is None


def test_functions_that_draw_random_numbers_are_not_captured() -> None:
    captured = Captured(lambda x: [nn.functional.dropout(x)], CUDA)
    first, *others = [captured(torch.ones(100, device=CUDA))[0] for _ in range(6)]
    assert captured.refusal == "it draws random numbers"
    assert not any(torch.equal(first, other) for other in others)


def test_functions_that_wait_for_the_device_are_not_captured() -> None:
    captured = Captured(lambda x: [x * float(x.sum())], CUDA)
    for _ in range(6):
        torch.testing.assert_close(captured(torch.ones(3, device=CUDA)), [torch.full((3,), 3.0, device=CUDA)])
    assert captured.refusal is not None


def run(tmp_path, ranks: Ranks, *, captured: bool, **changes) -> dict[str, Tensor]:
    """The weights after two epochs."""
    settings = tiny.settings(
        image=True,
        device="cuda",
        cuda_graph=captured,
        noisy_batch=8,
        trusted_augmentation=["crop", "flip", "autoaugment"],
        **changes,
    )
    split = tiny.split(settings, image=True)
    torch.manual_seed(0)
    method = method_class(settings.method)(settings, split.noisy.inputs, len(split.classes))
    fit(method, split, settings, QuietReporter(), tmp_path / str(captured), ranks)
    networks = method.networks().items()
    return {f"{name}.{k}": v for name, net in networks for k, v in net.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16-mixed", "look_ahead": 2, "schedule": "cosine", "nesterov": True},
        {"meta_gradient": "exact", "look_ahead": 2},
        {"student_trusted": True, "warm_up_epochs": 1},
        {"save_memory": True, "student_trusted": True, "look_ahead": 3},
        {"method": "cross-entropy"},
        {"method": "trusted-only"},
    ],
    ids=str,
)
def test_a_captured_run_equals_one_kernel_by_kernel(tmp_path, changes, monkeypatch, logged) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    ranks = start_ranks("cuda", changes.get("precision", "float32"))
    plain = run(tmp_path, ranks, captured=False, **changes)
    captured = run(tmp_path, ranks, captured=True, **changes)
    assert "not captured" not in logged.text
    torch.testing.assert_close(captured, plain, rtol=1e-4, atol=1e-5)


def test_nothing_waits_for_the_device_within_an_epoch(tmp_path, monkeypatch) -> None:
    ranks = start_ranks("cuda", "bf16-mixed")
    settings = tiny.settings(device="cuda", precision="bf16-mixed", noisy_batch=2, epochs=3)
    split = tiny.split(settings, image=True)
    method = method_class("emlc")(settings, split.noisy.inputs, len(split.classes))
    reporter = QuietReporter()
    watched = []

    def watch(progress) -> None:
        # In the first epoch steps are taken kernel by kernel; the last ones of an epoch are awaited.
        on = progress.epoch > 0 and 1 < progress.epoch_steps < 25
        torch.cuda.set_sync_debug_mode("error" if on else "default")
        watched.append(on)

    reporter.on_step = watch
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
            fit(method, split, settings, reporter, tmp_path, ranks)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum(watched) > 40  # beyond the losses of twenty steps
