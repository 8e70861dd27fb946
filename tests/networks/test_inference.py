"""Predictions for whole sets: how images on disk are read for them."""

import math

import pytest
import torch
from torch import nn

from emlc.data import Samples
from emlc.networks import inference
from emlc.runtime.distributed import cores_per_process


@pytest.mark.parametrize(("processes", "threads"), [(1, 6), (2, 3), (8, 1)])
def test_the_processes_of_a_machine_share_its_cores(monkeypatch, processes, threads):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert cores_per_process() == threads
    workers = []
    read_ahead = inference.read_ahead

    def counted(inputs, batches, n):
        workers.append(n)
        return read_ahead(inputs, batches, n)

    monkeypatch.setattr(inference, "read_ahead", counted)
    inference.predict_proba(nn.Linear(2, 3), torch.zeros(4, 2))
    assert workers == [threads]


def test_losses_of_given_labels_are_exact_where_a_probability_is_too_small():
    logits = torch.tensor([[0.0, 40.0], [0.0, 200.0], [0.0, 1.0]])
    samples = Samples.from_arrays(logits.numpy(), [0, 0, 1])
    judged = inference.judge_given(nn.Identity(), samples)
    torch.testing.assert_close(judged.losses, torch.tensor([40.0, 200.0, math.log1p(math.exp(-1.0))]))
    torch.testing.assert_close(judged.probabilities, logits.softmax(dim=1))
