"""CSV files as people have them: other separators, encodings, compressions, line breaks in cells."""

import bz2
import csv
import gzip
import io
import lzma

import numpy as np
import pyarrow as pa
import pytest

from emlc.data import read
from emlc.data.sources import text_files
from emlc.errors import InputError

ROWS = [("größe", "label", "note"), ("1.5", "Käse", "a"), ("2.5", "Brot", "b"), ("3.5", "Käse", "c")]


def text_of(rows, separator=","):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows(rows)
    return out.getvalue()


def names(samples):
    return [samples.classes[k] for k in samples.labels]


def check_is_rows(samples):
    assert names(samples) == ["Käse", "Brot", "Käse"]
    assert samples.inputs.tolist() == [[1.5], [2.5], [3.5]]


@pytest.mark.parametrize(
    ("separator", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")], ids=["semi", "tab", "bar"]
)
@pytest.mark.parametrize("name", ["data.csv", "data.TSV"])
def test_the_separator_is_found_by_content_and_told(tmp_path, settings, logged, separator, word, name):
    (tmp_path / name).write_text(text_of(ROWS, separator))
    check_is_rows(read(str(tmp_path / name), settings(), role="data"))
    assert f"{name}: cells are separated by {word}" in logged.text


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
def test_the_encoding_is_found_by_content(tmp_path, settings, encoding):
    (tmp_path / "data.csv").write_bytes(text_of(ROWS, ";").encode(encoding))
    check_is_rows(read(str(tmp_path / "data.csv"), settings(), role="data"))


def test_an_encoding_that_was_guessed_is_told_with_an_example(tmp_path, settings, logged):
    rows = [ROWS[0], *(("0", "Brot", "x" * 1000) for _ in range(5000)), *ROWS[1:]]  # beyond the first block
    (tmp_path / "data.csv").write_bytes(text_of(rows).encode("cp1252"))
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    assert names(samples)[-3:] == ["Käse", "Brot", "Käse"]
    assert "not in UTF-8; read as cp1252, which gives 'größe,label,note'" in logged.text
    assert "--encoding names the right one" in logged.text


def test_an_encoding_can_be_named(tmp_path, settings):
    rows = [("a", "label"), ("1", "猫"), ("2", "狗")]
    (tmp_path / "data.csv").write_bytes(text_of(rows).encode("gb18030"))
    samples = read(str(tmp_path / "data.csv"), settings(encoding="gb18030"), role="data")
    assert names(samples) == ["猫", "狗"]
    with pytest.raises(
        InputError, match=r"data\.csv: expected text in utf-8, found other bytes near .*--encoding"
    ):
        read(str(tmp_path / "data.csv"), settings(encoding="utf-8"), role="data")


@pytest.mark.parametrize("broken", ["Käse".encode()[:2], b"\xed\xa0\x80", b"\xff"])
def test_a_broken_byte_in_utf_8_is_no_other_encoding(tmp_path, settings, broken):
    (tmp_path / "data.csv").write_bytes(text_of(ROWS).encode() + b"4.5,Brot," + broken)
    with pytest.raises(
        InputError, match=r"data\.csv: expected text in utf-8, found other bytes near '4\.5,Brot,"
    ):
        read(str(tmp_path / "data.csv"), settings(), role="data")


def test_utf_8_is_read_without_a_word(tmp_path, settings, logged):
    (tmp_path / "data.csv").write_text(text_of([row[:2] for row in ROWS]))
    check_is_rows(read(str(tmp_path / "data.csv"), settings(), role="data"))
    assert logged.text == ""


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", lambda data: pa.compress(data, codec="zstd", asbytes=True)),
    ],
    ids=["gz", "bz2", "xz", "zst"],
)
def test_compressed_files(tmp_path, settings, ending, compress):
    packed = compress(text_of(ROWS, ";").encode("utf-16"))
    for name in (f"data.csv{ending}", "unnamed.csv"):  # the content says so, whatever the name
        (tmp_path / name).write_bytes(packed)
        check_is_rows(read(str(tmp_path / name), settings(), role="data"))
    (tmp_path / "half.csv").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"half\.csv: cannot be read"):
        read(str(tmp_path / "half.csv"), settings(), role="data")


def test_line_breaks_in_cells_of_a_large_file(tmp_path, settings):
    rows = [
        ("a", "note", "label"),
        *((k**2, f"line one\nline, {k}\r\n" * 20, f"c{k % 3}") for k in range(4000)),
    ]
    (tmp_path / "data.csv").write_text(text_of(rows), newline="")
    assert (tmp_path / "data.csv").stat().st_size > 2**20
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    np.testing.assert_array_equal(samples.inputs[:, 0], np.arange(4000) ** 2)
    assert names(samples) == [f"c{k % 3}" for k in range(4000)]


def test_a_row_longer_than_a_block_of_the_parser(tmp_path, settings):
    rows = [("a", "note", "label"), ("1", "x" * 3_000_000, "u"), ("2", "y", "v")]
    (tmp_path / "data.csv").write_text(text_of(rows))
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    assert samples.inputs.tolist() == [[1], [2]]


def test_a_long_document_beside_line_breaks_in_cells(tmp_path, settings):
    rows = [("note", "label", "a"), ("x" * 140_000, "u", "1"), ("line one\nline two", "v", "2")]
    (tmp_path / "data.csv").write_text(text_of(rows))
    samples = read(str(tmp_path / "data.csv"), settings(feature_columns=["a"]), role="data")
    assert names(samples) == ["u", "v"]


def test_a_text_after_many_numbers_is_told_as_in_a_small_file(tmp_path, settings, logged):
    rows = [("a", "label"), *((k, "u" * 50) for k in range(40_000)), ("oops", "u" * 50)]
    (tmp_path / "data.csv").write_text(text_of(rows))
    assert (tmp_path / "data.csv").stat().st_size > 2**20
    samples = read(str(tmp_path / "data.csv"), settings(feature_columns=["a"]), role="data")
    assert samples.inputs[-1].tolist() == [19_999.5, 1]  # the median, and that it is missing
    assert "data.csv: a: 1 taken for missing, as they are no number (oops)" in logged.text


def test_decimal_commas_are_read_and_told(tmp_path, settings, logged):
    (tmp_path / "data.csv").write_text("a;b;c;label\n1,5;1.234,5;7;1,5\n-2,25;10;8;x\n3;;9;x\n")
    samples = read(str(tmp_path / "data.csv"), settings(feature_columns=["a", "c"]), role="data")
    assert samples.inputs.tolist() == [[1.5, 7], [-2.25, 8], [3, 9]]
    assert samples.classes == ("1,5", "x")  # labels are kept as written
    assert "data.csv: read decimal commas in: a, b" in logged.text
    first = read(str(tmp_path / "data.csv"), settings(feature_columns=["a"]), role="data")
    (tmp_path / "first.csv").write_text("b;label\n1.234,5;u\n10;v\n")
    assert read(str(tmp_path / "first.csv"), settings(), role="data").inputs.tolist() == [[1234.5], [10]]
    assert len(first) == 3


def test_commas_between_cells_are_no_decimal_commas(tmp_path, settings):
    (tmp_path / "data.csv").write_text('a,b,label\n1,"1,5",u\n2,"2,5",v\n')
    samples = read(str(tmp_path / "data.csv"), settings(feature_columns=["a"]), role="data")
    assert samples.inputs.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    "content",
    ['"a;b";label;n\n1;u;2,5\n3;v;4,5\n', "a,b;label;n\n1;u;2\n3;v;4\n", "sep=;\na;label;n\n1;u;2\n3;v;4\n"],
    ids=["quoted name", "comma in a name", "Excel's hint"],
)
def test_separators_within_names(tmp_path, settings, content):
    (tmp_path / "data.csv").write_text(content)
    samples = read(str(tmp_path / "data.csv"), settings(feature_columns=["n"]), role="data")
    assert names(samples) == ["u", "v"]
    assert samples.inputs.shape == (2, 1)


def test_a_separator_can_be_named(tmp_path, settings):
    (tmp_path / "data.csv").write_text("a:label\n1:u,;\n2:v\n")
    assert names(read(str(tmp_path / "data.csv"), settings(separator=":"), role="data")) == ["u,;", "v"]
    (tmp_path / "data.csv").write_text("a\tlabel\n1\tu,;\n2\tv\n")
    for tab in ("tab", "\\t", "\t"):
        assert names(read(str(tmp_path / "data.csv"), settings(separator=tab), role="data")) == ["u,;", "v"]


def test_spaces_after_separators(tmp_path, settings):
    (tmp_path / "data.csv").write_text("a, label, b\n1, cat, 2\n3, dog , 4\n")
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    assert names(samples) == ["cat", "dog"]
    assert samples.inputs.tolist() == [[1, 2], [3, 4]]


def test_empty_columns_and_rows_of_a_spreadsheet(tmp_path, settings, logged):
    (tmp_path / "data.csv").write_text("a,label,,\n1,u,,\n2,v,,\n\n,,,\n")
    samples = read(str(tmp_path / "data.csv"), settings(drop_unlabelled=True), role="data")
    assert samples.inputs.tolist() == [[1], [2]]
    assert "left out 2 columns without a name or content" in logged.text
    assert "left out 1 samples without a label" in logged.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Empty CSV file"),
        (b"a,label\n1,u\n2,v,w\n", "row 1: expected 2 cells, found 3: '2,v,w'; .*--separator"),
        (b'a,label\n1,u\n2,"v\n3,w\n', "row 1: a quotation mark is not closed"),
        (b'a,label\n1,u\n2,"v\n3,w\n4,x"y\n5,z"\n', "row 1"),
        (
            b'a,note,label\n1,fine,u\n2,"good,u\n3,bad" one,v\n4,ok,v\n',
            "row 1: a quotation mark is not closed",
        ),
        (b"a,label\n1,u\0\n", "bytes of value 0"),
        (b"PK\x03\x04 and more", "a zip archive or an Excel workbook; .*CSV UTF-8"),
        (b"PAR1 and more", r"a parquet file; give it the ending \.parquet"),
        (b"a;label\n1;u\n2\n", "row 1: expected 2 cells, found 1"),
    ],
)
@pytest.mark.parametrize("line_break", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
def test_files_that_cannot_be_read_are_explained(tmp_path, settings, content, message, line_break, last):
    content = content if last else content.removesuffix(b"\n")
    (tmp_path / "data.csv").write_bytes(content.replace(b"\n", line_break))
    with pytest.raises(InputError, match=rf"data\.csv: .*{message}"):
        read(str(tmp_path / "data.csv"), settings(), role="data")


@pytest.mark.parametrize("block", [1, 3, 2**22])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("text", "lines"),
    [("a", 1), ("a\n", 1), ("a\nb", 2), ("a\r\nb\r\n", 2), ("a\rb\r", 2), ("a\n\r\n\rb", 4)],
)
def test_lines_are_counted_across_blocks(tmp_path, monkeypatch, text, lines, encoding, block):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    (tmp_path / "data.csv").write_bytes(text.encode(encoding))
    assert text_files.find_encoding(tmp_path / "data.csv", encoding).lines == lines


@pytest.mark.parametrize(
    ("ending", "advice"),
    [
        (".xlsx", "save the sheet as CSV UTF-8"),
        (".jsonl", r"read_json\(FILE, lines=True\)\.to_parquet"),
        (".feather", "read_feather"),
        (".npy", "numpy.savez"),
        (".pkl", "could run any code"),
        (".zip", "unpack"),
        (".txt", r"\.csv or \.tsv"),
    ],
)
def test_files_of_other_kinds_say_what_to_convert_them_to(tmp_path, settings, ending, advice):
    (tmp_path / f"data{ending}").write_bytes(b"x")
    with pytest.raises(InputError, match=rf"data{ending}: not a known kind of source: .*{advice}"):
        read(str(tmp_path / f"data{ending}"), settings(), role="data")
