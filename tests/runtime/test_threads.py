"""Small networks are trained by one thread, unless the user says how many."""

import pytest
import torch

import tiny
from emlc.runs.train import train
from emlc.runtime.files import read_json
from emlc.runtime.threads import threads_for

pytestmark = pytest.mark.usefixtures("four_threads")


@pytest.mark.parametrize(
    ("numbers", "parameters", "threads"), [(256, 10**5, 1), (3 * 224 * 224, 10**5, 4), (256, 10**8, 4)]
)
def test_small_networks_take_one_thread(numbers, parameters, threads):
    with threads_for(numbers, parameters):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 4


def test_the_threads_come_back_after_an_error():
    with pytest.raises(KeyboardInterrupt), threads_for(1, 1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 4


def test_the_users_number_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with threads_for(1, 1):
        assert torch.get_num_threads() == 4


def test_a_run_tells_with_how_many_threads_it_was_trained(tmp_path):
    run = train(tiny.settings(output=str(tmp_path / "run"), epochs=1), tiny.samples())
    assert read_json(run.folder / "summary.json")["threads"] == 1
    assert torch.get_num_threads() == 4
