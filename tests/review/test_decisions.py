"""decisions.csv: what spreadsheets and people make of it is read, or refused with where and why."""

from pathlib import Path

import numpy as np
import pytest

import tiny
from emlc import InputError
from emlc.data import split_samples
from emlc.data.classes import UNKNOWN
from emlc.review.decisions import read_decisions

HEADER = "id,decision,label,given_label,suggested_label"


@pytest.fixture(scope="module")
def split():
    """Noisy samples s0 to s74 but the trusted ones; trusted ones, and others of a test set."""
    return split_samples(tiny.samples(), None, None, tiny.unlike(9, 3), settings=tiny.settings(), seed=0)


@pytest.fixture
def refused(split, tmp_path):
    """The message about a file of these lines, without its path."""

    def message(*lines: str, header: str = HEADER, encoding: str = "utf-8") -> str:
        path = tmp_path / "d.csv"
        path.write_bytes("\n".join([header, *lines]).encode(encoding))
        with pytest.raises(InputError) as error:
            read_decisions(path, split)
        assert str(path) in str(error.value)
        return str(error.value).replace(f"{path}: ", "").replace(str(path), "FILE")

    return message


def given(split, row):
    return split.classes[split.noisy.labels[row]]


def row(split, k, word="keep", label=None, **changes):
    """A line on noisy sample k: by default one that keeps its label."""
    cells = {"id": split.noisy.ids[k], "decision": word, "label": given(split, k) if label is None else label}
    cells |= {"given_label": given(split, k), "suggested_label": "cow"} | changes
    return ",".join(cells.values())


def test_decisions(split, tmp_path):
    lines = [row(split, 5, "accept", "cow"), row(split, 2), row(split, 9, "other", "dog")]
    lines += [row(split, k, word, "") for k, word in enumerate(("skip", "recheck"))]
    lines += [row(split, 7, "exclude", "")]
    (tmp_path / "d.csv").write_text("\n".join([HEADER, *lines, ""]))
    made = read_decisions(tmp_path / "d.csv", split)
    assert made.rows.tolist() == [5, 2, 9, 0, 1, 7]
    assert made.labels.tolist() == [1, split.noisy.labels[2], 2, *[UNKNOWN] * 3]
    assert made.excluded.tolist() == [7]
    assert made.counts == {"accept": 1, "keep": 1, "other": 1, "skip": 1, "recheck": 1, "exclude": 1}
    rows, labels, chosen = made.settled
    assert (rows.tolist(), labels.tolist()) == ([5, 2, 9], made.labels[:3].tolist())
    assert chosen.tolist() == [""] * 3  # a file of before does not say


def test_a_file_may_say_how_samples_were_chosen(split, refused, tmp_path):
    words = ("worst", "random", "picked", "")
    lines = [f"{row(split, k)},{word}" for k, word in enumerate(words)]
    (tmp_path / "d.csv").write_text("\n".join([f"{HEADER},chosen", *lines, ""]))
    assert read_decisions(tmp_path / "d.csv", split).settled[2].tolist() == list(words)
    message = refused(f"{row(split, 3)},best", header=f"{HEADER},chosen")
    assert "row 0" in message
    assert "chosen: expected worst, random, picked or nothing, found 'best'" in message
    assert "occur more than once: chosen" in refused(header=f"{HEADER},chosen,chosen")


@pytest.mark.parametrize(
    ("start", "end"),
    [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n\r\n")],
    ids=["bom", "crlf", "blank lines"],
)
def test_what_spreadsheets_save(start, end, split, tmp_path):
    text = start + end.join([HEADER + ",note", row(split, 3) + ',"a, ""b"""', row(split, 4) + ",", ""])
    (tmp_path / "d.csv").write_bytes(text.encode())
    assert read_decisions(tmp_path / "d.csv", split).rows.tolist() == [3, 4]


def test_columns_in_another_order_and_no_rows(split, tmp_path):
    (tmp_path / "d.csv").write_text("label,given_label,suggested_label,decision,id\n")
    assert len(read_decisions(tmp_path / "d.csv", split).rows) == 0


def test_hostile_names(tmp_path):
    names = ["../../x", "</script>", 'quo"te, comma', "line\nbreak", "=1+1", " 猫 "]
    labels = [names[k % 6] for k in range(60)]
    samples = tiny.Samples.from_arrays(
        np.eye(60), labels, ids=[f"{names[k % 6]}{k}" for k in range(60)], true_labels=labels
    )
    split = split_samples(samples, settings=tiny.settings(trusted_per_class=2))
    lines = []
    for sample_id, label in zip(split.noisy.ids, split.noisy.labels, strict=True):
        cells = [sample_id, "keep", split.classes[label], split.classes[label], split.classes[0]]
        lines.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    (tmp_path / "d.csv").write_bytes("\n".join([HEADER, *lines]).encode())
    made = read_decisions(tmp_path / "d.csv", split)
    assert made.rows.tolist() == list(range(48))
    np.testing.assert_array_equal(made.labels, split.noisy.labels)


# Refused rows: each message names the row, from 0


def test_an_id_that_the_run_does_not_have(split, refused):
    line = row(split, 1, id="nobody")
    message = (
        "row 1 (id 'nobody'): expected the id of a noisy sample of the run, found one that it does not have"
    )
    assert refused(row(split, 0), line) == message


@pytest.mark.parametrize("role", ["trusted", "test"])
def test_samples_of_other_sets_are_not_decided_on(role, split, refused):
    line = row(split, 0, id=getattr(split, role).ids[0])
    assert refused(line).endswith(
        f"expected the id of a noisy sample of the run, found one of its {role} samples"
    )


def test_unknown_words_and_classes(split, refused):
    assert "decision: expected accept, keep, other, skip, recheck, exclude, found 'Acc" in refused(
        row(split, 0, "Accept")
    )
    found = refused(row(split, 0, "other", "horse"))
    assert "label: expected one of the classes cat, cow, dog, found 'horse'" in found
    assert "label: expected one of the classes cat, cow, dog, found ''" in refused(row(split, 0, "other", ""))
    assert "label: expected none with skip, found 'cow'" in refused(row(split, 0, "skip", "cow"))


def test_a_label_that_is_not_what_the_word_means(split, refused):
    line = row(split, 0, "accept", "dog")
    assert "label: accept means the suggested_label, 'cow', found 'dog'" in refused(line)
    other = next(name for name in split.classes if name != given(split, 0))
    line = row(split, 0, "keep", other)
    assert f"label: keep means the given_label, {given(split, 0)!r}, found {other!r}" in refused(line)


def test_decisions_of_another_run(split, refused):
    other = next(name for name in split.classes if name != given(split, 0))
    line = row(split, 0, "skip", "", given_label=other)
    assert refused(line) == (
        f"row 0 (id {split.noisy.ids[0]!r}): given_label: the run has {given(split, 0)!r}, found {other!r}; "
        "the decisions belong to another run, or its data have changed"
    )


def test_one_sample_decided_on_twice(split, refused):
    found = refused(row(split, 0), row(split, 1), row(split, 0))
    assert found.startswith("FILE, 2 problems:")
    assert "row 0 " in found
    assert "row 2 (id 's" in found
    assert "occurs 2 times, expected one decision per sample" in found


def test_the_first_of_many_problems_are_listed(split, refused):
    found = refused(*(row(split, k, "perhaps") for k in range(40)))
    assert found.startswith("FILE, 40 problems:")
    assert len(found.splitlines()) == 12
    assert "row 9 " in found
    assert "row 10 " not in found
    assert found.endswith("and 30 more")


# Refused files


def test_separators_that_are_no_commas(split, refused):
    for separator, name in {";": "semicolons", "\t": "tabs"}.items():
        found = refused(header=HEADER.replace(",", separator))
        assert f"expected cells separated by commas, found {name}" in found
        assert "save it as CSV UTF-8" in found


def test_other_encodings(refused):
    assert "expected UTF-8, which byte 0 is not" in refused(header=HEADER, encoding="utf-16")
    assert "expected UTF-8, which byte 48 is not" in refused(
        "é", encoding="latin-1", header=HEADER + "  "[:2]
    )


@pytest.mark.parametrize("content", ["", " \n\n", "\ufeff"])
def test_an_empty_file(content, split, tmp_path):
    (tmp_path / "d.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="the file is empty; expected the columns id, decision, label"):
        read_decisions(tmp_path / "d.csv", split)


def test_no_file(split, tmp_path):
    with pytest.raises(InputError, match=r"d\.csv: cannot be read: No such file"):
        read_decisions(tmp_path / "d.csv", split)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_decisions(Path(tmp_path), split)


def test_missing_and_repeated_columns(refused):
    assert refused(header="id,decision,given_label") == (
        "no column 'label' or 'suggested_label'; found: id, decision, given_label"
    )
    assert refused(header=HEADER + ",label") == "columns occur more than once: label"


def test_rows_of_another_length(split, refused):
    assert refused(row(split, 0), row(split, 1) + ",x") == "row 1: expected 5 cells, found 6"
    assert refused(row(split, 0) + "\n" + 'a,b,"c') == "cannot be read as CSV: unexpected end of data"
