"""`emlc draw`: rows to check, drawn at random, and how the checked labels come back."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from emlc.cli import main
from emlc.cli.main import build_parsers, normalized
from emlc.config import DataSettings, NoiseSettings
from emlc.data import make_split
from emlc.labels import evidence
from emlc.runtime.files import read_json


@pytest.fixture
def here(tmp_path, monkeypatch):
    """data.csv: 300 rows, of which a tenth is called rare; no column of ids."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)).round(3), columns=["a", "b", "c"])
    frame["label"] = np.where(np.arange(300) % 10 == 0, "rare", "common")
    frame.to_csv("data.csv", index=False)
    return tmp_path


def table(folder="to_check"):
    return pd.read_csv(f"{folder}/to_check.csv", dtype=str, keep_default_na=False)


def gallery(folder="to_check"):
    page = Path(f"{folder}/to_check.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page)
    return json.loads(data)["gallery"]


def split_with(file):
    return make_split(DataSettings(data="data.csv", trusted=file), NoiseSettings(), 0)[0]


def test_rows_are_drawn_at_random_and_in_random_order(here, capsys):
    assert main(["draw", "data.csv", "-n", "100"]) == 0
    drawn = table()
    rows = drawn["id"].astype(int).to_numpy()
    assert len(set(rows)) == 100
    assert (np.diff(rows) < 0).any()
    assert abs((drawn["given_label"] == "rare").sum() - 10) < 3 * np.sqrt(100 * 0.1 * 0.9)  # not balanced
    assert (drawn["checked_label"] == "").all()
    source = pd.read_csv("data.csv")
    np.testing.assert_allclose(
        drawn[["a", "b", "c"]].astype(float), source.iloc[rows][["a", "b", "c"]], atol=1e-6
    )
    assert "next: emlc train data.csv --trusted to_check/to_check.csv" in capsys.readouterr().out
    assert main(["draw", "data.csv", "--number", "100", "--output", "again"]) == 0
    assert table("again").equals(drawn)
    assert main(["draw", "data.csv", "--number", "100", "--output", "other", "--seed", "1"]) == 0
    assert not table("other").equals(drawn)


def test_the_page_shows_the_same_samples_without_suggestions(here):
    assert main(["draw", "data.csv", "-n", "20"]) == 0
    shown = gallery()
    assert [record["id"] for record in shown["records"]] == table()["id"].tolist()
    assert not shown["suggests"]
    assert {record["suggested"] for record in shown["records"]} == {None}
    page = Path("to_check/to_check.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="https?:', page)


def test_checked_labels_are_trusted_and_the_other_rows_stay_noisy(here):
    assert main(["draw", "data.csv", "-n", "60"]) == 0
    checked = table()
    checked["checked_label"] = np.where(np.arange(60) < 50, checked["given_label"], "")
    checked.loc[0, "checked_label"] = "rare"
    checked.loc[1, "checked_label"] = "common"
    checked.to_csv("checked.csv", index=False)
    split = split_with("checked.csv")
    assert (len(split.trusted), len(split.noisy)) == (50, 250)
    names = dict(zip(split.trusted.ids, np.array(split.classes)[split.trusted.given], strict=True))
    assert names == dict(checked.loc[:49, ["id", "checked_label"]].to_numpy())
    before = dict(zip(split.trusted.ids, split.trusted.label_before_review, strict=True))
    assert before == dict(checked.loc[:49, ["id", "given_label"]].to_numpy())
    assert not set(split.trusted.ids) & set(split.noisy.ids)


def test_decisions_of_the_browser_are_read_as_well(here):
    frame = pd.DataFrame(
        {"id": ["0", "1", "2", "3"], "decision": ["keep", "other", "skip", "keep"]}
        | {"label": ["rare", "rare", "", "common"], "given_label": ["rare", "common", "common", "common"]}
        | {"suggested_label": ""}
    )
    frame.to_csv("decisions.csv", index=False)
    split = split_with("decisions.csv")
    names = np.array(split.classes)[split.trusted.given]
    assert dict(zip(split.trusted.ids, names, strict=True)) == {"0": "rare", "1": "rare", "3": "common"}


def test_a_second_draw_leaves_out_what_is_checked_and_takes_it_along(here, capsys):
    assert main(["draw", "data.csv", "-n", "200"]) == 0
    first = table()
    first["checked_label"] = np.where(np.arange(200) < 150, first["given_label"], "")
    first.loc[:20, "checked_label"] = "rare"
    first.to_csv("checked.csv", index=False)
    checked = first[:150].sort_values("id", ignore_index=True)
    again = ["draw", "data.csv", "--trusted", "checked.csv", "-n", "140", "--output", "more"]
    assert main(again) == 0
    assert "150 labels were checked before" in capsys.readouterr().out
    more = table("more")
    drawn, carried = more[:140], more[140:].sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(carried, checked)
    assert (drawn["checked_label"] == "").all()
    assert not set(drawn["id"]) & set(checked["id"])
    assert [record["id"] for record in gallery("more")["records"]] == drawn["id"].tolist()
    for file in ("more/to_check.csv", "more/checked_before.csv"):  # the page loads the second
        split = split_with(file)
        names = np.array(split.classes)[split.trusted.given]
        told = zip(split.trusted.ids, names, split.trusted.label_before_review, strict=True)
        assert set(told) == set(
            checked[["id", "checked_label", "given_label"]].itertuples(index=False, name=None)
        )
    assert main([*again[:5], "151", "--output", "too_many"]) == 2
    assert (
        "expected 1 to 150, the rows of data.csv that are in use and not trusted" in capsys.readouterr().err
    )
    assert main(["draw", "data.csv", "--trusted", "data.csv", "--output", "none"]) == 2
    assert "expected a table of checked labels" in capsys.readouterr().err


def test_the_next_command_reads_the_data_as_the_draw_did(here, capsys):
    frame = pd.read_csv("data.csv").assign(sure="no", key=np.arange(300) // 2)
    frame.loc[0, "sure"], frame.loc[9, "label"] = "yes", ""
    frame.rename(columns={"label": "the class"}).to_csv("d.csv", index=False, sep="|", encoding="utf-16")
    options = {
        "label_column": "the class",
        "trusted_column": "sure",
        "feature_columns": ["a", "c"],
        "classes": ["rare", "common"],
        "id_column": "key",
        "separator": "|",
        "encoding": "utf-16",
        "drop_unlabelled": True,
        "repeated_ids": "number",
        "merge_spellings": True,
        "background": None,
        "data_root": "a 'folder",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", _option(value))]
    assert main(["draw", "d.csv", "-n", "298", *given]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    words = shlex.split(line.removeprefix("next: emlc "))
    read = build_parsers("train")[0].parse_args(normalized(words))["train"]
    assert {name: read[name] for name in options} == options
    assert (read["data"], read["trusted"]) == ("d.csv", "to_check/to_check.csv")
    shown = Path("to_check/to_check.html").read_text(encoding="utf-8")
    assert "--repeated_ids number" in shown
    drawn = table()
    assert len(drawn) == 298
    assert not {"0", "4#2"} & set(drawn["id"])  # one is trusted, one has no label
    assert set(drawn["given_label"]) == {"common", "rare"}


def _option(value):
    return value if isinstance(value, str) else json.dumps(value)


def test_rows_that_the_data_mark_as_trusted_stay_so_beside_a_table_of_checked_labels(here):
    frame = pd.read_csv("data.csv")
    frame.assign(sure=frame.index < 12).to_csv("data.csv", index=False)
    pd.DataFrame([("3", "common", "rare"), ("50", "rare", "rare")]).set_axis(
        ["id", "given_label", "checked_label"], axis=1
    ).to_csv("checked.csv", index=False)
    settings = DataSettings(data="data.csv", trusted="checked.csv", trusted_column="sure")
    split, _ = make_split(settings, NoiseSettings(), 0)
    names = np.array(split.classes)[split.trusted.given]
    found = dict(zip(split.trusted.ids, names, strict=True))
    assert found == dict(zip(map(str, range(12)), frame["label"], strict=False)) | {"3": "rare", "50": "rare"}
    before = dict(zip(split.trusted.ids, split.trusted.label_before_review, strict=True))
    assert before == dict.fromkeys(map(str, range(12)), "") | {"3": "common", "50": "rare"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("7", "common", "")], "none of 1 rows has been checked"),
        ([("900", "common", "rare")], r"row 0 \(id '900'\): expected an id of the data"),
        ([("7", "common", "rare"), ("7", "common", "rare")], "the id occurs more than once"),
        (
            [("7", "rare", "rare")],
            "given_label: expected 'common', as in data.csv, found 'rare': the data, or the order",
        ),
        ([("7", "common", "odd")], "expected one of the classes common, rare, found 'odd'"),
    ],
)
def test_wrong_tables_are_refused(here, rows, message):
    pd.DataFrame(rows, columns=["id", "given_label", "checked_label"]).to_csv("checked.csv", index=False)
    with pytest.raises(ValueError, match=message):
        split_with("checked.csv")


def test_a_run_with_checked_labels_learns_the_power_of_its_noise_and_can_be_opened_again(
    here, monkeypatch, capsys
):
    seen = []
    monkeypatch.setattr(evidence, "power_of_noise", lambda T, checked: seen.append(checked) or 0.25)
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=300)
    given = np.where(rng.random(300) < 0.3, 1 - truth, truth)
    frame = pd.DataFrame({"a": 4 * truth + rng.normal(size=300), "label": np.array(["low", "high"])[given]})
    frame.to_csv("data.csv", index=False)
    assert main(["draw", "data.csv", "-n", "60"]) == 0
    checked = table()
    checked["checked_label"] = np.array(["low", "high"])[truth[checked["id"].astype(int)]]
    checked.to_csv("checked.csv", index=False)
    train = ["train", "data.csv", "--trusted", "checked.csv", "--epochs", "10", "--rivals", "false"]
    assert main([*train, "--output", "run"]) == 0
    (labels,) = seen
    wrong = labels.given != labels.labels
    assert (len(wrong), wrong.sum()) == (60, (checked["given_label"] != checked["checked_label"]).sum())
    assert read_json(Path("run/decision.json"))["transition_power"] == 0.25
    assert "given labels count less (power 0.25 of the noise)" in capsys.readouterr().out
    assert main(["correct", "run"]) == 0


def test_photographs_are_shown_small(here):
    Path("photos").mkdir()
    for k in range(4):
        Image.new("RGB", (300 + k, 200), (40 * k, 90, 90)).save(f"photos/{k}.jpg")
    pd.DataFrame({"image": [f"photos/{k}.jpg" for k in range(4)], "label": list("aabb")}).to_csv(
        "p.csv", index=False
    )
    assert main(["draw", "p.csv", "-n", "3"]) == 0
    assert all(record["content"].startswith("data:image/jpeg;base64,") for record in gallery()["records"])
    assert table()["image"].map(lambda path: Path(path).is_file()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoding", "nonsense"], "encoding: expected the name of an encoding"),
        (["--encoding", "hex"], "encoding: expected the name of an encoding"),
        (["--separator", "ab"], "separator: expected one character"),
        (["--seed", "-1"], "seed: expected 0 or more, got -1"),
        (["--classes", '["common","common"]'], "classes: expected at least one name, and no name twice"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_read(here, options, message, capsys):
    assert main(["draw", "data.csv", *options]) == 2
    assert message in capsys.readouterr().err
    assert not Path("to_check").exists()


def test_nothing_is_drawn_into_the_folder_of_the_images(tmp_path, monkeypatch, capsys):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    monkeypatch.chdir(tmp_path)
    assert main(["draw", ".", "-n", "1"]) == 2
    assert "output: to_check lies in the folder of data" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat", "dog"]


def test_a_carriage_return_in_a_text_ends_no_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": str(k), "note": f"a\rb {k % 3}", "x": k, "label": "ab"[k % 2]} for k in range(20)]
    pd.DataFrame(rows).to_parquet("data.parquet")
    assert main(["draw", "data.parquet", "-n", "10", "--id_column", "id"]) == 0
    with Path("to_check/to_check.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 10
    assert all(line["note"] == f"a\rb {int(line['id']) % 3}" for line in lines)
    assert main(["train", "data.parquet", "--id_column", "id", "--trusted", "to_check/to_check.csv"]) == 2
    assert "checked_label" in capsys.readouterr().err  # it is read, but nothing is filled in


def test_more_rows_than_there_are_cannot_be_drawn(here, capsys):
    assert main(["draw", "data.csv", "-n", "301"]) == 2
    assert "number: expected 1 to 300" in capsys.readouterr().err
    assert not Path("to_check").exists()


@pytest.mark.parametrize("option", [[], ["--trusted_per_class", "2"]])
def test_who_has_no_trusted_samples_is_told_how_to_get_some(here, option, capsys):
    assert main(["train", "data.csv", *option]) == 2
    error = capsys.readouterr().err
    assert "emlc draw data.csv --number 200 --output to_check" in error
    assert "--trusted_column" in error


def test_texts_that_spreadsheets_take_for_formulas_are_kept_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1", "@sum", "-x", "plain"] * 5
    rows = [f"{name}{k},{k}.5,{name}" for k, name in enumerate(names)]
    Path("data.csv").write_text("\n".join(["id,a,label", *rows]) + "\n")
    assert main(["draw", "data.csv", "--number", "20", "--output", "out"]) == 0
    assert "30 texts begin with = + - or @" in capsys.readouterr().err
    written = {tuple(line.split(",")[:2]) for line in Path("out/to_check.csv").read_text().splitlines()[1:]}
    assert written == {(f"{name}{k}", name) for k, name in enumerate(names)}


def test_columns_of_every_kind_are_drawn_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colour, day = ("red", "blue", ""), "2026-01-{:02d}".format
    rows = [f"r{i},{colour[i % 3]},{i / 7},{day(i % 28 + 1)},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "data.csv").write_text("\n".join(["id,colour,size,day,label", *rows]), encoding="utf-8")
    assert main(["draw", "data.csv", "-n", "20"]) == 0
    drawn = table()
    colours = {row.split(",")[0]: row.split(",")[1] for row in rows}
    assert drawn["colour"].tolist() == [colours[name] for name in drawn["id"]]
    assert len(gallery()) > 0
