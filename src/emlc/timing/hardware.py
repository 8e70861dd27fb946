"""Hardware and versions that a benchmark was run on."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from emlc.runtime.precision import uses_tf32


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Name the device and all that decides its speed; for a GPU also the CPU that launches its kernels."""
    cpu = {"capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        return {
            "device": torch.cuda.get_device_name(device),
            "tf32": uses_tf32(),
            "cpu": _cpu_name(),
            **cpu,
        }
    return {"device": _cpu_name(), **cpu}


def _cpu_name() -> str:
    table = Path("/proc/cpuinfo")  # on Linux platform.processor() is empty
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def describe_versions() -> dict[str, str | None]:
    """Return the versions of everything that decides how fast a step is."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("emlc", "torch", "torchvision", "numpy")},
        "cuda": torch.version.cuda,
    }
