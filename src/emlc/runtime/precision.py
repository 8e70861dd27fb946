"""Number formats: when bfloat16 is fast, and what is computed in float32 all the same."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Return values in float32 at least: probabilities, losses and statistics lose too much in 16 bits."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16 natively, and so faster than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return bool(torch.cpu._is_avx512_bf16_supported())  # the name in older torch


def uses_tf32() -> bool:
    """Return whether float32 convolutions or matrix products on GPUs are rounded to TF32."""
    return _asked(lambda: torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


def rounds_on_cpu() -> bool:
    """Return whether float32 matrix products on CPUs are rounded, as to bfloat16."""
    return _asked(lambda: torch.get_float32_matmul_precision() == "medium")


def _asked(question: Callable[[], bool]) -> bool:
    # Reading the old names of what was set by the new ones raises RuntimeError; torch 2.9 warns of them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        try:
            return question()
        except RuntimeError:
            return True
