"""The small experiment, run once."""

import pytest
from grids import grid, run_grid


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run_grid(grid(), tmp_path_factory.mktemp("reproduce"), command="what was typed")
