"""The database of a review, what several reviewers' decisions come to, and how far they agree."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from emlc.errors import InputError
from emlc.review.agreement import agreements
from emlc.review.outcomes import outcomes
from emlc.review.store import Store, StoredDecision, read_store


def decided(sample_id, label, reviewer="ann", decision=None, **changes):
    word = decision or ("keep" if label == "cat" else "other")
    values = {"given_label": "cat", "suggested_label": "dog", "time": "2026-01-01T00:00:00.000Z"} | changes
    values.setdefault("key", f"{sample_id} {label} {reviewer} {word}")
    return StoredDecision(id=sample_id, decision=word, label=label, reviewer=reviewer, **values)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "review.sqlite")
    yield opened
    opened.close()


def test_every_decision_is_a_row_and_the_latest_of_each_reviewer_counts(store):
    store.add([decided("1", "cat"), decided("2", "dog"), decided("1", "cow", "bob")])
    store.add([decided("1", "dog"), decided("2", "", decision="clear")])
    rows = sqlite3.connect(store.path).execute("SELECT id, label, reviewer FROM decisions").fetchall()
    expected = [("1", "cat", "ann"), ("2", "dog", "ann"), ("1", "cow", "bob"), ("1", "dog", "ann")]
    assert rows == [*expected, ("2", "", "ann")]
    assert [(d.number, d.id, d.label) for d in store.latest()] == [
        (3, "1", "cow"),
        (4, "1", "dog"),
        (5, "2", ""),
    ]
    assert [d.number for d in store.latest(after=4)] == [5]
    store.add([decided("1", "cow", key="resolving", resolves=True)])
    store.add([decided("1", "cow", "bob", key="seen", seen=True)])
    assert [d.number for d in store.latest(independent=True)] == [3, 4, 5]
    assert [(d.resolves, d.seen) for d in store.latest(after=5)] == [(True, False), (False, True)]


def test_a_database_without_the_column_of_what_was_seen_is_read_and_goes_on(tmp_path):
    path = tmp_path / "review.sqlite"
    first = Store(path)
    first.add([decided("1", "cat")])
    first.close()
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE decisions DROP COLUMN seen")
    database.close()
    before = path.read_bytes()
    assert [(d.id, d.seen) for d in read_store(path)] == [("1", False)]
    assert path.read_bytes() == before  # which reading has not changed
    again = Store(path)
    again.add([decided("2", "cat", seen=True)])
    assert [(d.id, d.seen) for d in again.latest()] == [("1", False), ("2", True)]
    again.close()
    assert [(d.id, d.seen) for d in read_store(path)] == [("1", False), ("2", True)]


def test_what_is_sent_twice_is_stored_once_and_an_action_is_stored_whole_or_not_at_all(store):
    store.add([decided("1", "cat"), decided("1", "cat")])
    store.add([decided("1", "cat")])
    assert len(store.latest()) == 1
    with pytest.raises(sqlite3.Error):
        store.add([decided("2", "cat"), replace(decided("3", "cat"), label=None)])
    assert [d.id for d in store.latest()] == ["1"]


def test_hostile_texts_come_back_as_they_are(store):
    text = "'); DROP TABLE decisions; --\x00\u202e</script>\n"
    store.add([decided(text, text, text, decision="other", suggested_label=text)])
    (found,) = read_store(store.path)
    assert (found.id, found.label, found.reviewer, found.suggested_label) == (text, text, text, text)


def test_how_a_sample_was_chosen_comes_out_with_what_counts(store):
    store.add([decided("1", "cat", shown='{"chosen": "worst"}')])
    store.add([decided("1", "dog", "bob", shown='{"chosen": "random"}', resolves=True)])
    store.add([decided("2", "cat", shown='{"quality": 0.5}'), decided("3", "cat", shown="[1]")])
    store.add([decided("4", "cat", shown="{")])
    rows = {outcome.last.id: outcome.row() for outcome in outcomes(store.latest())}
    assert {sample_id: row["chosen"] for sample_id, row in rows.items()} == {"1": "random"} | dict.fromkeys(
        "234", ""
    )


def test_a_killed_process_loses_nothing(tmp_path):
    script = f"""
import itertools, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_store import Store, decided
store = Store(Path({str(tmp_path / "review.sqlite")!r}))
for k in itertools.count():
    store.add([decided(str(k), "cat")])
    print(k, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 20:
            os.kill(process.pid, signal.SIGKILL)
            break
    said = max([20, *map(int, filter(str.strip, process.stdout.read().split("\n")))])
    process.wait()
    process.stdout.close()
    found = {int(d.id) for d in read_store(tmp_path / "review.sqlite")}
    assert found >= set(range(said + 1))
    Store(tmp_path / "review.sqlite").close()


@pytest.mark.parametrize("content", [b"id,decision\n", b"SQLite format 3\x00 and nothing more"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "review.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"review\.sqlite: .* database of a review"):
        Store(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "other.sqlite") as database:
        database.execute("CREATE TABLE decisions (id TEXT)")
    database.close()
    for use in (Store, read_store):
        with pytest.raises(InputError, match="another program's"):
            use(tmp_path / "other.sqlite")


def came_to(*decisions):
    numbered = [replace(decision, number=k + 1) for k, decision in enumerate(decisions)]
    (outcome,) = outcomes(numbered)
    row = outcome.row()
    return row["decision"], row["label"], row["reviewer"], outcome.disagree


def test_what_decisions_come_to():
    cat, dog = decided("1", "cat"), decided("1", "dog", "bob")
    excluded = decided("1", "", "cy", decision="exclude")
    skipped, again = (decided("1", "", "cy", decision=word) for word in ("skip", "recheck"))
    assert came_to(cat) == ("keep", "cat", "ann", False)
    assert came_to(cat, decided("1", "cat", "bob")) == ("keep", "cat", "ann; bob", False)
    assert came_to(cat, skipped) == ("keep", "cat", "ann; cy", False)
    assert came_to(again, cat) == ("keep", "cat", "ann; cy", False)
    assert came_to(skipped) == ("skip", "", "cy", False)
    assert came_to(cat, dog) == ("recheck", "", "ann; bob", True)
    assert came_to(cat, excluded) == ("recheck", "", "ann; cy", True)
    settled = replace(dog, resolves=True)
    assert came_to(cat, settled) == ("other", "dog", "ann; bob", False)
    assert came_to(settled, cat) == ("recheck", "", "ann; bob", True)  # somebody decided otherwise since
    agrees, differs = decided("1", "dog", "cy"), decided("1", "cow", "cy")
    assert came_to(cat, settled, agrees) == ("other", "dog", "ann; bob; cy", False)
    assert came_to(cat, settled, differs) == ("recheck", "", "ann; bob; cy", True)
    assert came_to(cat, differs, settled) == ("other", "dog", "ann; bob; cy", False)
    assert outcomes([decided("1", "", decision="clear")]) == []


def test_agreement_is_cohens_kappa_by_hand():
    """Cohen's kappa is (p_o - p_e) / (1 - p_e), of a table of counts that is easy to follow."""
    pairs = [("cat", "cat")] * 20 + [("cat", "dog")] * 5 + [("dog", "cat")] * 10 + [("dog", "dog")] * 15
    decisions = [
        decided(str(k), label, reviewer)
        for k, pair in enumerate(pairs)
        for label, reviewer in zip(pair, ("ann", "bob"), strict=True)
    ]
    decisions += [decided("alone", "cat"), decided("0", "cow", "cy", resolves=True)]
    decisions += [decided("0", "cow", "eve", seen=True)]
    decisions += [decided("0", "", "dan", decision="skip")]
    (found,) = agreements(decisions)
    assert (found.reviewers, found.samples, found.agree) == (("ann", "bob"), 50, 35)
    by_chance = (25 * 30 + 25 * 20) / 50**2
    assert found.kappa == pytest.approx((0.7 - by_chance) / (1 - by_chance)) == pytest.approx(0.4)
    assert found.by_class == {"cat": pytest.approx(0.4), "dog": pytest.approx(0.4)}


def test_agreement_on_one_label_alone_has_no_kappa():
    (found,) = agreements([decided("1", "cat"), decided("1", "cat", "bob")])
    assert (found.agree, found.kappa, found.by_class) == (1, None, {"cat": None})
