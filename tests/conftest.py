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


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the library logs, which says nothing on its own."""
    caplog.set_level(logging.INFO, "emlc")
    return caplog
