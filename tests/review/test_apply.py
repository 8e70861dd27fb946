"""Decisions applied: every kind of source, written and read again, and what becomes of the samples."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console

import sources
import tiny
from emlc import InputError, Run, train
from emlc.cli import main
from emlc.cli.arguments import settings_from
from emlc.cli.main import build_parsers
from emlc.config import Settings
from emlc.data import make_split
from emlc.data.images.stored import StoredImages
from emlc.review import apply_decisions
from emlc.review.apply import yaml_text
from emlc.review.decisions import COLUMNS
from emlc.review.store import Store, StoredDecision

QUIET = Console(file=io.StringIO())


def write_decisions(path: Path, run: Run, made: dict[str, tuple[str, str]], **columns: str) -> Path:
    """Decisions by id: a word, and the label settled on."""
    noisy = run.split().noisy
    given = dict(zip(noisy.ids, np.array(noisy.classes)[noisy.labels], strict=True))
    rows = [
        (i, word, label, given[i], label if word == "accept" else given[i])
        for i, (word, label) in made.items()
    ]
    pd.DataFrame(rows, columns=list(COLUMNS)).assign(**columns).to_csv(path, index=False)
    return path


def next_settings(folder: Path) -> Settings:
    return Settings(**yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8")))


def pixels(inputs):
    return inputs[torch.arange(len(inputs))]


def assert_same(before, now, *, truth=True):
    assert now.ids.tolist() == before.ids.tolist()
    assert now.classes == before.classes
    np.testing.assert_array_equal(now.labels, before.labels)
    assert now.inputs.dtype == before.inputs.dtype
    assert torch.equal(pixels(now.inputs), pixels(before.inputs))
    if truth:
        assert (now.true_labels is None) == (before.true_labels is None)
        if before.true_labels is not None:
            np.testing.assert_array_equal(now.true_labels, before.true_labels)


def renamed(before, now, role):
    """The ids, of which those that are no ids of their own may be called after their set."""
    prefix = "data-" if role == "trusted" else f"{role}-"
    return np.array(
        [f"{prefix}{a}" if b == f"{prefix}{a}" else a for a, b in zip(before, now, strict=True)], dtype=object
    )


def test_paths_may_be_texts(tmp_path, monkeypatch):
    run = sources.untrained_run(tmp_path, **sources.ALL[0](tmp_path))
    write_decisions(tmp_path / "decisions.csv", run, {run.split().noisy.ids[0]: ("exclude", "")})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    summary = apply_decisions(run, "decisions.csv", "new")
    assert summary["decisions"]["exclude"] == 1
    assert summary == json.loads(Path("new/review.json").read_text())
    assert apply_decisions(run, "~/decisions.csv") == summary
    assert (run.folder / "reviewed" / "train.yaml").is_file()


@pytest.mark.parametrize("source", sources.ALL, ids=lambda source: source.__name__)
def test_without_decisions_the_data_are_written_as_they_are(source, tmp_path):
    run = sources.untrained_run(tmp_path, **source(tmp_path))
    before = run.split()
    decisions = write_decisions(tmp_path / "decisions.csv", run, {before.noisy.ids[0]: ("skip", "")})
    apply_decisions(run, decisions, tmp_path / "new")
    settings = next_settings(tmp_path / "new")
    now, schema = make_split(settings, settings, settings.seed)
    assert schema.feature_columns == run.schema.feature_columns
    assert now.classes == before.classes
    assert isinstance(now.noisy.inputs, StoredImages) == isinstance(before.noisy.inputs, StoredImages)
    assert_same(before.noisy, now.noisy)
    for role in ("trusted", "validation", "test"):
        was, is_ = getattr(before, role), getattr(now, role)
        assert (was is None) == (is_ is None)
        if was is not None:
            assert_same(replace(was, ids=renamed(was.ids, is_.ids, role)), is_)


@pytest.mark.parametrize("source", sources.ALL, ids=lambda source: source.__name__)
def test_reviewed_samples_keep_their_given_label_and_how_they_were_chosen(source, tmp_path):
    run = sources.untrained_run(tmp_path, **source(tmp_path))
    before = run.split()
    ids, names, given = before.noisy.ids[:2], np.array(before.classes), before.noisy.given[:2]
    other = names[(given + 1) % len(names)]
    made = {ids[0]: ("other", other[0]), ids[1]: ("keep", names[given[1]])}
    decisions = write_decisions(tmp_path / "decisions.csv", run, made, chosen="worst")
    apply_decisions(run, decisions, tmp_path / "new")
    settings = next_settings(tmp_path / "new")
    now, _ = make_split(settings, settings, settings.seed)
    reviewed = now.trusted.given_before >= 0
    assert reviewed.tolist() == [False] * len(before.trusted) + [True] * 2
    np.testing.assert_array_equal(now.trusted.given_before[reviewed], given)
    assert now.trusted.chosen_for_review[reviewed].tolist() == ["worst"] * 2
    assert set(now.trusted.chosen_for_review[~reviewed]) == {""}
    counts = np.zeros((len(names), len(names)))
    counts[(given[0] + 1) % len(names), given[0]] += 1
    counts[given[1], given[1]] += 1
    np.testing.assert_array_equal(now.trusted.counts_before(), counts)
    assert (now.noisy.given_before < 0).all()


def test_texts_stay_texts(tmp_path, monkeypatch):
    """With line breaks, which take a parquet file; the model that embeds them is named in the settings."""
    pytest.importorskip("emlc.data.embeddings.texts")

    class Lengths:
        def encode(self, block, **_):
            return np.array([[len(text), text.count("o"), 1] for text in block], dtype=np.float32)

    monkeypatch.setattr("emlc.data.embeddings.texts.load_model", lambda folder, device: Lengths())
    texts = [f'{"good" * (k % 3)} film,\n"number" {k}' for k in range(40)]
    labels = np.array(["bad", "good"])[np.arange(40) % 2]
    table = pd.DataFrame({"review": texts, "label": labels, "checked": np.arange(40) < 8})
    table.to_csv(tmp_path / "d.csv", index=False)
    values = {"text_column": "review", "trusted_column": "checked", "embedding_cache": None}
    run = sources.untrained_run(tmp_path, data=str(tmp_path / "d.csv"), **values)
    decisions = write_decisions(tmp_path / "decisions.csv", run, {"9": ("other", "bad")})
    apply_decisions(run, decisions, tmp_path / "new")
    settings = next_settings(tmp_path / "new")
    now, _ = make_split(settings, settings, settings.seed)
    assert now.noisy.texts.to_pylist() == [texts[k] for k in range(8, 40) if k != 9]
    assert now.trusted.texts.to_pylist() == [*texts[:8], texts[9]]
    noisy = run.split().noisy
    assert_same(noisy.take(noisy.ids != "9"), now.noisy)


# What becomes of the samples


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run on a CSV file with ids, wrong labels, and known truth."""
    folder = tmp_path_factory.mktemp("review")
    settings = tiny.settings(
        **(sources.csv_features(folder) | {"trusted_per_class": None}), epochs=12, output=str(folder / "run")
    )
    return train(settings, console=QUIET)


def labels_by_id(samples):
    return dict(zip(samples.ids, np.array(samples.classes)[samples.labels], strict=True))


@pytest.fixture
def reviewed(run):
    """Five decisions: two accepted, one of them wrongly; one kept, one other, one skipped."""
    noisy = run.split().noisy
    truth = np.array(noisy.classes)[noisy.true_labels]
    given = np.array(noisy.classes)[noisy.labels]
    other = np.array(
        [next(c for c in noisy.classes if c not in (g, t)) for g, t in zip(given, truth, strict=True)]
    )
    wrong, right = np.flatnonzero(given != truth), np.flatnonzero(given == truth)
    return {
        noisy.ids[wrong[0]]: ("accept", truth[wrong[0]]),
        noisy.ids[right[0]]: ("accept", other[right[0]]),
        noisy.ids[right[1]]: ("keep", given[right[1]]),
        noisy.ids[wrong[1]]: ("other", truth[wrong[1]]),
        noisy.ids[wrong[2]]: ("skip", ""),
    }


def test_reviewed_samples_are_trusted_with_the_reviewers_label(run, reviewed, tmp_path):
    decisions = write_decisions(tmp_path / "decisions.csv", run, reviewed)
    summary = apply_decisions(run, decisions, tmp_path / "new")
    before = run.split()
    settings = next_settings(tmp_path / "new")
    now, _ = make_split(settings, settings, settings.seed)
    settled = {i: label for i, (word, label) in reviewed.items() if word != "skip"}
    assert labels_by_id(now.trusted) == labels_by_id(before.trusted) | settled
    kept = {i: label for i, label in labels_by_id(before.noisy).items() if i not in settled}
    assert labels_by_id(now.noisy) == kept
    assert now.noisy.true_labels is not None
    assert_same(before.test, now.test)
    n, m = len(before.noisy), len(before.trusted)
    assert summary == {
        "decisions": {"accept": 2, "keep": 1, "other": 1, "skip": 1, "recheck": 0, "exclude": 0},
        "not_at_random": 0,
        "labels_changed": 3,
        "with_known_truth": 4,
        "right": 3,
        "given_right": 2,
        "unreviewed": "keep",
        "noisy_before": n,
        "trusted_before": m,
        "copies_left_out": 0,
        "noisy_after": n - 4,
        "trusted_after": m + 4,
    }
    assert json.loads((tmp_path / "new/review.json").read_text()) == summary


def test_excluded_samples_are_left_out_and_others_stay(run, tmp_path, capsys):
    noisy = run.split().noisy
    words = {noisy.ids[0]: ("exclude", ""), noisy.ids[1]: ("recheck", "")}
    decisions = write_decisions(tmp_path / "decisions.csv", run, words)
    assert main(["apply", str(run.folder), str(decisions), "--output", str(tmp_path / "new")]) == 0
    assert "0 skipped; 1 excluded; 1 to be looked at again; 0 labels changed" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "new/data.csv")
    assert set(noisy.ids) - set(written["id"]) == {noisy.ids[0]}
    assert not written.set_index("id")["trusted"][noisy.ids[1]]


def test_the_database_of_a_review_is_applied_as_its_csv_is(run, reviewed, tmp_path, logged):
    noisy = run.split().noisy
    given = labels_by_id(noisy)
    store = Store(tmp_path / "review.sqlite")
    everyone = [(sample_id, *decision, "ann") for sample_id, decision in reviewed.items()]
    disputed = next(sample_id for sample_id in noisy.ids if sample_id not in reviewed)
    everyone += [(disputed, "keep", given[disputed], "ann"), (disputed, "exclude", "", "bob")]
    store.add(
        [
            StoredDecision(
                id=i, decision=word, label=label, reviewer=who, key=f"{i} {who}", time="",
                given_label=given[i], suggested_label=label,
            )
            for i, word, label, who in everyone
        ]
    )  # fmt: skip
    apply_decisions(run, store.path, tmp_path / "by database")
    store.close()
    words = reviewed | {disputed: ("recheck", "")}
    decisions = write_decisions(tmp_path / "decisions.csv", run, words)
    apply_decisions(run, decisions, tmp_path / "by csv")
    one, other = (pd.read_csv(tmp_path / name / "data.csv") for name in ("by database", "by csv"))
    pd.testing.assert_frame_equal(one, other)
    assert "reviewers disagree on 1 of 6 samples" in logged.text


def test_unreviewed_labels_may_be_corrected(run, reviewed, tmp_path):
    decisions = write_decisions(tmp_path / "decisions.csv", run, reviewed)
    apply_decisions(run, decisions, tmp_path / "new", unreviewed="correct")
    written = pd.read_csv(tmp_path / "new/data.csv").set_index("id")
    table = pd.read_csv(run.folder / "labels.csv").set_index("id")
    settled = [i for i, (word, _) in reviewed.items() if word != "skip"]
    expected = table.drop(index=settled)["corrected_label"]
    assert (expected != table["given_label"].drop(index=settled)).any()
    assert written[~written["trusted"]]["label"].to_dict() == expected.to_dict()
    assert "label_before_review" not in written  # it tells nothing of the noise in corrected labels


def test_unreviewed_issues_may_be_left_out(run, reviewed, tmp_path):
    decisions = write_decisions(tmp_path / "decisions.csv", run, reviewed)
    summary = apply_decisions(run, decisions, tmp_path / "new", unreviewed="drop")
    written = pd.read_csv(tmp_path / "new/data.csv").set_index("id")
    table = pd.read_csv(run.folder / "labels.csv").set_index("id")
    settled = [i for i, (word, _) in reviewed.items() if word != "skip"]
    left = table.drop(index=settled)
    left = left[~left["is_label_issue"]]
    assert 0 < len(left) < len(table) - len(settled)
    assert written[~written["trusted"]]["label"].to_dict() == left["given_label"].to_dict()
    assert summary["noisy_after"] == len(left)


def test_a_copy_of_a_reviewed_image_is_left_out(tmp_path, logged):
    """A run would refuse the same image as a noisy and as a trusted sample."""
    X = tiny.samples(60, image=True).inputs.numpy()
    X[20] = X[30]
    run = sources.untrained_run(tmp_path, **sources.npz(tmp_path, X) | {"test_fraction": None})
    decisions = write_decisions(tmp_path / "decisions.csv", run, {"20": ("other", "cat")})
    summary = apply_decisions(run, decisions, tmp_path / "new")
    settings = next_settings(tmp_path / "new")
    now, _ = make_split(settings, settings, settings.seed)
    assert summary["copies_left_out"] == 1
    assert set(run.split().noisy.ids) - set(now.noisy.ids) == {"20", "30"}
    assert "20" in now.trusted.ids
    assert "removed 1 noisy samples" in logged.text


def test_the_command_and_a_second_round(run, reviewed, tmp_path, capsys):
    decisions = write_decisions(tmp_path / "decisions.csv", run, reviewed, chosen="worst")
    assert main(["apply", str(run.folder), str(decisions), "--output", str(tmp_path / "a b")]) == 0
    out = capsys.readouterr().out
    assert "4 reviewed samples were not chosen at random" in out
    assert "2 accepted, 1 kept, 1 other, 1 skipped; 3 labels changed" in out
    assert "of 4 reviewed samples are known: 3 decisions are right, and 2 given labels were right" in out
    config = str(tmp_path / "a b/train.yaml")
    assert f"emlc train --config '{config}' --output" in out
    assert main(["train", "--config", config, "--output", str(tmp_path / "second")]) == 0
    second = Run.load(tmp_path / "second")
    assert second.schema.classes == run.schema.classes
    assert len(second.split().trusted) == len(run.split().trusted) + 4
    more = dict.fromkeys(second.split().noisy.ids[:3], ("other", "cow"))
    decisions = write_decisions(tmp_path / "more.csv", second, more)
    assert main(["apply", str(second.folder), str(decisions)]) == 0
    settings = next_settings(second.folder / "reviewed")
    third, _ = make_split(settings, settings, settings.seed)
    expected = labels_by_id(second.split().trusted) | dict.fromkeys(more, "cow")
    assert labels_by_id(third.trusted) == expected
    assert (third.trusted.given_before >= 0).sum() == 4 + 3  # of both rounds
    capsys.readouterr()
    again = ["train", str(tmp_path / "a b/data.csv"), "--trusted_column", "trusted", "--epochs", "1"]
    assert main([*again, "--width", "4", "--output", str(tmp_path / "by hand")]) == 0
    by_hand = Run.load(tmp_path / "by hand")  # no label among the features
    assert by_hand.schema.feature_columns == run.schema.feature_columns
    assert (by_hand.split().trusted.given_before >= 0).sum() == 4


def test_settings_for_hostile_classes_pass_the_command_line(tmp_path, capsys):
    """Texts that YAML, or its reader on the command line, takes for numbers and truth values."""
    names = [*sources.HOSTILE, "null", "0x1", "1_000", "~", "2020-01-01", "a: b", "- c", "0.5"]
    (tmp_path / "s.yaml").write_text(yaml_text(tiny.settings(data="digits", classes=names)), encoding="utf-8")
    parsers, argv = build_parsers()[1], ["--config", str(tmp_path / "s.yaml")]
    arguments = parsers["train"].parse_args(argv)
    arguments.argv = ["train", *argv]  # as main does
    assert settings_from(arguments, Settings).classes == names


# Refused


def test_a_folder_with_something_in_it_is_not_written_to(run, reviewed, tmp_path):
    decisions = write_decisions(tmp_path / "decisions.csv", run, reviewed)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"the folder .*new is not empty"):
        apply_decisions(run, decisions, tmp_path / "new")
    with pytest.raises(InputError, match=r"decisions\.csv is a file, expected a folder"):
        apply_decisions(run, decisions, decisions)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


def test_what_fails_half_way_leaves_nothing(run, reviewed, tmp_path, monkeypatch):
    def broken(*arguments):
        raise InputError("broken")

    monkeypatch.setattr("emlc.review.apply.yaml_text", broken)
    decisions = write_decisions(tmp_path / "decisions.csv", run, reviewed)
    with pytest.raises(InputError, match="broken"):
        apply_decisions(run, decisions, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.csv"]


def test_samples_from_python_are_not_kept(tmp_path):
    run = train(tiny.settings(output=str(tmp_path / "run"), epochs=1), tiny.samples(), console=QUIET)
    (tmp_path / "d.csv").write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(InputError, match="given from Python, which are not kept"):
        apply_decisions(run, tmp_path / "d.csv")
    assert not (run.folder / "reviewed").exists()


@pytest.mark.parametrize("left", [0, 1])
def test_as_few_samples_as_nothing_can_be_trained_on_are_not_left(run, tmp_path, monkeypatch, left):
    decisions = write_decisions(tmp_path / "decisions.csv", run, {run.split().noisy.ids[0]: ("skip", "")})
    corrected = run.correct_labels

    def all_issues(_, samples):
        return corrected(samples).assign(is_label_issue=np.arange(len(samples)) >= left)

    monkeypatch.setattr(Run, "correct_labels", all_issues)
    with pytest.raises(
        InputError, match=rf"unreviewed: drop leaves {left} of {len(run.split().noisy)} noisy samples"
    ):
        apply_decisions(run, decisions, tmp_path / "new", unreviewed="drop")
    assert not (tmp_path / "new").exists()


def test_everything_may_be_reviewed(run, tmp_path):
    before = run.split().noisy
    names = np.array(before.classes)[before.labels]
    made = {i: ("keep", name) for i, name in zip(before.ids, names, strict=True)}
    decisions = write_decisions(tmp_path / "decisions.csv", run, made)
    assert apply_decisions(run, decisions, tmp_path / "new", unreviewed="drop")["noisy_after"] == 0


def test_the_data_are_read_once_where_no_decision_is_stored(run, tmp_path, monkeypatch):
    decisions = write_decisions(tmp_path / "decisions.csv", run, {run.split().noisy.ids[0]: ("skip", "")})
    last, reads = Run.load(run.folder, which="last"), []
    split = Run.split
    monkeypatch.setattr(Run, "split", lambda self: reads.append(1) or split(self))
    apply_decisions(last, decisions, tmp_path / "new", unreviewed="correct")
    assert len(reads) == 1


@pytest.mark.parametrize("unreviewed", ["correct", "drop"])
def test_only_what_corrects_labels_can_correct_those_not_reviewed(unreviewed, tmp_path):
    run = sources.untrained_run(tmp_path, **sources.csv_features(tmp_path), method="cross-entropy")
    decisions = write_decisions(tmp_path / "decisions.csv", run, {})
    with pytest.raises(InputError, match="corrects no labels"):
        apply_decisions(run, decisions, tmp_path / "new", unreviewed=unreviewed)
    assert not (tmp_path / "new").exists()
