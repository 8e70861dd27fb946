import logging
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_bfloat16() -> Iterator[None]:
    """What a run in this process computes in does not depend on the machine's CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emlc.runs.directory.computes_bfloat16", lambda device: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What emlc remembers of its use here is not mixed with the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch computes with four threads, which the user has not asked for."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the library logs, which says nothing on its own."""
    caplog.set_level(logging.INFO, "emlc")
    return caplog
