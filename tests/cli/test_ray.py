"""A job of a real Ray on this machine, which calls torchrun; skipped where Ray is not installed."""

import os
import shlex
import sys
import time

import numpy as np
import pytest

import tiny
from emlc.cli import main

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'ray[default]'")

_LONGEST = 300  # seconds


@pytest.fixture
def submit(monkeypatch):
    """A function that runs a command as a Ray job with two CPUs, and returns its status and its output."""
    from ray.job_submission import JobSubmissionClient

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    context = ray.init(address="local", num_cpus=2, include_dashboard=True, object_store_memory=100_000_000)
    client = JobSubmissionClient(f"http://{context.dashboard_url}")

    def run(command: list[str]) -> tuple[str, str]:
        path = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        job = client.submit_job(
            entrypoint=shlex.join(command), entrypoint_num_cpus=2, runtime_env={"env_vars": path}
        )
        started = time.monotonic()
        while not client.get_job_status(job).is_terminal() and time.monotonic() - started < _LONGEST:
            time.sleep(1)
        return client.get_job_status(job).value, client.get_job_logs(job)

    yield run
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_job_that_calls_torchrun_writes_what_one_process_writes(submit, tmp_path):
    tiny.trained(tmp_path / "run")
    X, labels = np.random.default_rng(1).normal(size=(50, 4)), np.array(tiny.CLASSES)[np.arange(50) % 3]
    np.savez(tmp_path / "new.npz", X=X, y=labels)
    argv = [
        "correct",
        f"{tmp_path}/run",
        f"{tmp_path}/new.npz",
        "--device",
        "cpu",
        "--part_rows",
        "8",
        "--output",
    ]
    assert main([*argv, f"{tmp_path}/one.csv"]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "emlc"]
    status, output = submit([*torchrun, *argv, f"{tmp_path}/two.csv"])
    assert status == "SUCCEEDED", output
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
