"""Several processes that train as one: ranks, precision and collectives, on Lightning Fabric.

The samples of a batch are distributed over the ranks and every gradient is averaged explicitly, so that a
step equals that of one process with the joint batch. A wrapper such as DistributedDataParallel would
not do: its hooks see ``backward()`` only, and the meta-gradient needs ``g_w`` from ``autograd.grad``
and Jacobian-vector products that stay on their rank.

``torchrun`` starts the processes; :func:`launch` does the same on one machine.
"""

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from emlc.config import Precision
from emlc.errors import InputError
from emlc.runtime.signals import LAUNCHED, Terminated, end_with_parent
from emlc.runtime.streams import RandomStream, derived_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")

_LONGEST = timedelta(days=30)
"""How long a worker that is ready waits for the others."""


class RankLost(RuntimeError):
    """The error that another process of the run has died, or can no longer be reached."""


class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Device of this process.
        precision: Precision of forward passes within :meth:`autocast`.
    """

    def __init__(
        self,
        device: torch.device,
        precision: Precision,
        fabric: "Fabric | None" = None,
        *,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self._fabric = fabric
        self.precision = precision
        self.rank: int = fabric.global_rank if fabric else rank
        self.size: int = fabric.world_size if fabric else size
        self.device = device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context for forward passes of networks; with float32 it changes nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16-mixed")

    def reseed(self, seed: int, stream: RandomStream, *position: int) -> None:
        """Seed torch's generators, differently on every rank; see :mod:`emlc.runtime.streams`."""
        seed = derived_seed(seed, stream, *position, self.rank)
        # torch.manual_seed would visit every device, which takes half a millisecond.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)

    def all_agree(self, vote: bool) -> bool:
        """Return whether the vote of every rank is true."""
        votes = torch.tensor([float(vote)], device=self.device)
        self.average([votes])
        return votes.item() == 1

    def shard(self, items: int) -> slice:
        """Return the slice of n items that is this rank's: every ``size``-th, so that neighbours part."""
        return slice(self.rank, items, self.size)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one dtype by their means over the ranks, in place, in one collective."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        with lost_rank():
            dist.all_reduce(flat)
        means = (flat / self.size).split([t.numel() for t in tensors])
        torch._foreach_copy_(list(tensors), [m.view_as(t) for m, t in zip(means, tensors, strict=True)])

    def gather(self, rows: Tensor, items: int) -> Tensor:
        """Return on every rank all n rows (n, ...), of which each rank has its :meth:`shard`."""
        if self.size == 1:
            return rows
        longest = -(-items // self.size)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        padded = padded.to(self.device)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        with lost_rank():
            dist.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:items].to(rows.device)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors on every rank by those of the first rank, in place."""
        if self.size > 1:
            with lost_rank():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def from_first(self, make: Callable[[], T]) -> T:
        """Return on every rank what the first one makes; bad input that it finds is raised on all."""
        made: list[T | None] = [None]
        with self.errors_everywhere():
            if self.is_first:
                made[0] = make()
        if self.size > 1:
            with lost_rank():
                dist.broadcast_object_list(made)
        return cast(T, made[0])

    def at_first(self, value: T) -> list[T]:
        """Return on the first rank the values of all, in their order; on the others an empty list."""
        if self.size == 1:
            return [value]
        values: list[T | None] | None = [None] * self.size if self.is_first else None
        with lost_rank():
            dist.gather_object(value, values)
        return cast(list[T], values or [])

    def barrier(self) -> None:
        """Wait until every rank has reached this point."""
        if self._fabric:
            with lost_rank():
                self._fabric.barrier()

    @contextmanager
    def errors_everywhere(self) -> Iterator[None]:
        """Raise bad input that one rank finds in this block on all; only the first writes to stderr."""
        problem: InputError | None = None
        with nullcontext() if self.is_first else contextlib.redirect_stderr(io.StringIO()):
            try:
                yield
            except InputError as error:
                problem = error
                if self.size == 1:
                    raise
        if self.size == 1:
            return
        problems: list[str | None] = [None] * self.size
        with lost_rank():
            dist.all_gather_object(problems, None if problem is None else str(problem))
        for rank, message in enumerate(problems):
            if message is not None:
                raise problem or InputError(f"on rank {rank}: {message}")


def start_ranks(device: str = "auto", precision: Precision = "float32") -> Ranks:
    """Join the processes that ``torchrun`` started, or be the only one.

    Args:
        device: auto | cpu | cuda | cuda:N; under ``torchrun`` each local process takes its own GPU.
        precision: float32, or bf16-mixed: forward passes of the networks in bfloat16 where that is safe.

    Raises:
        InputError: no such kind of device, or CUDA is asked for and absent.
    """
    picked = pick_device(device)
    if not under_torchrun():
        if picked.type == "cuda":
            picked = torch.device("cuda", picked.index or 0)
            torch.cuda.set_device(picked)
        return Ranks(picked, precision)
    # Fabric imports torchmetrics, which imports transformers where that is installed: 1 to 4 seconds, which a
    # single process can save.
    from lightning_fabric import Fabric

    end_with_parent()
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    _check_devices(picked, local)
    fabric = Fabric(
        accelerator=picked.type,
        devices=local,
        num_nodes=int(os.environ["WORLD_SIZE"]) // local,
        strategy="ddp",
    )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every rank
    with lost_rank():
        fabric.launch()
    return Ranks(fabric.device, precision, fabric)


@contextmanager
def start_workers(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started for work that each does alone, or be the only one.

    They exchange objects, not tensors, and wait for the slowest as long as it takes.

    Args:
        device: As for :func:`start_ranks`.

    Raises:
        InputError: no such kind of device, or CUDA is asked for and absent.
        RankLost: another process died.
    """
    picked = pick_device(device)
    if not under_torchrun():
        yield Ranks(picked, "float32")
        return
    end_with_parent()
    if picked.type == "cuda":
        _check_devices(picked, int(os.environ["LOCAL_WORLD_SIZE"]))
        picked = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(picked)
    try:
        with lost_rank():
            dist.init_process_group("gloo", timeout=_LONGEST)
        yield Ranks(picked, "float32", rank=dist.get_rank(), size=dist.get_world_size())
    except RankLost as error:
        raise RankLost(
            "another process of this command died or cannot be reached; what is finished is kept: give the "
            "command again, with any number of processes"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def pick_device(name: str) -> torch.device:
    """Return the torch device that a setting names; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        InputError: no such kind of device, or CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device: {name} was asked for, but torch {torch.__version__} finds no CUDA device")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"device: {name} was asked for, but there are {count} CUDA devices")
    return device


def under_torchrun() -> bool:
    """Return whether ``torchrun`` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def cores_per_process() -> int:
    """Return how many of this machine's cores each of its processes has, at least 1."""
    processes = int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun() else 1
    return max(1, (os.cpu_count() or 1) // processes)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run ``emlc`` with these arguments in several processes of this machine, as ``torchrun`` does.

    Returns:
        The exit status: 0, or 2 for bad input.

    Raises:
        RankLost: A process died.
        KeyboardInterrupt: This process got SIGINT or SIGTERM, and has passed it on.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=LAUNCHED,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    # The message below says what the launcher would log about a process that died.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", "emlc", *arguments)
    except SignalException as error:
        raise (Terminated if error.sigval == signal.SIGTERM else KeyboardInterrupt) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == 2:
            return 2
        how = (
            f"killed by signal {-failure.exitcode}" if failure.exitcode < 0 else f"status {failure.exitcode}"
        )
        raise RankLost(
            f"rank {rank} of {processes} died ({how}), and the run with it; "
            "--resume goes on from its last checkpoint, with any number of devices"
        ) from error
    return 0


@contextmanager
def lost_rank() -> Iterator[None]:
    """Raise :class:`RankLost` if a collective in this block fails, which means that another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            "another process of this run died or cannot be reached; --resume goes on from the last "
            f"checkpoint, with any number of processes ({str(error).splitlines()[0]})"
        ) from error


def _check_devices(picked: torch.device, local: int) -> None:
    if picked.type == "cuda" and local > torch.cuda.device_count():
        raise InputError(
            f"device: {local} processes on this machine need a GPU each, but there are "
            f"{torch.cuda.device_count()}; start fewer, or pass --device cpu"
        )
