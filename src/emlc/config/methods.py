"""The methods by name; everything else about a method is defined by its class, in its own file."""

import ast
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

METHODS: dict[str, str] = {
    "emlc": "emlc.methods.emlc:EMLC",
    "cross-entropy": "emlc.methods.cross_entropy:CrossEntropy",
    "trusted-only": "emlc.methods.trusted_only:TrustedOnly",
    "fine-tuning": "emlc.methods.fine_tuning:FineTuning",
    "true-labels": "emlc.methods.true_labels:TrueLabels",
    "mlc": "emlc.methods.mlc:MLC",
    "mw-net": "emlc.methods.mw_net:MWNet",
    "mslc": "emlc.methods.mslc:MSLC",
    "mlnt": "emlc.methods.mlnt:MLNT",
    "fasten": "emlc.methods.fasten:FasTEN",
    "glc": "emlc.methods.glc:GLC",
    "dividemix": "emlc.methods.dividemix:DivideMix",
    "elr-plus": "emlc.methods.elr_plus:ELRPlus",
    "c2d": "emlc.methods.c2d:C2D",
    "joint-optim": "emlc.methods.joint_optim:JointOptim",
    "pencil": "emlc.methods.pencil:Pencil",
    "augdesc": "emlc.methods.augdesc:AugDesc",
    "sanm": "emlc.methods.sanm:SANM",
    "famus": "emlc.methods.famus:FaMUS",
    "mslg": "emlc.methods.mslg:MSLG",
    "metacleaner": "emlc.methods.metacleaner:MetaCleaner",
    "smp": "emlc.methods.smp:SMP",
}
"""``module:class`` of each method by its name, in the order of `emlc methods`.

These are texts because settings do not import methods, and importing one loads torch, which takes seconds.
"""


def method_class(name: str) -> type[Any]:
    """Import the class of a method, which is derived from :class:`emlc.methods.base.Method`."""
    module, _, kind = METHODS[name].partition(":")
    loaded: type[Any] = getattr(import_module(module), kind)
    return loaded


def name_problems(name: str) -> Iterator[str]:
    """Yield a message if there is no such method; it lists all methods and those with a similar name."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        yield f"method: expected one of {', '.join(METHODS)}, got {name!r}{meant}"


def method_reference(name: str) -> str:
    """Read a method's ``reference`` from its source code, without importing it."""
    module, _, kind = METHODS[name].partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for statement in ast.walk(ast.parse(Path(spec.origin).read_bytes())):
        if isinstance(statement, ast.ClassDef) and statement.name == kind:
            return next(_strings("reference", statement), "")
    return ""


def _strings(name: str, kind: ast.ClassDef) -> Iterator[str]:
    for statement in kind.body:
        match statement:
            case (
                ast.AnnAssign(target=ast.Name(id=target), value=ast.Constant(value=str() as value))
                | ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant(value=str() as value))
            ) if target == name:
                yield value
