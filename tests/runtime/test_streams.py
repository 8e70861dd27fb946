"""No two things that are drawn share their random numbers, and nothing is drawn in another way."""

import ast
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import ShuffleSplit

import emlc
from emlc.runtime.distributed import start_ranks
from emlc.runtime.keyed import uniforms
from emlc.runtime.streams import RandomStream, derived_seed, generator, seed_torch, torch_generator

SEEDS = (0, 1, 7, 2**32, 7 * 2**32, 2**32 + 1, 2**63 - 1)
"""Among them those that numpy, to which 2**32 is [0, 1], takes for a seed and the number of a stream."""
POSITIONS = ((), (0,), (1,), (0, 0), (1, 0), (0, 1))
Key = tuple[int, ...]


def seeded(*key: int) -> list[float]:
    seed_torch(*key)
    return torch.rand(4).tolist()


def reseeded(*key: int) -> list[float]:
    start_ranks("cpu").reseed(*key)
    return torch.rand(4).tolist()


def split(*key: int) -> list[float]:
    shuffle = ShuffleSplit(1, random_state=derived_seed(*key))
    return np.concatenate(next(shuffle.split(np.zeros(50)))).tolist()


DRAWERS: dict[str, Callable[..., list[float]]] = {
    "numpy": lambda *key: generator(*key).random(4).tolist(),
    "torch": lambda *key: torch.rand(4, generator=torch_generator(*key)).tolist(),
    "torch's default": seeded,
    "a step": reseeded,
    "keyed": lambda *key: uniforms(key, torch.zeros(1, dtype=torch.int64), 4)[0].tolist(),
    "scikit-learn": split,
}


@pytest.fixture(autouse=True)
def unchanged_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("drawer", DRAWERS)
def test_no_two_keys_draw_alike(drawer: str) -> None:
    keys = [(seed, stream, *position) for seed, stream, position in product(SEEDS, RandomStream, POSITIONS)]
    drawn: dict[Key, Key] = {}
    for key in keys:
        numbers = tuple(DRAWERS[drawer](*key))
        assert drawn.setdefault(numbers, key) == key, f"{key} and {drawn[numbers]} draw {numbers}"
    assert len(drawn) == len(SEEDS) * len(RandomStream) * len(POSITIONS)


@pytest.mark.parametrize("drawer", DRAWERS)
def test_a_key_draws_the_same_again(drawer: str) -> None:
    key = (3, RandomStream.NOISY_ORDER, 5)
    numbers = DRAWERS[drawer](*key)
    torch.rand(9)
    assert DRAWERS[drawer](*key) == numbers


def test_every_stream_has_a_number_of_its_own() -> None:
    assert len(RandomStream.__members__) == len(RandomStream)  # an alias is no member of its own


def test_every_rank_draws_otherwise() -> None:
    ranks = start_ranks("cpu")
    drawn = []
    for ranks.rank in range(4):
        ranks.reseed(0, RandomStream.TRAINING_STEP, 0)
        drawn.append(tuple(torch.rand(4).tolist()))
    assert len(set(drawn)) == 4


# Nothing is drawn in another way

MAKES_GENERATORS = {
    *(
        "default_rng",
        "RandomState",
        "SeedSequence",
        "Generator",
        "manual_seed",
        "manual_seed_all",
        "seed_all",
    ),
    *("PCG64", "Philox", "MT19937", "SFC64"),
}
ALLOWED = {
    "runtime/streams.py": MAKES_GENERATORS,
    "runtime/distributed.py": {"manual_seed"},
    "reproduce/embedding.py": {"default_rng"},
}
"""Where generators are made from keys, where those of a rank are seeded with one, and where one rotates the
features of the published tables, the same for every seed."""

SOURCE = Path(emlc.__file__).parent


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda f: str(f.relative_to(SOURCE)))
def test_generators_come_from_streams_alone(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    allowed = ALLOWED.get(file.relative_to(SOURCE).as_posix(), set())
    assert {name for call in calls if (name := call.rpartition(".")[2]) in MAKES_GENERATORS} <= allowed
    assert allowed or not [call for call in calls if call.startswith("np.random.")]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert "random" not in {alias.name for node in imports for alias in node.names}


def test_the_random_states_of_others_are_derived_from_streams() -> None:
    """scikit-learn's ``random_state`` is never a seed of the user's, nor a number."""
    given = {}
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                states = [k.value for k in node.keywords if k.arg == "random_state"]
                given.update({(file.name, ast.unparse(value)): node.lineno for value in states})
    assert given.keys() == {
        ("draw.py", "state"),
        ("dividemix.py", "seed"),
        ("probe.py", "state"),
        ("projection.py", "state"),
    }
