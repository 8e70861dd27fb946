"""What the library tells, to whom, and that it prints nothing by itself."""

import ast
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import emlc
import tiny
from emlc.data.overlap import without_overlap
from emlc.methods import captured
from emlc.runs.train import train
from emlc.runtime.messages import show_messages

LOGGER = logging.getLogger("emlc")
CHILD = logging.getLogger("emlc.somewhere")
SOURCE = Path(emlc.__file__).parent


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    level, propagates, handlers = LOGGER.level, LOGGER.propagate, LOGGER.handlers[:]
    yield
    assert (LOGGER.propagate, LOGGER.handlers) == (propagates, handlers)
    LOGGER.setLevel(level)


def console() -> Console:
    return Console(file=io.StringIO(), width=20)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def log_all_levels() -> None:
    CHILD.debug("d")
    CHILD.info("i")
    CHILD.warning("w")
    CHILD.error("e")


def test_messages_are_neither_wrapped_nor_markup() -> None:
    with show_messages(console()) as shown:
        CHILD.info("[red]a[/x] %d :dog: and much more than twenty columns", 3)
    assert text(shown) == "[red]a[/x] 3 :dog: and much more than twenty columns\n"


@pytest.mark.parametrize(
    ("level", "expected"),
    [(None, "i\nw\ne\n"), ("info", "i\nw\ne\n"), ("warning", "w\ne\n"), ("error", "e\n")],
)
def test_the_level_says_what_is_shown(level: str | None, expected: str) -> None:
    with show_messages(console(), level) as shown:
        log_all_levels()
    assert text(shown) == expected
    log_all_levels()
    assert text(shown) == expected


def test_debugging_shows_where_a_message_comes_from() -> None:
    with show_messages(console(), "debug") as shown:
        log_all_levels()
    lines = text(shown).splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [f"emlc.somewhere: {m}" for m in "diwe"]


def test_a_level_that_somebody_set_counts() -> None:
    LOGGER.setLevel(logging.ERROR)
    with show_messages(console()) as shown:
        log_all_levels()
    assert text(shown) == "e\n"


def test_messages_are_shown_on_the_innermost_console_alone() -> None:
    with show_messages(console()) as outer:
        with show_messages() as same:
            assert same is outer
            CHILD.info("1")
        with show_messages(Console(quiet=True)):
            CHILD.info("2")
        with show_messages(console()) as inner:
            CHILD.info("3")
        CHILD.info("4")
    assert (text(outer), text(inner)) == ("1\n4\n", "3\n")


def test_only_the_first_process_shows_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with show_messages(console()) as shown:
        log_all_levels()
    assert text(shown) == ""


@pytest.mark.parametrize(("level", "expected"), [(logging.WARNING, []), (logging.INFO, ["i", "w", "e"])])
def test_a_program_gets_what_its_own_level_asks_for(
    level: int, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not one message more, because a console shows them."""
    caplog.set_level(level)  # the root's
    with show_messages(console()) as shown:
        log_all_levels()
    assert caplog.messages == expected
    assert text(shown) == "i\nw\ne\n"


def test_the_library_is_silent_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import emlc, logging; logging.getLogger('emlc.data').error('something')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert capfd.readouterr() == ("", "")


def test_training_from_python_logs_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = tiny.samples()
    train(tiny.settings(output=str(tmp_path / "run"), epochs=2), samples)
    out, err = capfd.readouterr()
    assert out == ""
    first, *epochs = err.splitlines()
    assert first.startswith("3 classes; samples: ")
    assert [line.split("  ")[0] for line in epochs] == ["emlc epoch 1/2", "emlc epoch 2/2"]
    LOGGER.setLevel(logging.ERROR)
    train(tiny.settings(output=str(tmp_path / "other"), epochs=2), samples)
    assert capfd.readouterr() == ("", "")


def test_a_quiet_console_silences_messages_about_data(
    logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with show_messages(Console(quiet=True)):
        without_overlap(tiny.samples(), tiny.samples(), "noisy", "trusted", "drop")
    assert len(logged.messages) == 1
    assert capfd.readouterr() == ("", "")


def test_a_step_that_cannot_be_captured_says_why_once(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    class Refused:
        refusal = "it draws random numbers"

        def __init__(self, function, device) -> None:
            self._function = function

        def __call__(self, *tensors):
            return self._function(*tensors)

    class Counting:
        warming_up = False

        def step(self, noisy, trusted):
            return {}

    monkeypatch.setattr(captured, "Captured", Refused)
    step = captured.CapturedStep(Counting(), None)
    assert step.refusal is None
    for _ in range(3):
        step([], None)
    assert step.refusal == "it draws random numbers"
    assert logged.messages == ["the step is not captured as a CUDA graph: it draws random numbers"]


def library() -> list[Path]:
    return [f for f in sorted(SOURCE.rglob("*.py")) if "cli" not in f.parts and f.name != "__main__.py"]


@pytest.mark.parametrize("file", library(), ids=lambda f: str(f.relative_to(SOURCE)))
def test_the_library_prints_nothing(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"print", "sys.stderr.write", "sys.stdout.write", "logging.basicConfig"}


def test_all_but_the_commands_is_looked_at() -> None:
    assert SOURCE / "data" / "draw.py" in library()
    assert SOURCE / "cli" / "main.py" not in library()
