"""A hash of the code of a method, by which its runs are told from those of an earlier version of it."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_HOMES = (Path(__file__).parents[2], Path(__file__).parents[3])
"""Folders of emlc and, in a checkout, of the benchmarks."""
ROOMS = ("emlc.architectures.", "emlc.meta.", "emlc.methods.", "emlc.networks.", "emlc.pretraining.")
"""Modules whose code counts with that of a module which imports them."""


@cache
def code_digest(*modules: str, rooms: tuple[str, ...] = ROOMS) -> str:
    """Return a hash of modules, and of what they import of methods, networks and meta-gradients.

    Comments and docstrings do not count.

    Args:
        modules: Names of modules of emlc or of the benchmarks, such as ``emlc.methods.glc``.
        rooms: How the names of the imported modules that count begin.

    Returns:
        64 hexadecimal characters.
    """
    seen: dict[str, str] = {}
    left = list(modules)
    while left:
        name = left.pop()
        if name not in seen:
            seen[name], imports = _code(name)
            left += [each for each in imports if each.startswith(rooms) and _file(each) is not None]
    return hashlib.sha256("\0".join(f"{name}\0{seen[name]}" for name in sorted(seen)).encode()).hexdigest()


@cache
def _code(module: str) -> tuple[str, tuple[str, ...]]:
    """Return the code of a module without comments and docstrings, and the modules that it imports."""
    path = _file(module)
    assert path is not None
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    return _structure(tree), tuple(_imports(tree))


def _structure(node: object) -> str:
    """Return a syntax tree as text that is the same in all versions of Python: new fields are empty."""
    if isinstance(node, list):
        return f"[{', '.join(map(_structure, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({', '.join(f'{name}={_structure(value)}' for name, value in fields)})"


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the names of what a module imports from others, and of the others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (node.module, *(f"{node.module}.{each.name}" for each in node.names))


def _file(module: str) -> Path | None:
    paths = [home.joinpath(*module.split(".")) for home in _HOMES]
    files = (file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py"))
    return next((file for file in files if file.exists()), None)
