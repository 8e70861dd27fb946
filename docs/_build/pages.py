"""Pages generated when the site is built: the reference from the code, CHANGELOG and CONTRIBUTING."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from docstring_parser import parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import emlc
from emlc.config import presets
from emlc.cli.main import COMMANDS, build_parsers
from emlc.config import PretrainSettings, Settings, groups
from emlc.config.setting import facts_of

ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/command-line.md": command_line(),
        "reference/settings.md": settings(),
        "reference/python.md": python(),
        "reference/presets.md": preset_list(),
        "changelog.md": beside_the_docs("CHANGELOG.md"),
        "contributing.md": beside_the_docs("CONTRIBUTING.md"),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Remove Sphinx's roles, by which docstrings refer to names; the page shows the name alone."""
    return re.sub(r":(?:func|class|meth|mod):(?=<code>)", "", html)


def beside_the_docs(name: str) -> str:
    """Read a page of the repository's root, with its links made relative to the docs."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def command_line() -> str:
    """Write the page of commands: usage, description and options of each."""
    _, parsers = build_parsers()
    page = ["# Command line\n"]
    page.append("`emlc COMMAND --help` prints the same. Dashes may stand for underscores in options.\n")
    for name, module in COMMANDS.items():
        summary, _, rest = (module.__doc__ or "").strip().partition("\n")
        page += [f"## emlc {name}\n", f"{summary}\n", f"```text\nemlc {name} {module.USAGE}\n```\n", f"{rest}\n"]
        kind = getattr(module, "SETTINGS", None)
        if kind is not None:
            title = "pretraining" if kind is PretrainSettings else "training"
            page.append(f"Every [setting of {title}](settings.md#{title}) is an option.\n")
        known = {f.name for f in fields(kind)} if kind else set()
        rows = [option_row(action) for action in parsers[name]._actions if shown(action, known)]
        if rows:
            page += table("option", rows)
    return "\n".join(page)


def shown(action: Action, settings: set[str]) -> bool:
    """Whether an option belongs in the table: settings have a table of their own, and --help needs none."""
    hidden = action.help == SUPPRESS or action.dest in {*settings, "help", "print_config", SUPPRESS}
    return not hidden and not action.dest.startswith("__")


def option_row(action: Action) -> str:
    """Write the row of an option."""
    names = ", ".join(f"`{name}`" for name in action.option_strings if "--no_" not in name)
    has_default = action.default not in (None, SUPPRESS) and action.default is not False
    default = f"`{action.default}`" if has_default else ""
    choices = f" One of {', '.join(map(str, action.choices))}." if action.choices else ""
    return f"| {names or f'`{action.dest.upper()}`'} | {default} | {cell((action.help or '') + choices)} |"


def settings() -> str:
    """Write the page of settings: the essential ones, then all by group, those for experts folded."""
    page = [
        "# Settings\n",
        "Each setting is an option `--NAME` of `emlc train` or `emlc pretrain`, a key of a file for `--config`, and an",
        "argument of `emlc.Settings`. `--print_config` prints them all with their values. Problems with them are",
        "reported together, before anything is read.\n",
        "## Essentials\n",
        "Most runs of `emlc train` need no others.\n",
        *table("setting", [row for group in groups(Settings) for row in rows(group, "common")]),
    ]
    for title, kind in {"Training": Settings, "Pretraining": PretrainSettings}.items():
        page.append(f"## {title}\n")
        for group in groups(kind):
            page.append(f"### {heading(group)} {{: #{title.lower()}-{group.__name__.lower()} }}\n")
            page += [line for level in ("common", "usual") for line in some(rows(group, level))]
            page += folded(rows(group, "expert"))
    return "\n".join(page)


def some(found: list[str]) -> list[str]:
    """Write the lines of a table of settings; none if there are none."""
    return table("setting", found) if found else []


def folded(found: list[str]) -> list[str]:
    """Write the lines of a table of settings that is folded until it is asked for."""
    if not found:
        return []
    title = f'??? note "{len(found)} settings for experts, whose defaults rarely need a change"\n'
    return [title, *(f"    {line}" for line in "\n".join(table("setting", found)).splitlines()), ""]


def table(what: str, rows: Iterable[str]) -> list[str]:
    """Write the lines of a table, which narrow screens show row by row."""
    top = (f"| {what} | default | meaning |", "|---|---|---|")
    return ['<div class="settings" markdown>\n', *top, *rows, "\n</div>\n"]


def heading(group: type[Any]) -> str:
    """Return the heading of a group: the first line of its docstring."""
    return (group.__doc__ or group.__name__).splitlines()[0].rstrip(".")


def rows(group: type[Any], level: str) -> list[str]:
    """Return the rows of a group's settings of a level, common, usual or expert: name, default and meaning."""
    meanings = {p.arg_name: p.description or "" for p in parse(group.__doc__ or "").params}
    levels = {
        name: "expert" if facts.expert else "common" if facts.common or name == "data" else "usual"
        for name, facts in facts_of(group).items()
    }
    chosen = [field for field in fields(group) if levels[field.name] == level]
    return [f"| `{f.name}` | {default_of(f.default)} | {cell(meanings[f.name])} |" for f in chosen]


def default_of(value: Any) -> str:
    """Return a default as code; nothing if there is none."""
    return "" if value in (None, MISSING) else f"`{value}`"


def cell(text: str) -> str:
    """Fit a text into a cell of a table: on one line, without bars or anything Markdown reads as a tag."""
    return re.sub(r"``(.*?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|").replace("<", "&lt;")


def python() -> str:
    """Write the page of public names, described by their docstrings."""
    page = ["# Python\n", "What `import emlc` offers.\n"]
    page += [f"::: emlc.{name}\n" for name in sorted(emlc.__all__, key=str.lower)]
    return "\n".join(page)


def preset_list() -> str:
    """Write the page of presets, each with the comment of its file, such as the accuracy to expect."""
    page = [
        "# Presets\n",
        "Settings of published experiments. `emlc train --preset NAME` uses one; options after it override its values,",
        "and `--print_config` shows them. Noise and k are given as options:",
        "`emlc train --preset cifar10 --noise symmetric --noise_rate 0.8 --look_ahead 5`.\n",
    ]
    for command in presets.COMMANDS:
        page.append(f"## emlc {command}\n")
        for name in presets.preset_names(command):
            page += [f"### {name}\n", "```text", presets.preset_comment(name, command), "```\n"]
    return "\n".join(page)
