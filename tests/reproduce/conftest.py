"""The small experiment, carried out."""

import pytest
from grids import carry_out, grid


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return carry_out(grid(), tmp_path_factory.mktemp("reproduce"), command="what was typed")
