"""Draw samples of DATA at random, to have their labels checked: these become the trusted samples.

Writes a folder with to_check.csv, to fill in with a spreadsheet, and to_check.html, to look at the samples
and decide on them in a browser, which downloads decisions.csv. `emlc train DATA --trusted` takes either file.
"""

import json
import logging
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.results import show
from emlc.cli.run_arguments import ReadSettings
from emlc.config import DataSettings, paths_of
from emlc.config.sources import check_source
from emlc.errors import InputError
from emlc.runtime.files import check_free

if TYPE_CHECKING:
    from emlc.data.sources.checked import Checked
    from emlc.data.sources.source import Source

_log = logging.getLogger(__name__)

USAGE = "DATA [--number N] [--output FOLDER] [--trusted TABLE] [options]"

_READING = (
    *("label_column", "id_column", "image_column", "feature_columns", "text_column", "trusted_column"),
    *("human_labels", "human_labels_key", "classes", "data_root", "background", "separator", "encoding"),
    *("drop_unlabelled", "repeated_ids", "merge_spellings"),
)
"""Settings that say how DATA are read."""

_BEFORE = "checked_before.csv"
"""What was checked before, for the page to load."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", type=str, help="the samples, as for `emlc train`")
    parser.add_argument("-n", "--number", type=int, default=200, help="number of samples to check")
    parser.add_argument("--output", type=str, default="to_check", help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument(
        "--trusted",
        type=str | None,
        help="a table of labels that are checked already: these are not drawn again, and join the new table",
    )
    skip = {field.name for field in fields(DataSettings)} - {*_READING}
    parser.add_class_arguments(DataSettings, skip=skip)


def run(arguments: Namespace) -> None:
    reading = {name: arguments[name] for name in _READING}
    if arguments.seed < 0:
        raise InputError(f"seed: expected 0 or more, got {arguments.seed}")
    settings = ReadSettings(data=arguments.data, trusted=arguments.trusted, **reading)
    folder = Path(arguments.output)
    for source in filter(None, (arguments.data, arguments.trusted)):
        check_source(source)
    check_free(folder)
    from emlc.runs.outputs import check_apart

    check_apart(folder, paths_of(settings, "source"))
    from emlc.data.sources.checked import trusting
    from emlc.data.sources.human_labels import with_human_labels
    from emlc.data.sources.read import open_source
    from emlc.report.drawn import (
        cells_like_formulas,
        decisions_before,
        draw,
        gallery_to_check,
        table_to_check,
    )
    from emlc.report.rendering import render_drawn
    from emlc.runtime.files import atomic_folder, write_csv, write_text

    data = with_human_labels(open_source(arguments.data, settings, role="data"), settings)
    data = data.fitted(data.rows_in_use)
    checked = _checked_before(data, settings)
    rows = draw(data if checked is None else trusting(data, checked), arguments.number, arguments.seed)
    command = _train(settings)
    with atomic_folder(folder) as temporary:
        table = table_to_check(data, rows, checked)
        write_csv(temporary / "to_check.csv", table)
        if checked is not None:
            write_csv(temporary / _BEFORE, decisions_before(data, checked))
        gallery = gallery_to_check(data, rows)
        page = render_drawn(gallery, data.classes, Path(arguments.data).name, f"{command} decisions.csv")
        write_text(temporary / "to_check.html", page)
    if formulas := cells_like_formulas(table):
        _log.warning(
            f"{folder / 'to_check.csv'}: {formulas:,} texts begin with = + - or @, which a spreadsheet may "
            "take for formulas: import all columns as text"
        )
    for line in _lines(arguments.number, folder, command, 0 if checked is None else len(checked.rows)):
        show(line)


def _checked_before(data: "Source", settings: DataSettings) -> "Checked | None":
    from emlc.data.sources.checked import read_checked

    checked = read_checked(data, settings)
    if checked is None and settings.trusted is not None:
        raise InputError(
            "trusted: expected a table of checked labels, to_check.csv or decisions.csv, found "
            f"{settings.trusted}"
        )
    return checked


def _train(settings: DataSettings) -> str:
    """Return the command that trains with the checked labels, without the name of their file."""
    default = DataSettings()
    given = {name: value for name in _READING if (value := getattr(settings, name)) != getattr(default, name)}
    options = [f"--{name} {shlex.quote(_as_option(value))}" for name, value in given.items()]
    return " ".join(["emlc train", shlex.quote(str(settings.data)), *options, "--trusted"])


def _as_option(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(number: int, folder: Path, command: str, before: int) -> list[str]:
    table = shlex.quote(str(folder / "to_check.csv"))
    told = f"{before:,} labels were checked before: not drawn again, and at the end of to_check.csv"
    load = f" load {_BEFORE}," if before else ""
    return [
        f"{number:,} samples drawn at random: {folder / 'to_check.html'}, {folder / 'to_check.csv'}",
        *([told] if before else []),
        "check them, in random order, so you may stop anywhere:",
        f"  in a browser: open to_check.html,{load} decide, download decisions.csv",
        "  or in a spreadsheet: write the right label of each row into the column checked_label",
        f"next: {command} {table}",
        f"  or: {command} decisions.csv",
    ]
