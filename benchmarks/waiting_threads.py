"""What OpenMP threads that wait cost on a busy machine, by how long they look before they sleep.

    python -m benchmarks.waiting_threads --spins "[10000,300000,0]" --busy "[0,2]"

A step of plain training of a ResNet-18 with 32 images and two threads. libgomp reads GOMP_SPINCOUNT when
torch is imported, so that each measurement is a process of its own; they take turns, beside busy processes or
not.
"""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from jsonargparse import auto_cli

_STEPS = 20


def waiting_threads(
    spins: list[int] = [10_000, 300_000, 0],  # noqa: B006  # the command line shows it
    busy: list[int] = [0, 2],  # noqa: B006
    rounds: int = 3,
) -> None:
    """Print a Markdown table, measured on this machine.

    Args:
        spins: Values of GOMP_SPINCOUNT: looks of a waiting thread before it sleeps; libgomp's own is 300,000.
        busy: Numbers of processes that compute meanwhile.
        rounds: Turns, of which the median counts.
    """
    print("| busy processes | looks | ms per step | CPU ms |\n|---|---|---|---|")
    for others in busy:
        measured: dict[int, list[tuple[float, float]]] = defaultdict(list)
        with _busy(others):
            for _ in range(rounds):
                for each in spins:
                    measured[each].append(_step_in_new_process(each))
        for each, seconds in measured.items():
            wall, cpu = (1000 * median(column) for column in zip(*seconds, strict=True))
            print(f"| {others} | {each:,} | {wall:.0f} | {cpu:.0f} |", flush=True)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _step_in_new_process(spins: int) -> tuple[float, float]:
    """Seconds and CPU seconds of a step."""
    code = "from benchmarks.waiting_threads import measure; measure()"
    environment = {**os.environ, "GOMP_SPINCOUNT": str(spins), "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE)
    wall, cpu = (float(each) for each in done.stdout.split())
    return wall, cpu


def measure() -> None:
    """Print the seconds and CPU seconds of a step in this process."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    network, images = resnet18(num_classes=10), torch.randn(32, 3, 32, 32)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01)

    def step() -> None:
        sgd.zero_grad()
        network(images).logsumexp(dim=1).mean().backward()
        sgd.step()

    for _ in range(3):
        step()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(_STEPS):
        step()
    print((time.perf_counter() - wall) / _STEPS, (time.process_time() - cpu) / _STEPS)


if __name__ == "__main__":
    auto_cli(waiting_threads, as_positional=False)
