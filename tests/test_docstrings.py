"""Docstrings: the examples of the public entries run, and public names are described by sentences."""

import doctest
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import emlc

ENTRIES = (emlc.train, emlc.Run, emlc.EMLCClassifier, emlc.meta_gradient, emlc.Samples.from_arrays)
METHODS = (FunctionType, classmethod, property, cached_property)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_the_example_of_a_public_entry_runs(
    entry: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(entry) or ""
    example = doctest.DocTestParser().get_doctest(text, {}, entry.__name__, None, None)
    assert example.examples
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not failed, "".join(report)


def test_public_names_are_described_by_sentences() -> None:
    modules = [found.name for found in pkgutil.walk_packages(emlc.__path__, "emlc.")]
    named = [pair for name in modules if name != "emlc.__main__" for pair in docstrings(import_module(name))]
    assert len(named) > 500
    assert [name for name, text in named if not text.split("\n\n")[0].endswith(".")] == []


def docstrings(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Names and docstrings of a module's public functions, classes and methods.

    Those of the public surface are empty if they are missing. Others that are missing are left out: ruff asks
    for those of functions and classes, and methods may be described by their protocol.
    """
    surface = [getattr(emlc, name) for name in emlc.__all__]
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        members = {name: value} if isinstance(value, FunctionType | type) else {}
        if isinstance(value, type):
            members |= {
                f"{name}.{n}": m for n, m in vars(value).items() if n[0] != "_" and isinstance(m, METHODS)
            }
        for full_name, member in members.items():
            text = inspect.getdoc(member)
            if text or value in surface:
                yield f"{module.__name__}.{full_name}", text or ""
