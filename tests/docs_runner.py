"""Runs the commands of a page of the documentation as its reader would, in order, in an empty folder.

A comment on the line above a block says what is not plain:

``<!-- run: skip: WHY -->``
    the block is not run; :data:`test_docs.NOT_RUN` lists all of these;
``<!-- run: with: OPTIONS -->``
    these options are appended to each of its commands, to make them small;
``<!-- given: NAME ... -->``
    before the block, make what the page takes for granted: one of :mod:`docs_given`.

All runs in this process, or in some that are forked off one like it, as importing torch takes seconds.
"""

import contextlib
import io
import os
import random
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.distributed import run as torchrun

import docs_given
import several
from emlc.cli import main

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(?P<marks>(?:^<!-- (?:run|given): .*? -->\n+)*)^```(?P<language>sh|python)[^\n]*\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- (run: skip|run: with|given): (.*?) -->")


@dataclass(frozen=True)
class Block:
    """A block of shell commands or of Python.

    Attributes:
        page: Its name, from the repository's root.
        line: Where the block begins, from 1.
        language: sh or python.
        text: What is between the fences.
        marks: Of the comment above it: "run: skip", "run: with" and "given" with what they say.
    """

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def commands(self) -> list[list[str]]:
        """Of a shell block: the words of each command, without the options of "run: with"."""
        lines = self.text.replace("\\\n", " ").splitlines()
        words = (shlex.split(line, comments=True) for line in lines)
        return [command for command in words if command]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            dict(_MARK.findall(found["marks"])),
        )
        for found in _BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> int:
    """Run a page's blocks in a folder.

    Returns:
        How many were run.

    Raises:
        AssertionError: a command failed; names its place and what it wrote.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    run = 0
    for block in blocks(page):
        with _at_home_in(folder), _telling(block):
            for given in block.marks.get("given", "").split():
                getattr(docs_given, given)()
            if "run: skip" in block.marks:
                continue
            if block.language == "python":
                exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)
            for command in block.commands if block.language == "sh" else ():
                _run([*command, *shlex.split(block.marks.get("run: with", ""))])
            run += 1
    return run


def _run(command: list[str]) -> None:
    match command:
        case ["emlc", *arguments]:
            with several.forked_ranks(Path("logs")):
                status = main(arguments)
            assert status == 0, f"{shlex.join(command)}: exit status {status}"
        case ["python", "-m", module, *arguments] if module.startswith(("benchmarks.", "examples.")):
            with patch.object(sys, "argv", [module, *arguments]):
                runpy.run_module(module, run_name="__main__")
        case ["torchrun", *arguments]:
            with several.forked_ranks(Path("logs")):
                torchrun.run(torchrun.parse_args(arguments))
        case _:
            raise AssertionError(f"{shlex.join(command)}: neither run here nor marked as not run")


@contextlib.contextmanager
def _at_home_in(folder: Path) -> Iterator[None]:
    """Work in the folder, with random numbers of its own, and as one process that knows of no other."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with contextlib.chdir(folder), torch.random.fork_rng(devices=[]), patch.dict(os.environ):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


@contextlib.contextmanager
def _telling(block: Block) -> Iterator[None]:
    """Keep what is printed, for the message of what fails."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except (Exception, SystemExit) as error:
        raise AssertionError(
            f"{block.page}, block at line {block.line}: {error}\n{printed.getvalue()[-4000:]}"
        ) from error
