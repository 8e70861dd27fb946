"""The page: whole, self-contained, and with nothing in it that the data could have put there."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from emlc.report import collect, render
from emlc.report.issues import label_facts
from emlc.report.rendering import script_json
from emlc.report.tiles import tiles
from hostile import HOSTILE_CLASSES, HOSTILE_IDS


class Page(HTMLParser):
    """Elements, their texts and what scripts and styles hold."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.ids, self.texts = [], [], [], []
        self.scripts, self.comments = [], []
        self.inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        self.ids += [value for name, value in attributes if name == "id"]
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.inside != "style":
            self.texts.append(data)

    def handle_comment(self, data):
        self.comments.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page(hostile_page):
    return Page(hostile_page)


def test_the_page_is_one_complete_document(page):
    assert page.tags.count("script") == 3  # data, plotly, the page's own
    assert page.tags.count("h1") == 1
    assert {"main", "nav", "header", "footer", "figure", "table", "dialog"} <= set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    for section in ("summary", "review", "labels", "student", "training", "map", "run"):
        assert section in page.ids


def test_nothing_is_fetched(page):
    loads = [(t, n, v) for t, n, v in page.attributes if n in ("src", "href", "srcset", "action", "data")]
    assert all(value.startswith(("#", "data:")) for _, _, value in loads), loads
    assert not {"iframe", "object", "embed", "base"} & set(page.tags)


def test_only_the_pages_own_scripts_may_run(page):
    (policy,) = [v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in re.search(r"script-src ([^;]*)", policy)[1]
    for attributes, text in page.scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert (f"'sha256-{digest}'" in policy) == ("type" not in attributes)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_names_from_the_data_are_text_and_nothing_else(page):
    assert "alert" not in "".join(text for attributes, text in page.scripts if "type" not in attributes)
    assert "img" not in page.tags
    assert page.comments == []
    assert "b" not in page.tags
    assert "i" not in page.tags
    for name in HOSTILE_CLASSES:
        assert name in page.text
    data = json.loads(page.scripts[0][1])
    assert data["classes"] == sorted(HOSTILE_CLASSES)
    assert {record["id"] for record in data["gallery"]["records"]} & set(HOSTILE_IDS)
    assert data["gallery"]["columns"][2] == "<i>c</i>"
    specs = json.dumps(data["figures"])
    assert "<script" not in specs
    assert "<img" not in specs


def test_figures_and_elements_belong_together(page):
    data = json.loads(page.scripts[0][1])
    assert sorted(v for _, n, v in page.attributes if n == "data-figure") == sorted(data["figures"])
    assert page.tags.count("caption") >= len(data["figures"])  # each has a table


@pytest.mark.parametrize(
    "text", ["</script>", "<!--", "<script", "\u2028\u2029", "&amp;", "]]>", "\x00\x1f", "日本", "\ud800"]
)
def test_json_in_a_script(text):
    shown = script_json({"a": [text, None, 1.5]})
    assert not re.search("[<>&\u2028\u2029]", shown)
    assert json.loads(shown)["a"][1:] == [None, 1.5]
    if text != "\ud800":  # half a character, which UTF-8 has no bytes for
        assert json.loads(shown)["a"][0] == text


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_figures_in_words(page, hostile_facts):
    labels = hostile_facts.labels
    assert f"Of 90 labels, {labels.issues} ({100 * labels.issues / 90:.1f} %) are issues: " in page.text
    accuracy = hostile_facts.evaluation.figures["accuracy"]
    assert f"Measured on the 30 test samples: accuracy {accuracy:.1f} %" in page.text
    metrics = hostile_facts.metrics
    assert f"{metrics['test_accuracy'].iloc[-1]:.1f} % after the last" in page.text
    assert "emlc apply" in page.text


def test_samples_given_from_python(array_run):
    page = Page(render(collect(array_run)))
    assert "Some parts are missing." in page.text
    assert "The samples themselves cannot be shown" in page.text
    assert "Not measured here" in page.text
    assert "map" not in page.ids
    assert "given from Python" in page.text


def test_a_method_without_a_teacher(plain_run):
    page = Page(render(collect(plain_run, map_samples=0)))
    assert "has no teacher, and the run has no labels.csv" in page.text
    assert "review" not in page.ids
    assert "these figures are optimistic" in page.text
    assert json.loads(page.scripts[0][1])["gallery"] is None


def test_of_texts_that_are_cut_the_page_says_so(page, hostile_facts):
    cut = replace(hostile_facts, gallery=replace(hostile_facts.gallery, cut_at=2000))
    note = "The gallery shows and searches the first 2,000 characters of each text."
    assert note in Page(render(cut)).text
    assert note not in page.text


def test_an_interrupted_run(hostile_facts):
    page = Page(render(replace(hostile_facts, summary={}, steps=None, metrics=None)))
    assert "The run was interrupted" in page.text
    assert "The run has finished no epoch yet" in page.text


def test_the_page_names_the_threshold(page, hostile_facts):
    decision = hostile_facts.decision
    assert f"their label quality is below {decision.threshold:.3f}." in page.text
    assert f"share of wrong labels, estimated {100 * decision.noise_rate:.1f} %" in page.text
    without = Page(render(replace(hostile_facts, decision=None)))
    assert "is below" not in without.text


def test_a_hundred_classes_of_which_some_never_occur(hostile_facts):
    names = tuple(f"class {k}" for k in range(100))
    rng = np.random.default_rng(0)
    given, corrected = (np.array(names)[rng.integers(0, 90, 500)] for _ in range(2))
    table = pd.DataFrame({"given_label": given, "corrected_label": corrected, "retain_weight": 0.5})
    table["is_label_issue"] = given != corrected
    schema = replace(hostile_facts.run.schema, classes=names)
    run = replace(hostile_facts.run, schema=schema, transition=None)
    facts = replace(
        hostile_facts, run=run, labels=label_facts(table, names), evaluation=None, gallery=None, points=None,
        true_noise=None, missing={"gallery": "It was left out on request.", "data": "gone"},
    )  # fmt: skip
    page = Page(render(facts))
    spec = json.loads(page.scripts[0][1])["figures"]["transition"]
    assert np.shape(spec["data"][0]["z"]) == (100, 100)
    assert spec["data"][0]["z"][95] == [None] * 100
    assert "There is no gallery: It was left out on request." in page.text


def noise_page(facts, *, classes=None, learned=None, true=None):
    """Figures of the labels' section, and the page, of a run that has learned so much of the noise."""
    schema = replace(facts.run.schema, classes=classes or facts.classes)
    learned = None if learned is None else pd.DataFrame(learned)
    run = replace(facts.run, schema=schema, transition=learned)
    missing = {"data": "gone", "labels": "nobody corrected any", "gallery": "left out"}
    without = dict.fromkeys(("labels", "evaluation", "gallery", "points"))
    page = Page(render(replace(facts, run=run, true_noise=true, missing=missing, **without)))
    return json.loads(page.scripts[0][1])["figures"], page


def test_the_learned_noise_is_shown_beside_the_true_one(page, hostile_facts):
    shown = json.loads(page.scripts[0][1])["figures"]
    assert "P(given | true class)" in page.text
    assert "What training has learned about the labels" in page.text
    learned, true = (shown[f"{kind}-transition"]["data"][0] for kind in ("learned", "true"))
    np.testing.assert_allclose(learned["z"], hostile_facts.run.transition, atol=1e-4)
    np.testing.assert_allclose(true["z"], hostile_facts.labels.truth.transition, atol=1e-4)
    assert (learned["zmin"], learned["zmax"]) == (true["zmin"], true["zmax"]) == (0, 1)


def test_of_a_method_without_a_teacher_what_it_learned_of_the_noise_is_shown(plain_run):
    facts = collect(plain_run, map_samples=0)
    shown, page = noise_page(facts, learned=np.eye(3), true=np.full((3, 3), 1 / 3))
    assert {"learned-transition", "true-transition"} <= shown.keys()
    assert "nobody corrected any" in page.text
    assert "true-transition" not in noise_page(facts, learned=np.eye(3))[0]
    assert not {"learned-transition", "true-transition"} & noise_page(facts, true=np.eye(3))[0].keys()


def test_of_forty_classes_the_most_frequent_wrong_labels_are_shown(hostile_facts):
    names = tuple(f"<{k}>" for k in range(40))
    learned = np.random.default_rng(0).dirichlet(np.ones(40), 40)
    shown, page = noise_page(hostile_facts, classes=names, learned=learned)
    off = pd.DataFrame(learned, names, names).where(~np.eye(40, dtype=bool)).stack().nlargest(25)
    (bars,) = shown["learned-transition"]["data"]
    assert bars["x"] == pytest.approx(off.tolist(), rel=1e-4)
    texts = shown["learned-transition"]["layout"]["yaxis"]["ticktext"]
    assert texts[0] == "{} labelled {}".format(*off.index[0]).replace("<", "&lt;").replace(">", "&gt;")
    assert "Of 40 classes, the 25 most frequent wrong labels are shown." in page.text


def test_what_a_decision_does_not_know_is_told_in_words(hostile_facts):
    silent = replace(hostile_facts.decision, threshold=0.0, expected_f1=None, noise_rate=None)
    text = Page(render(replace(hostile_facts, decision=silent))).text
    assert "F1 score of the issues, expected unknown" in text
    assert "share of wrong labels, estimated unknown" in text
    assert "the trusted samples do not show that corrected labels would be better" in " ".join(text.split())
    assert "is below" not in text


def test_shares_of_nothing_are_left_out(hostile_facts):
    labels = hostile_facts.labels
    nan = float("nan")
    none = replace(labels, issues=0, truth=replace(labels.truth, issue_precision=nan, issue_recall=0.0))
    page = render(replace(hostile_facts, labels=none))
    assert "(precision)" not in page
    assert "Of the wrong labels, 0.0 % are among the issues" in page
    assert "Of the issues" in render(hostile_facts)


@pytest.mark.parametrize(
    ("role", "remark"),
    [("validation", "on samples that chose the epoch"), ("trusted", "on samples that training used")],
)
def test_the_accuracy_says_what_its_samples_served_for(role, remark, hostile_facts):
    metrics = hostile_facts.metrics.rename(columns={"test_accuracy": "kept"})
    metrics = metrics.drop(columns=["trusted_accuracy", "validation_accuracy"], errors="ignore")
    metrics = metrics.assign(**{f"{role}_accuracy": 50.0})
    (tile, *_) = tiles(replace(hostile_facts, metrics=metrics))
    assert (tile.name, remark in tile.remark) == (f"Accuracy on {role} samples", True)
