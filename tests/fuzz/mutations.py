"""Damage done to files, by a random generator alone, so that every case can be made again from its number."""

import gzip
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import load_file, save_file

Mutation = Callable[[Path, random.Random], None]
"""Damages the file in place."""


# --- bytes, of any file --------------------------------------------------------------------------


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 30))):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _zero(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + bytes(min(rng.choice((1, 16, 4096)), len(data) - start)) + data[start + 4096 :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at]
        + rng.choice((b"\x00", b"\xff\xfe", b"\xe4", b'"', b",", b"\n", rng.randbytes(20)))
        + data[at:]
    )


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    part = data[start : start + rng.choice((5, 50, 5000))]
    return data[:start] + part * rng.choice((2, 20)) + data[start:]


def _encode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace") + rng.choice(("", "é", "日本"))
    return text.encode(
        rng.choice(("utf-16", "utf-32", "utf-8-sig", "cp1252", "shift-jis", "utf-7")), "replace"
    )


def _number(data: bytes, rng: random.Random) -> bytes:
    digits = [k for k, byte in enumerate(data) if chr(byte).isdigit()]
    if not digits:
        return data
    at = rng.choice(digits)
    odd = (
        b"-1",
        b"1e308",
        b"1e400",
        b"nan",
        b"inf",
        b"1000000000000",
        b"9" * 5000,
        b"0x1f",
        b"true",
        b"null",
    )
    return data[:at] + rng.choice(odd) + data[at + 1 :]


def _other(data: bytes, rng: random.Random) -> bytes:
    short = (b"", b"\n", b"{}", b"[]", b"null", b"a", b"PK\x03\x04", b"PAR1PAR1", b"\x80\x04\x95")
    deep = (b"[" * 20_000, b"{a: " * 2000, gzip.compress(bytes(10_000_000)))
    return rng.choice((*short, *deep, rng.randbytes(100), data[::-1], gzip.compress(data)))


_BYTES = (_truncate, _flip, _zero, _insert, _repeat, _encode, _number, _other)


def damage_bytes(file: Path, rng: random.Random) -> None:
    """Damage any file, without a look at what it is."""
    file.write_bytes(rng.choice(_BYTES)(file.read_bytes(), rng))


# --- values, of files with a structure -----------------------------------------------------------

_ODD: tuple[Any, ...] = (
    *(None, True, "", "x", " ", "é\udc00".encode("utf-8", "replace").decode(), "x" * 100_000, "\x1b[31m"),
    *(0, -1, 1, 2**31, 2**63, 10**12, 10**400, 0.5, 1e308, float("nan"), float("inf"), -0.0),
    *(
        [],
        {},
        [[]],
        [None],
        {"": {}},
        [1, 2, 3],
        ["a"] * 3,
        [1_000_000, 1_000_000],
        "../..",
        "/",
        "~",
        "=1+1",
    ),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, inner in items for place in _places(inner, (*path, key)))]


def _changed(value: Any, rng: random.Random) -> Any:
    *path, last = (*rng.choice(_places(value)),) or (None,)
    if last is None:
        return rng.choice(_ODD)
    inner = value
    for key in path:
        inner = inner[key]
    action = rng.randrange(4)
    if action == 0:
        del inner[last]
    elif action == 1 and isinstance(inner, list):
        inner[:] = inner * rng.choice((0, 2, 500))
    elif action == 1:
        inner[rng.choice(("odd", "data", ""))] = rng.choice(_ODD)
    else:
        inner[last] = rng.choice(_ODD)
    return value


def damage_json(file: Path, rng: random.Random) -> None:
    """Change, remove or add a value."""
    value = json.loads(file.read_text())
    for _ in range(rng.choice((1, 1, 2))):
        value = _changed(value, rng)
    with np.errstate(all="ignore"):
        file.write_text(json.dumps(value) if rng.random() < 0.9 else json.dumps(value)[:-1])


_BOMBS = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(20)
    ),
    "a: &a {b: *a}\n",
    "classes: &c [*c, *c]\n",
    "hyper: &h {x: *h}\n",
    "a: !!python/object/apply:os.system ['touch ran']\n",
    "a: !!binary x\n",
    "a: " + "[" * 5000 + "]" * 5000 + "\n",
    "a: " + "{a: " * 500 + "}" * 500 + "\n",
    "? [1, 2]\n: 3\n",
    "a: 2001-01-01\nb: 1:2:3\n",
    "<<: *x\n",
    "classes: [" + "a, " * 20_000 + "]\n",
)  # fmt: skip


def damage_yaml(file: Path, rng: random.Random) -> None:
    """Change a value, or add something that explodes, goes round in circles or would run code."""
    if rng.random() < 0.35:
        file.write_text(file.read_text() * (rng.random() < 0.5) + rng.choice(_BOMBS))
        return
    value = _changed(yaml.safe_load(file.read_text()), rng)
    file.write_text(yaml.safe_dump(value))


def damage_csv(file: Path, rng: random.Random) -> None:
    """Change the header, cells, rows or columns."""
    rows = [line.split(",") for line in file.read_text().splitlines()]
    odd = [str(each) for each in _ODD if not isinstance(each, int) or abs(each) < 10**300] + [
        '"',
        '""',
        "a\tb",
    ]
    action = rng.randrange(8)
    column = rng.randrange(len(rows[0]))
    if action == 0:
        rows[0][column] = rng.choice([*odd, *rows[0]])
    elif action == 1:
        rows[0] = [rng.choice(rows[0]) for _ in rows[0]]
    elif action == 2:
        rows = [[*cells[:column], *cells[column + 1 :]] for cells in rows]
    elif action == 3:
        value = rng.choice(odd)
        rows = [rows[0], *([*cells[:column], value, *cells[column + 1 :]] for cells in rows[1:])]
    elif action == 4:
        rows = rng.choice((rows[:1], rows[1:], rows[:2], rows * 3, [*rows, ["x"]], [["a"] * 500, *rows]))
    elif action == 5:
        rows = [[*cells, str(k)] for k, cells in enumerate(rows)]
        rows[0][-1] = rng.choice(rows[0])
    else:
        for _ in range(rng.choice((1, 5, 50))):
            rows[rng.randrange(len(rows))][rng.randrange(len(rows[0])) - 1] = rng.choice(odd)
    separator = rng.choice((",", ",", ",", ";", "\t"))
    file.write_text("\n".join(separator.join(cells) for cells in rows) + rng.choice(("\n", "", "\r\n\n")))
    if rng.random() < 0.2:
        damage_bytes(file, rng)


def _odd_array(n: int, rng: random.Random) -> Any:
    return rng.choice(
        (
            *(
                np.zeros((n, 0)),
                np.zeros((0, 4)),
                np.zeros(()),
                np.full((n, 4), np.nan),
                np.zeros((n, 2, 2, 2, 2)),
            ),
            *(np.zeros(n, "V8"), np.zeros(n, [("a", "i4"), ("b", "U3")]), np.zeros((n, 4), "c16")),
            *(
                np.zeros(n, "M8[s]"),
                np.array(["x" * 10_000] * n),
                np.array([b"\xff"] * n),
                np.arange(n) * 10**15,
            ),
            *(
                np.zeros((n, 3, 3, 3), np.uint8),
                np.zeros((n, 4), "f2"),
                np.zeros((n, 4), ">i8"),
                np.zeros(n, bool),
            ),
            *(np.full(n, 2**63, np.uint64), np.full((n, 4), 1e300), np.full(n, np.inf), np.array([""] * n)),
            *(np.zeros((2 * n, 4)), np.array([["a"]] * n)),
        )
    )


def damage_npz(file: Path, rng: random.Random) -> None:
    """Change an array, claim more than there is, compress far too well, or encrypt."""
    with np.load(file) as archive:
        arrays = dict(archive)
    name, n = rng.choice([*arrays]), len(next(iter(arrays.values())))
    action = rng.randrange(6)
    if action == 0:
        _claim(file, name, rng)
    elif action == 1:
        data = bytearray(file.read_bytes())
        for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # the flag "encrypted", in both headers
            data[data.index(mark) + (6 if mark[2] == 3 else 8)] |= 1
        file.write_bytes(data)
    elif action == 2:
        damage_bytes(file, rng)
    else:
        arrays[rng.choice((name, name, "classes", "ids", "trusted", "true_labels"))] = _odd_array(n, rng)
        if rng.random() < 0.2:
            del arrays[name]
        np.savez_compressed(file, **arrays)


def _claim(file: Path, name: str, rng: random.Random) -> None:
    """Write a header that claims far more than there is in the file."""
    shape = rng.choice(((10**12, 4), (10**6, 10**6), (2**62, 4), (-1, 4), (0, 10**15), (5 * 10**8, 4)))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # two arrays of one name
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(100)
        archive.writestr(f"{rng.choice((name, 'zz'))}.npy", content)


def damage_parquet(file: Path, rng: random.Random) -> None:
    """Change a column's type, the metadata that pandas or Hugging Face wrote, or bytes."""
    table = pq.read_table(file)
    n, name = len(table), rng.choice(table.column_names)
    columns = (
        *(pa.array([[1, 2]] * n), pa.array([{"a": 1}] * n), pa.array([{"bytes": b"x", "path": None}] * n)),
        *(pa.nulls(n), pa.array([b"\xff"] * n), pa.array([None, *["a"] * (n - 1)]), pa.array([1.5] * n)),
        *(pa.array(pd.to_datetime(["1900-01-01"] * n)), pa.array([[["a"]]] * n)),
        pa.array([0] * n, pa.duration("s")),
        pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        pa.array(["a"] * n).dictionary_encode(),
        *(pa.array([10**30] * n, pa.decimal128(38)), pa.array([float("nan")] * n)),
        pa.array([2**63] * n, pa.uint64()),
        *(pa.array([[]] * n, pa.list_(pa.int8())), pa.array([[]] * n, pa.list_(pa.float32(), 0))),
    )
    damaged = (b"{", b"[]", b"null", b'{"columns": 3}', b'{"index_columns": ["?"], "columns": []}', b"\xff")
    action = rng.randrange(5)
    if action == 0:
        damage_bytes(file, rng)
        return
    if action == 1:
        key = rng.choice((b"pandas", b"huggingface", b"ARROW:schema"))
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), key: rng.choice(damaged)})
    elif action == 2:
        table = table.slice(0, rng.choice((0, 1, 2)))
    else:
        at = table.column_names.index(name)
        table = table.set_column(at, rng.choice((name, "label", "")), rng.choice(columns))
    pq.write_table(table, file)


def damage_weights(file: Path, rng: random.Random) -> None:
    """Change the shape or type of a tensor of a .safetensors file, drop or add one, or change bytes."""
    tensors = load_file(file)
    name = rng.choice([*tensors])
    odd = (torch.zeros(0), torch.zeros(3, 3), torch.zeros(2, dtype=torch.float64), torch.tensor(float("nan")))
    action = rng.randrange(4)
    if action == 0:
        damage_bytes(file, rng)
        return
    if action == 1:
        del tensors[name]
    elif action == 2:
        tensors[rng.choice((name, "odd"))] = rng.choice(
            (*odd, tensors[name].double(), tensors[name][None].clone())
        )
    else:
        header = {name: {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}
        text = json.dumps(rng.choice((header, {}, {"a": 1}, []))).encode()
        file.write_bytes(struct.pack("<Q", rng.choice((len(text), 2**62, 3))) + text + bytes(4))
        return
    save_file(tensors, file)


def damage_torch(file: Path, rng: random.Random) -> None:
    """Put sparse, cyclic or other contents into a file of torch.save, or change bytes."""
    try:
        content = torch.load(file, weights_only=True)
    except UnpicklingError:  # of numpy's arrays
        content = None
    cyclic: dict[str, Any] = {"weight": torch.zeros(2)}
    cyclic["self"] = cyclic
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    odd: tuple[Any, ...] = (
        *(cyclic, deep, [], None, 3, {1: torch.zeros(1)}, {"a": torch.eye(3).to_sparse()}, torch.zeros(2)),
        *({"a": torch.zeros(2, device="meta")}, {"a": torch.zeros(1).expand(10**12)}, {"progress": cyclic}),
    )
    action = rng.randrange(4)
    if action == 0 or not isinstance(content, dict):
        damage_bytes(file, rng)
        return
    key = rng.choice([*content])
    if action == 1:
        content = rng.choice(odd)
    elif action == 2:
        content[key] = rng.choice((*odd, torch.zeros(2, 0), torch.eye(3).to_sparse()))
    elif isinstance(content[key], torch.Tensor):
        content[key] = rng.choice(
            (content[key].to_sparse(), content[key][None], content[key].to(torch.complex64))
        )
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.write_bytes(buffer.getvalue())


def damage_place(file: Path, rng: random.Random) -> None:
    """Put something that is no file in its place."""
    file.unlink()
    action = rng.randrange(4)
    if action == 0:
        file.mkdir()
    elif action == 1:
        file.symlink_to(file)
    elif action == 2:
        file.symlink_to(file.parent / "nowhere")
    else:
        file.touch()


_BY_SUFFIX: dict[str, Mutation] = {
    ".csv": damage_csv,
    ".json": damage_json,
    ".npz": damage_npz,
    ".parquet": damage_parquet,
    ".pt": damage_torch,
    ".safetensors": damage_weights,
    ".yaml": damage_yaml,
}


def damage(file: Path, rng: random.Random) -> None:
    """Damage a file in a way that its kind suggests, or in one that goes for any file."""
    specific = _BY_SUFFIX.get(file.suffix, damage_bytes)
    rng.choices((specific, damage_bytes, damage_place), (6, 3, 0.4))[0](file, rng)
