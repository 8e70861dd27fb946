"""The report in a real browser, headless: review by keyboard, decisions in and out, nothing fetched.

Plotly takes a browser a second or more: tests of the review have a page without it.
"""

import csv
import io
import json
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from browsing import NEEDS_CHROMIUM, STATUS, WIDTHS, Opened, axe_violations, started_browser, window
from emlc.cli import main
from emlc.report import collect, render
from emlc.report.thumbnails import data_uri
from hostile import HOSTILE_CLASSES, HOSTILE_IDS

pytestmark = NEEDS_CHROMIUM

HEADER = ["id", "decision", "label", "given_label", "suggested_label"]


@pytest.fixture(scope="module")
def browser():
    with started_browser() as browser:
        yield browser


# Figures without a drawing can still be clicked.
NO_PLOTLY = """window.Plotly = { react(holder) {
  holder.on = (event, act) => { holder.click = act; };
  holder.classList.add("drawn");
} };"""
CLICK = "([figure, point]) => document.querySelector(`[data-figure=${figure}]`).click({ points: [point] })"


@pytest.fixture(scope="module")
def whole_file(hostile_page, tmp_path_factory):
    """The report as it is."""
    return written(hostile_page, tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def without_plotly(whole_file):  # which is rendered first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emlc.report.rendering.get_plotlyjs", lambda: NO_PLOTLY)
        yield


@pytest.fixture(scope="module")
def review_file(without_plotly, hostile_facts, tmp_path_factory):
    """The report without figures."""
    return written(render(hostile_facts), tmp_path_factory.mktemp("pages"))


def written(page, folder):
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, review_file):
    with window(browser, review_file) as opened:
        yield opened


@pytest.fixture
def whole(browser, whole_file):
    with window(browser, whole_file) as opened:
        yield opened


def named(opened, record, field):
    index = record[field]
    return opened.data["classes"][index]


def test_names_that_mean_harm_are_shown_and_nothing_runs(whole):
    whole.draw_all()
    for name in HOSTILE_CLASSES:
        assert name in whole.text("#labels")
    assert whole.page.evaluate("document.querySelectorAll('img, script').length") == 3
    ticks = whole.page.eval_on_selector_all(
        "#figure-corrected .ytick text", "texts => texts.map((text) => text.textContent)"
    )
    classes = sorted(HOSTILE_CLASSES)
    assert [tick.rstrip("…") for tick in ticks] == [name[:21] if len(name) > 22 else name for name in classes]
    links = whole.page.eval_on_selector_all(
        ".plot svg :is(a, image)",
        "found => found.map((one) => one.href?.baseVal ?? one.getAttribute('href'))",
    )
    assert all(link.startswith("data:image/png") for link in links)  # what heat maps are drawn with
    whole.page.fill("[name=search]", "bold")
    assert whole.text(".card h3") == "<b>bold</b><!--"


def test_a_review_by_keyboard_survives_a_reload_and_leaves_as_csv(opened):
    expected = {}
    opened.page.focus("#start")
    opened.press("Enter")
    for key, decision, field in (("a", "accept", "suggested"), ("k", "keep", "given"), ("s", "skip", None)):
        record = opened.current()
        opened.press(key)
        label = "" if field is None else named(opened, record, field)
        expected[record["id"]] = [decision, label]
    record = opened.current()
    third = next(c for c in range(3) if c not in (record["given"], record["suggested"]))
    opened.press("o")
    opened.page.keyboard.type(opened.data["classes"][third][:4])
    opened.press("Enter")
    expected[record["id"]] = ["other", opened.data["classes"][third]]
    record = opened.current()
    opened.press("a", "u")  # and undone
    assert opened.current() == record
    assert "3 of 60 decided, 1 skipped or to be looked at again" in opened.text("#progress-text")
    assert "undone" in opened.text("#status")
    again = opened.open()
    assert "3 of 60 decided, 1 skipped or to be looked at again" in again.inner_text("#progress-text")
    header, *rows = opened.download()
    assert header == [*HEADER, "chosen"]
    assert {key: [decision, label] for key, decision, label, *_ in rows} == expected
    assert {row[5] for row in rows} == {"worst"}
    records = {record["id"]: record for record in opened.records}
    for key, _, _, given, suggested, _ in rows:
        assert given == named(opened, records[key], "given")
        assert suggested == named(opened, records[key], "suggested")


def test_every_id_and_class_survives_the_csv(opened):
    opened.page.click("#start")
    for _ in range(60):
        opened.press("a")
        if "no suggestion to accept" in opened.text("#status"):
            opened.press("k")
    assert "60 of 60 decided" in opened.text("#progress-text")
    assert "All that match are decided" in opened.text("#status")
    _, *rows = opened.download()
    shown = {record["id"]: record for record in opened.records}
    assert {row[0] for row in rows} == shown.keys()
    assert len(shown.keys() & set(HOSTILE_IDS)) > 3
    assert {row[2] for row in rows} <= set(HOSTILE_CLASSES)
    assert {row[1] for row in rows} == {"accept", "keep"}
    for row in rows:
        label = {"accept": "suggested", "keep": "given"}[row[1]]
        assert row[2] == named(opened, shown[row[0]], label)
        assert row[4] == ("" if row[1] == "keep" else row[2])


def test_decisions_are_loaded_again(opened):
    first, second, third = (record for record in opened.records[:3])
    classes = opened.data["classes"]
    given, suggested = classes[first["given"]], classes[first["suggested"]]
    rows = [
        [first["id"], "accept", suggested, given, suggested],
        [second["id"], "skip", "", classes[second["given"]], "whatever"],
        [third["id"], "keep", "another", "another", suggested],  # of data that have changed since
        ["elsewhere", "keep", given, given, suggested],  # of a larger gallery
    ]
    rows[2][2:4] = [classes[(third["given"] + 1) % 3]] * 2
    opened.load([HEADER, *rows])
    assert "3 decisions loaded from decisions.csv. 1 left out" in opened.text("#status")
    assert "1 of 60 decided, 1 skipped or to be looked at again, and 1 not shown here" in opened.text(
        "#progress-text"
    )
    assert opened.download()[1:] == [[*row, ""] for row in (rows[0], rows[1], rows[3])]
    loaded = opened.download()
    opened.load([[*HEADER, "chosen"], [*rows[0], "random"]])
    assert "1 took the place of decisions made before" in opened.text("#status")
    assert [*rows[0], "random"] in opened.download()
    opened.page.click("#undo")
    assert opened.download() == loaded
    opened.page.click("#undo")
    assert "0 of 60 decided" in opened.text("#progress-text")
    opened.load([[*HEADER[::-1], "time"], [*rows[0][::-1], "now"]])  # in another order
    assert opened.download()[1:] == [[*rows[0], ""]]
    opened.load_text("\ufeff" + "\n".join(",".join(row) for row in [HEADER, ["x", "skip", "", "", ""]]))
    assert "1 decisions loaded" in opened.text("#status")


def test_files_that_are_no_decisions(opened):
    header = ",".join(HEADER)
    for text, message in (
        ("", "found nothing"),
        ("id,label\n1,2\n", "found id, label"),
        (f'{header}\n"x', "begins in line 2 has no end"),
        (f"{header},label\n", "columns occur more than once: label"),
        (f"{header}\nx,maybe,a,b,c", "row 1: decision: expected accept"),
        (f"{header}\nx,keep", "row 1: expected 5 cells, found 2"),
        (f"{header}\nx,other,none such,b,c", "row 1: label: expected a class"),
        (f"{header}\nx,skip,__proto__,b,c", "row 1: label: expected nothing"),
        (f"{header}\nx,keep,__proto__,b,c", "keep means the label b"),
        (f"{header},chosen\nx,keep,b,b,c,best", "chosen: expected worst, random, picked or nothing"),
    ):
        opened.load_text(text)
        assert opened.text("#status").startswith("decisions.csv was not loaded: ")
        assert message in opened.text("#status")
        assert "0 of 60 decided" in opened.text("#progress-text")


def test_filters_sorting_and_search(opened):
    page, records = opened.page, opened.records

    def shown():
        return page.eval_on_selector_all(".card h3", "found => found.map((h3) => h3.title)")

    def matching(text):
        return int(text.split("·")[1].split()[0])

    issue = next(record for record in records if record["issue"])
    page.select_option("[name=given]", str(issue["given"]))
    expected = [record for record in records if record["given"] == issue["given"]]
    assert matching(opened.text("#pages-top")) == len(expected) > 0
    page.select_option("[name=suggested]", str(issue["suggested"]))
    page.select_option("[name=kind]", "issue")
    expected = [r for r in expected if r["suggested"] == issue["suggested"] and r["issue"]]
    assert matching(opened.text("#pages-top")) == len(expected) > 0
    page.click("text=Clear")
    page.wait_for_function("document.querySelectorAll('.card').length === 24")
    page.select_option("[name=sort]", "retain")
    page.select_option("[name=order]", "down")
    by_retain = sorted(records, key=lambda record: -record["retain"])
    assert shown() == [record["id"] for record in by_retain[:24]]
    page.select_option("[name=sort]", "pair")
    page.select_option("[name=order]", "up")
    pairs = Counter((r["given"], r["suggested"]) for r in records if r["suggested"] is not None)
    first = [next(r for r in records if r["id"] == shown_id) for shown_id in shown()[: max(pairs.values())]]
    assert {pairs[r["given"], r["suggested"]] for r in first} == {max(pairs.values())}
    page.fill("[name=search]", "no such id")
    assert page.is_visible("#nothing")
    page.click("#clear-filters")
    page.wait_for_function("document.querySelectorAll('.card').length === 24")
    page.click("#start")
    opened.press("a")
    page.select_option("[name=decision]", "decided")
    assert len(shown()) == 1
    page.select_option("[name=kind]", "uncertain")
    page.select_option("[name=decision]", "undecided")
    assert shown() == [record["id"] for record in records if record["uncertain"]]


def test_a_random_order_is_shown_and_kept_with_the_decisions(opened):
    page = opened.page
    drawn = sorted((r for r in opened.records if r["place"] is not None), key=lambda record: record["place"])
    assert 0 < len(drawn) < len(opened.records)
    assert page.is_visible("#queue-worst")
    assert page.is_hidden("#queue-random")
    page.select_option("[name=queue]", "random")
    assert page.is_visible("#queue-random")
    assert page.is_disabled("[name=sort]")
    shown = page.eval_on_selector_all(".card h3", "found => found.map((h3) => h3.title)")
    assert shown == [record["id"] for record in drawn]
    page.click("#start")
    opened.press("k", "s")
    page.select_option("[name=given]", str(drawn[2]["given"]))
    page.click("#start")
    opened.press("k")  # chosen by a filter
    page.click("#clear")
    assert page.input_value("[name=queue]") == "random"  # the order stays
    page.click("#start")
    opened.press("End", "x", "k")  # chosen by hand
    page.select_option("[name=queue]", "worst")
    rows = {row[0]: row[5] for row in opened.download()[1:]}
    assert [rows[record["id"]] for record in drawn[:2]] == ["random"] * 2
    assert sorted(rows.values()) == ["picked", "picked", "random", "random"]


def test_undo_finds_a_sample_that_is_not_in_the_random_order(opened):
    record = next(r for r in opened.records if r["place"] is None)
    opened.page.fill("[name=search]", f'"{record["id"]}"')
    opened.page.click("#start")
    opened.press("k")
    opened.page.click("#clear")
    opened.page.select_option("[name=queue]", "random")
    opened.page.click("#undo")
    assert opened.current() == record
    assert opened.page.input_value("[name=queue]") == "worst"


def test_a_class_called_by_a_digit_is_chosen_by_it(browser, hostile_page, tmp_path):
    data = re.search(r'id="report-data">(.*?)</script>', hostile_page, re.DOTALL)[1]
    named = json.dumps(json.loads(data) | {"classes": ["7", "3", "5"]})
    with window(browser, written(hostile_page.replace(data, named), tmp_path)) as opened:
        first = min(opened.records, key=lambda record: record["quality"])
        opened.page.click("#start")
        opened.press("1")
        assert "The key 1 stands for no class." in opened.text("#status")
        opened.press("735"[first["given"]])
        assert f"kept: {'735'[first['given']]}" in opened.text("#status")


def test_keys_move_through_all_pages(opened):
    ids = [record["id"] for record in sorted(opened.records, key=lambda record: record["quality"])]
    opened.page.click("#start")
    for keys, at in (
        (["ArrowRight"], 1), (["ArrowRight"], 2), (["ArrowLeft", "ArrowLeft"], 0), (["ArrowLeft"], 0),
        (["End"], 59),
        (["Home"], 0), (["PageDown"], 24), (["ArrowLeft"], 23), (["PageUp"], 0), (["ArrowDown"], 3),
        (["ArrowUp"], 0),
    ):  # fmt: skip
        opened.press(*keys)
        assert opened.current()["id"] == ids[at], keys
    opened.press("/")
    assert opened.page.evaluate("document.activeElement.name") == "search"
    opened.page.keyboard.type("s")  # a letter in a field is no decision
    opened.press("Enter")
    assert opened.current()["id"].startswith("s")
    opened.press("Shift+?")
    assert opened.page.is_visible("#help")
    opened.press("Escape", "o")
    assert opened.page.is_visible("#other")
    opened.press("Escape")
    assert opened.current()["id"].startswith("s")
    opened.press("a", "ArrowLeft", "c")
    assert "cleared" in opened.text("#status")
    assert "0 of 60 decided" in opened.text("#progress-text")


def test_a_cell_or_a_pair_leads_to_its_samples(whole):
    whole.draw_all()
    counts = np.array(whole.data["figures"]["corrected"]["matrix"]["counts"])
    np.fill_diagonal(counts, 0)
    given, corrected = np.unravel_index(counts.argmax(), counts.shape)
    holder = whole.page.query_selector("[data-figure=corrected]")
    holder.scroll_into_view_if_needed()
    box = whole.page.query_selector("#figure-corrected .nsewdrag").bounding_box()
    x, y = ((k + 0.5) / 3 for k in (corrected, given))
    whole.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    whole.page.wait_for_selector("#figure-corrected .hovertext")
    assert "samples," in whole.page.text_content("#figure-corrected .hovertext")
    whole.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    whole.page.wait_for_function(f"{STATUS} !== ''")
    values = whole.page.evaluate("Object.fromEntries(new FormData(document.getElementById('filters')))")
    assert (values["given"], values["suggested"], values["kind"]) == (str(given), str(corrected), "issue")
    assert whole.current()["given"] == given
    whole.page.click("#filters button")
    whole.page.focus("button.pair")
    whole.press("Enter")
    assert whole.current()["suggested"] == corrected


@contextmanager
def clicked(opened, figure):
    """How to click on points of a figure."""
    opened.page.locator(f"[data-figure={figure}]").scroll_into_view_if_needed()
    opened.page.wait_for_selector(f"[data-figure={figure}].drawn", state="attached")
    yield lambda point: opened.page.evaluate(CLICK, [figure, point])


def test_a_point_of_the_map_leads_to_its_sample_and_no_other(
    browser, hostile_facts, without_plotly, tmp_path
):
    names = ["5", "15", "50", '"5"', "line\nbreak", "line\nbreaks", "S", "s", " 5"]
    gallery = hostile_facts.gallery
    records = [record | {"id": name} for name, record in zip(names, gallery.records, strict=False)]
    gallery = replace(gallery, records=[*records, *gallery.records[len(names) :]])
    page = render(replace(hostile_facts, gallery=gallery))
    with window(browser, written(page, tmp_path)) as opened, clicked(opened, "map") as click:
        for k, name in enumerate(names):
            click({"customdata": k})
            assert opened.current()["id"] == name
            assert len(opened.page.query_selector_all(".card")) == 1


def test_every_cell_leads_to_as_many_samples_as_it_has_in_the_gallery(opened, hostile_run):
    table = pd.read_csv(hostile_run.folder / "labels.csv", dtype=str, keep_default_na=False)
    table = table[table["id"].isin([record["id"] for record in opened.records])]
    assert len(table) == 60
    given, corrected = (
        table[f"{name}_label"].map(opened.data["classes"].index) for name in ("given", "corrected")
    )
    with clicked(opened, "corrected") as click:
        for row, column in np.ndindex(3, 3):
            click({"x": column, "y": row})
            expected = ((given == row) & (corrected == column)).sum()
            assert opened.text("#status") == f"{expected} samples match."
    buttons = opened.page.query_selector_all("button.pair")
    assert buttons
    for button in buttons:
        pair = (int(button.get_attribute(f"data-{name}")) for name in ("given", "suggested"))
        expected = ((given == next(pair)) & (corrected == next(pair))).sum()
        button.click()
        assert opened.text("#status") == f"{expected} samples match."


def test_two_windows_of_one_report_agree(opened):
    other = opened.open()
    opened.page.click("#start")
    opened.press("a")
    other.wait_for_function("document.getElementById('progress').value === 1")
    assert other.inner_text("#progress-text").startswith("1 of 60")


def test_where_nothing_may_be_stored_the_review_works_and_says_so(browser, review_file):
    opened = Opened(browser, "about:blank")
    opened.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } })"
    )
    opened.page.goto(review_file)
    assert opened.page.is_visible("#storage-note")
    opened.page.click("#start")
    opened.press("a", "k")
    assert "2 of 60 decided" in opened.text("#progress-text")
    assert len(opened.download()) == 3
    assert opened.problems == []
    opened.context.close()


def test_storage_that_holds_something_else_is_no_obstacle(opened):
    opened.page.evaluate(
        "([id]) => localStorage.setItem(`emlc-decisions-${id}`, '{\"a\": 1}')", [opened.data["identity"]]
    )
    opened.page.reload()
    assert "0 of 60 decided" in opened.text("#progress-text")


def test_decisions_on_labels_that_have_changed_are_dropped(opened):
    one, other = opened.records[:2]
    given = named(opened, one, "given")
    rows = [[one["id"], "keep", given, given, ""], [other["id"], "keep", "old", "old", ""]]
    kept = [*rows, ["not shown here", "keep", "old", "old", ""]]
    opened.page.evaluate(
        "([id, rows]) => localStorage.setItem(`emlc-decisions-${id}`, JSON.stringify(rows))",
        [opened.data["identity"], kept],
    )
    opened.page.reload()
    assert "1 of 60 decided, and 1 not shown here" in opened.text("#progress-text")


def test_small_pictures_are_scaled_up_crisply(browser, image_facts, tmp_path, without_plotly):
    gallery = image_facts.gallery
    pixel = data_uri(Image.new("L", (1, 1)))
    records = [gallery.records[0], gallery.records[1] | {"content": pixel}]
    page = render(replace(image_facts, gallery=replace(gallery, records=records)))
    with window(browser, written(page, tmp_path)) as opened:
        opened.page.wait_for_function("document.querySelectorAll('.card img').length === 2")
        opened.page.wait_for_function(
            "[...document.images].every((image) => image.complete && image.naturalWidth)"
        )
        shown = opened.page.eval_on_selector_all(
            ".card img",
            "found => found.map((i) => [i.naturalWidth, getComputedStyle(i).imageRendering, i.alt])",
        )
    expected = [[80, "auto"], [1, "pixelated"]]
    assert shown == [[*how, f"sample {r['id']}"] for how, r in zip(expected, records, strict=True)]


@pytest.mark.parametrize("fixture", ["array_run", "plain_run"])
def test_reports_with_parts_missing_have_no_errors(browser, request, tmp_path, without_plotly, fixture):
    facts = collect(request.getfixturevalue(fixture), map_samples=20)
    with window(browser, written(render(facts), tmp_path)) as opened:
        assert opened.page.evaluate("typeof Plotly") == "object"  # the scripts before it ran to their end
        if facts.gallery is not None:
            opened.page.click("#start")
            opened.press("k")
            assert "1 of 75 decided" in opened.text("#progress-text")


def test_five_thousand_samples(browser, hostile_facts, tmp_path, without_plotly):
    first = hostile_facts.gallery
    records = [
        first.records[k % 60] | {"id": f"sample {k}", "given": k % 3, "suggested": (k + 1) % 3}
        for k in range(5000)
    ]
    page = render(replace(hostile_facts, gallery=replace(first, records=records), points=None))
    with window(browser, written(page, tmp_path)) as opened:
        assert opened.page.eval_on_selector_all("#cards *", "found => found.length") < 2500
        took = opened.page.evaluate(
            """() => {
                const start = performance.now();
                document.querySelector("[name=search]").value = "sample 49";
                document.querySelector("[name=search]").dispatchEvent(new Event("input", { bubbles: true }));
                document.querySelector("#cards").offsetHeight;
                return performance.now() - start;
            }"""
        )
        assert took < 1000
        assert "111 of 5,000 samples match" in opened.text("#pages-top")
        opened.page.click("#start")
        opened.press("a")
        assert "1 of 5,000 decided" in opened.text("#progress-text")


# Themes, widths and access for all

AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser, whole_file, scheme):
    """With the figures drawn, a card decided, some contents that scroll, and all unfolded that folds."""
    with window(browser, whole_file, color_scheme=scheme, bypass_csp=True) as opened:
        opened.page.add_style_tag(content=".values-list { max-height: 2rem; }")
        opened.page.click("#start")
        opened.press("a")
        opened.page.fill("[name=search]", "s1")  # a few cards: each takes its time
        opened.page.eval_on_selector_all("details", "found => found.forEach((one) => { one.open = true; })")
        opened.draw_all()
        for width in WIDTHS:
            opened.page.set_viewport_size({"width": width, "height": 900})
            assert axe_violations(opened.page) == []
        opened.page.focus(".card[tabindex='0']")
        opened.press("Shift+?")
        assert opened.page.is_visible("#help")
        assert axe_violations(opened.page) == []
        opened.press("Escape")
        opened.page.fill("[name=search]", "no such id")
        assert axe_violations(opened.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_contrast_and_width(browser, review_file, scheme):
    with window(browser, review_file, color_scheme=scheme, bypass_csp=True) as opened:
        assert opened.page.get_attribute("html", "data-theme") == scheme
        opened.page.click("#start")
        opened.press("a")
        opened.page.eval_on_selector_all("details", "found => found.forEach((one) => { one.open = true; })")
        for width in (400, 1280):
            opened.page.set_viewport_size({"width": width, "height": 900})
            texts, problems = opened.page.evaluate(AUDIT)
            assert texts > 300
            assert problems == []
        opened.press("Shift+?")
        assert opened.page.evaluate(AUDIT)[1] == []
        opened.press("Escape", "o")
        assert opened.page.evaluate(AUDIT)[1] == []


def test_the_audit_finds_what_is_wrong(opened):
    opened.page.evaluate(
        """() => {
            document.querySelector(".lead").style.color = "#888";
            document.querySelector(".top button").textContent = "";
            document.querySelector("caption").remove();
            document.querySelector("main").style.minWidth = "3000px";
        }"""
    )
    problems = "; ".join(opened.page.evaluate(AUDIT)[1])
    for found in ("contrast 3.", "no name: <button", "no caption: <table", "wider than the window"):
        assert found in problems


def test_the_theme_can_be_chosen_and_figures_follow(whole):
    # A figure is drawn when it is near; what is above it may still be growing.
    whole.page.wait_for_function(
        """() => {
            const plot = document.querySelector("[data-figure=corrected]");
            plot.scrollIntoView();
            return plot.querySelector(".main-svg");
        }"""
    )
    ink = "getComputedStyle(document.querySelector('#figure-corrected .xtick text')).fill"
    light = whole.page.evaluate(ink)
    whole.page.click("#theme")
    whole.page.wait_for_function(f"{ink} !== '{light}'")
    whole.page.reload()
    assert whole.page.get_attribute("html", "data-theme") == "dark"
    whole.page.click("#theme")
    assert whole.page.get_attribute("html", "data-theme") == "light"


def test_what_is_decided_in_the_browser_is_trained_on(opened, hostile_run, tmp_path):
    opened.page.click("#start")
    opened.press(*"aksakksa")
    with opened.page.expect_download() as found:
        opened.page.click("#download")
    found.value.save_as(tmp_path / "decisions.csv")
    reviewed, run = str(tmp_path / "reviewed"), str(tmp_path / "run")
    decisions = pd.read_csv(tmp_path / "decisions.csv", dtype=str, keep_default_na=False)
    settled = decisions[decisions["decision"] != "skip"].set_index("id")["label"]
    assert len(settled) == 6
    assert (
        main(["apply", str(hostile_run.folder), str(tmp_path / "decisions.csv"), "--output", reviewed]) == 0
    )
    assert main(["train", "--config", f"{reviewed}/train.yaml", "--output", run, "--epochs", "1"]) == 0
    split = pd.read_csv(tmp_path / "run" / "split.csv", dtype=str, keep_default_na=False).set_index("id")
    assert (split.loc[settled.index, "role"] == "trusted").all()
    assert (split.loc[settled.index, "given_label"] == settled).all()
    assert (split["role"] == "trusted").sum() == 15 + 6


def test_labels_to_check_are_decided_on_without_suggestions(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"a": range(6), "b": range(6), "label": ["cat", "dog"] * 3})
    frame.to_csv("data.csv", index=False)
    assert main(["draw", "data.csv", "-n", "4"]) == 0
    opened = Opened(browser, (tmp_path / "to_check/to_check.html").as_uri())
    opened.page.click("#start")
    opened.press("a", "k", "s")  # there is nothing to accept
    with opened.page.expect_download() as download:
        opened.page.click("#download")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [(row["id"], row["decision"]) for row in rows] == [
        (opened.records[0]["id"], "keep"),
        (opened.records[1]["id"], "skip"),
    ]
    assert opened.page.locator("[data-kind=accept]").count() == 0
    first = opened.data["identity"]
    frame.assign(label=["dog", "cat"] * 3).to_csv("data.csv", index=False)  # corrected since
    assert main(["draw", "data.csv", "-n", "4", "--output", "again"]) == 0
    opened.url = (tmp_path / "again/to_check.html").as_uri()
    opened.page = opened.open()
    assert opened.data["identity"] != first
    assert "0 of 4 decided" in opened.text("#progress-text")
    assert opened.problems == []
    assert set(opened.requests) == {opened.url, (tmp_path / "to_check/to_check.html").as_uri()}
