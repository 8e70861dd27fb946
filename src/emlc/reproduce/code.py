"""A hash of the code of a method, by which its runs are told from those of an earlier version of it."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_HOME = Path(__file__).parents[2]
_ROOMS = ("emlc.architectures.", "emlc.meta.", "emlc.methods.", "emlc.networks.", "emlc.pretraining.")
"""Modules whose code counts with that of a module which imports them."""


@cache
def code_digest(module: str) -> str:
    """Return a hash of a module, and of what it imports of methods, networks and meta-gradients.

    Comments and docstrings do not count.

    Args:
        module: Name of a module of emlc, such as ``emlc.methods.glc``.

    Returns:
        64 hexadecimal characters.
    """
    seen: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        if name not in seen:
            seen[name], imports = _code(name)
            left += imports
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
    """Yield the modules that count among those that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = (node.module, *(f"{node.module}.{each.name}" for each in node.names))
            yield from (name for name in names if name.startswith(_ROOMS) and _file(name) is not None)


def _file(module: str) -> Path | None:
    path = _HOME.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)
