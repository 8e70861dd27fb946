"""Tables on features of a pretrained network: what they consist of, and that images are embedded once."""

import dataclasses
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grids import grid, run_grid
from PIL import Image
from sklearn.decomposition import PCA

from benchmarks import search
from emlc import InputError
from emlc.cli import main
from emlc.config import Settings
from emlc.config.training import MethodSettings
from emlc.data.noise import CIFAR10_CLASSES
from emlc.reproduce import code, contenders, embedding
from emlc.reproduce.cache import Cache
from emlc.reproduce.choice import Choice
from emlc.reproduce.embedding import make_features, reduced
from emlc.reproduce.engine import _row_settings
from emlc.reproduce.experiments import EXPERIMENTS, restricted
from emlc.reproduce.plan import CHOSEN, Grid, Part, cells, job
from emlc.reproduce.pretrained import PretrainedFeatures
from emlc.reproduce.tables import Value, markdown
from emlc.runs.run import Run
from emlc.runtime.files import read_yaml

NAMES = [name for name in EXPERIMENTS if name != "table3"]
RIVALS = {"cross-entropy", "trusted-only", "fine-tuning", "mlc", "mw-net", "mlnt", "elr-plus", "true-labels"}
RIVALS |= {"dividemix", "joint-optim", "pencil", "famus", "mslg", "metacleaner", "smp"}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def save_cifar10(folder, n=60, *, seed=0, human=True):
    """N training images in two files and a third as many test images, as the parquet files on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for part, rows in {
        "train-0": range(n // 2),
        "train-1": range(n // 2, n),
        "test-0": range(n // 3),
    }.items():
        labels = np.array(rows) % 10
        columns = {
            "image": [png(rng.integers(0, 25 * (k + 1), (8, 8, 3), np.uint8)) for k in labels],
            "label": labels,
        }
        if human and part != "test-0":
            columns |= {
                "worst": (labels + (labels % 3 == 0)) % 10,
                "aggregate": (labels + (labels == 3)) % 10,
            }
        pq.write_table(pa.table(columns), folder / f"{part}.parquet")
    return folder.parent


def means(block):
    """A stand-in for the network: means of 4 x 4 regions of each channel, (n, 48)."""
    return block.reshape(len(block), 3, 4, 28, 4, 28).mean(axis=(3, 5)).reshape(len(block), 48) / np.float32(
        255
    )


@pytest.fixture
def root(tmp_path):
    return save_cifar10(tmp_path / "data/cifar10")


@pytest.fixture
def embedded(monkeypatch):
    """The number of images in each block that is embedded in a test."""
    sizes = []
    monkeypatch.setattr(embedding, "load_image_model", lambda name: SimpleNamespace(network=name))
    monkeypatch.setattr(
        embedding, "runner", lambda *_: lambda block: (sizes.append(len(block)), means(block))[1]
    )
    monkeypatch.setattr(embedding, "_BLOCK", 16)
    return sizes


def table(name, root, **options):
    return EXPERIMENTS[name](Choice("features", data_root=str(root), **options))


def test_table_1_has_all_kinds_of_noise_and_1000_trusted_images(root):
    experiment = table("table1", root)
    symmetric = [f"symmetric {rate} %" for rate in (20, 50, 80, 90)]
    expected = [
        f"CIFAR-10 {each}" for each in (*symmetric, "asymmetric 40 %", "human, worst", "human, aggregate")
    ]
    expected += [f"CIFAR-100 {each}" for each in (*symmetric, "asymmetric 40 %")]
    assert [column.label for column in experiment.columns] == expected
    runs = cells(restricted(experiment, [0], ["glc"]))
    trusted = [each.job.settings.trusted_per_class for each in runs]
    assert trusted == [100] * 7 + [10] * 5
    few = cells(restricted(table("table1", root, trusted_per_class=10), [0], ["glc"]))
    assert {each.job.settings.trusted_per_class for each in few} == {10}


def test_emlc_runs_in_four_ways_and_with_its_nearest_rivals_over_five_seeds(root):
    runs = cells(table("table1", root, data="cifar10"))
    seeds = {}
    for each in runs:
        seeds.setdefault(each.row.label, set()).add(each.seed)
    ways = ("emlc (paper), k = 1", "emlc (paper), k = 5", "emlc (authors' HEAD)", "emlc, noise-aware")
    five = {*ways, "glc", "mslc", "fasten", "joint-optim"}
    assert seeds == {label: set(range(5 if label in five else 3)) for label in five | RIVALS}
    two = cells(restricted(table("table1", root, data="cifar10"), [7, 8], None))
    assert {(each.row.label, each.seed) for each in two} == {(label, s) for label in seeds for s in (7, 8)}


def test_the_noise_aware_row_has_the_defaults_of_emlc(root):
    runs = {each.column.label: each.job for each in cells(restricted(table("table1", root), [0], ["emlc"]))}
    of_run = {"data": "cifar10", "data_root": str(root), "trusted_per_class": 100, "seed": 0}
    of_run |= {"epochs": 15, "noisy_batch": 128, "rivals": False}
    worst = Settings(**of_run, label_column="worst", true_label_column="label")
    assert runs["CIFAR-10 human, worst"].settings == worst
    half = Settings(**of_run, label_column="label", noise="symmetric", noise_rate=0.5)
    assert runs["CIFAR-10 symmetric 50 %"].settings == half


@pytest.mark.parametrize(
    ("method", "column", "expected"),
    [
        ("mslc", "symmetric 20 %", {"warm_up": 8}),
        ("dividemix", "symmetric 90 %", {"warm_up": 4, "ramp_epochs": 8, "unlabelled_weight": 50}),
        ("dividemix", "human, worst", {"warm_up": 4, "ramp_epochs": 8, "unlabelled_weight": 25}),
        ("elr-plus", "asymmetric 40 %", {"weight_ramp_steps": 0, "regularisation": 1.0}),
        ("mlnt", "symmetric 50 %", {"warm_up": 2, "meta_start": 500}),
        ("smp", "human, aggregate", {"learning_rate": 0.05, "prototypes": 8}),
    ],
)
def test_rivals_have_what_was_searched_for_them_and_what_authors_chose_by_noise(
    root, method, column, expected
):
    runs = cells(restricted(table("table1", root), [0], [method]))
    (settings,) = (each.job.settings for each in runs if each.column.label == f"CIFAR-10 {column}")
    hyper = dataclasses.asdict(settings.hyper_parameters)
    values = settings.as_dict() | hyper | {"warm_up": settings.warm_up}
    assert {name: values[name] for name in expected} == expected


def test_what_was_searched_is_a_trial_of_the_search():
    trials = read_yaml(Path(search.__file__).with_suffix(".yaml"))["methods"]
    searched = read_yaml(Path(contenders.__file__).with_name("searched.yaml"))
    steps = {"meta_start", "meta_full"}  # of runs five times as long
    for method, settings in [each for of_data in searched.values() for each in of_data.items()]:
        flat = {name: value for name, value in settings.items() if name != "hyper"}
        flat |= {f"hyper.{n}": v for n, v in settings.get("hyper", {}).items() if n not in steps}
        assert all(value in trials[method][name] for name, value in flat.items()), method
    assert set(trials) - set(searched["cifar10"]) == {"emlc", "fasten", "augdesc"}


def test_methods_that_need_images_are_left_out_and_counted(root):
    experiment = table("table2", root)
    assert not {"sanm", "c2d", "augdesc"} & {row.label for row in experiment.rows}
    assert "Left out, as they need images (3): c2d, augdesc, sanm." in experiment.notes


def test_the_full_protocol_has_human_labels_where_the_data_have_them(root, tmp_path):
    experiment = EXPERIMENTS["table1"](Choice("paper", "cifar10", str(root)))
    runs = {each.column.label: each.job for each in cells(restricted(experiment, [0], ["mlc"]))}
    assert [(s.label_column, s.true_label_column) for s in (job.settings for job in runs.values())] == [
        *[(None, None)] * 5,
        *(("worst", "label"), ("aggregate", "label")),
    ]
    assert len({each.start.key for each in runs.values()}) == 1, "one SimCLR for all columns"
    save_cifar10(tmp_path / "no/cifar10", human=False)
    assert len(EXPERIMENTS["table1"](Choice("paper", "cifar10", str(tmp_path / "no"))).columns) == 5


def test_human_labels_stand_in_for_clothing1m(root, tmp_path):
    for name in ("table2", "table4", "fig5", "fig7"):
        experiment = table(name, root)
        assert experiment.columns[-1].settings["label_column"] == "worst"
        assert any("stand in for Clothing1M" in note for note in experiment.notes)
    without = save_cifar10(tmp_path / "other/cifar10", human=False)
    for name in ("table1", "table2"):
        experiment = table(name, without, data="cifar10")
        assert experiment.columns[-1].label == "CIFAR-10 asymmetric 40 %"
        assert any("the data do not have, worst and aggregate" in note for note in experiment.notes)


def test_table_4_can_be_of_cifar100(root):
    experiment = table("table4", root, data="cifar100")
    labels = [column.label.removeprefix("CIFAR-100 ") for column in experiment.columns]
    assert labels == ["symmetric 50 %", "symmetric 80 %", "asymmetric 40 %"]
    assert {each.job.settings.trusted_per_class for each in cells(restricted(experiment, [0], None))} == {10}


def test_table_4_leaves_one_part_out_after_the_other(root):
    runs = cells(restricted(table("table4", root), [0], None))
    default = Settings(data="digits", trusted_per_class=1)
    changed = {
        each.row.label: {
            name: value
            for name in (
                "teacher",
                "meta_weight",
                "ce_weight",
                "likelihood_weight",
                "anchor_weight",
                "look_ahead",
            )
            if (value := getattr(each.job.settings, name)) != getattr(default, name)
        }
        for each in runs
    }
    assert changed["emlc, noise-aware"] == {}
    singles = [each for label, each in changed.items() if len(each) == 1 and "gate" not in label]
    zero = ("meta_weight", "likelihood_weight", "ce_weight", "anchor_weight")
    assert singles == [*({name: 0} for name in zero), {"look_ahead": 5}]
    assert [column.label.removeprefix("CIFAR-10 ") for column in table("table4", root).columns] == [
        *("symmetric 50 %", "symmetric 80 %", "asymmetric 40 %", "human, worst")
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["small", "features", "paper"])
def test_every_experiment_can_say_what_its_rows_differ_in(name, scale):
    experiment = EXPERIMENTS[name](Choice(scale))
    (text,) = _row_settings([*experiment.rows, Part("x", {"momentum": 0.5})])
    assert "x: momentum 0.5" in text


def test_the_noise_aware_row_takes_nothing_of_the_method_from_a_preset():
    group = {each.name for each in dataclasses.fields(MethodSettings)}
    for name in ("table1", "table2"):
        runs = cells(restricted(EXPERIMENTS[name](Choice("paper")), [0], ["emlc"]))
        for each in (run.job.settings for run in runs if run.row.label == "emlc, noise-aware"):
            default = Settings(data="digits", trusted_per_class=1)
            assert {name: getattr(each, name) for name in group} == {n: getattr(default, n) for n in group}


def test_a_table_of_emlc_alone_is_written(tmp_path):
    """The noise-aware row has no hyper-parameters: its setting is None."""
    rows = (Part("emlc", {"method": "cross-entropy", "hyper": None}),)
    done = run_grid(grid(rows=rows, seeds=(0,)), tmp_path)
    assert "| emlc |" in (done.folder / "table.md").read_text()


def test_rows_with_fewer_seeds_take_part_in_the_ranking_and_are_named():
    rows = (Part("few", seeds=(0, 1)), Part("many"), Part("unfinished"))
    figures = {"few": [90.0, 90.0], "many": [80.0] * 3, "unfinished": [99.0] * 2}
    values = {(label, "half"): Value(each) for label, each in figures.items()}
    text = markdown(CHOSEN, rows, (Part("half"),), values)
    assert "| few | **90.0 ± 0.0 (n = 2)** |" in text
    assert text.count("**") == 2


def test_seeds_that_no_row_has_are_told():
    values = {(label, "half"): Value([80.0, 82.0]) for label in ("one", "other")}
    rows = (Part("one"), Part("other", seeds=(0, 1)))
    text = markdown(CHOSEN, rows, (Part("half"),), values, 5)
    assert "| one | **81.0 ± 1.4 (n = 2)** |" in text
    assert "| other | **81.0 ± 1.4** |" in text


def test_features_are_the_scaled_principal_components_rotated():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(300, 300)) * np.linspace(3, 0.1, 300)
    train, test = (
        rng.normal(size=(n, 300)).astype(np.float32) @ mixing.astype(np.float32) for n in (900, 20)
    )
    X, X_test = reduced(train, test)
    pca = PCA(256, svd_solver="full").fit(train.astype(np.float64))
    expected = pca.transform(train.astype(np.float64))
    # A rotation keeps scalar products; one number scales all.
    expected /= expected.std()
    np.testing.assert_allclose(X[:50] @ X.T, expected[:50] @ expected.T, atol=0.02)
    assert X.std() == pytest.approx(1, abs=1e-3)
    spread = X.std(axis=0)
    assert spread.max() / spread.min() < 2 < expected.std(axis=0).max() / expected.std(axis=0).min()
    scaled = pca.transform(test.astype(np.float64)) / pca.transform(train.astype(np.float64)).std()
    np.testing.assert_allclose(X_test @ X_test.T, scaled @ scaled.T, atol=0.02)


def test_images_are_embedded_once_and_keep_their_labels(root, tmp_path, embedded):
    features = PretrainedFeatures("cifar10", str(root))
    folder = make_features(features, tmp_path / "features")
    assert sum(embedded) == 60 + 20
    assert make_features(features, tmp_path / "features") == folder
    assert sum(embedded) == 60 + 20
    with np.load(folder / "train.npz") as train:
        given = pd.concat(map(pd.read_parquet, sorted((root / "cifar10").glob("train*"))))
        assert all((train[name] == given[name]).all() for name in ("label", "worst", "aggregate"))
        assert train["classes"].tolist() == list(CIFAR10_CLASSES)
        assert train["X"].shape == (60, 48)
    with np.load(folder / "test.npz") as test:
        assert sorted(test) == ["X", "classes", "label"]
    assert [each.name for each in folder.parent.iterdir() if each.is_dir()] == [folder.name]


def test_after_an_interruption_the_rest_is_embedded(root, tmp_path, embedded, monkeypatch):
    features, home = PretrainedFeatures("cifar10", str(root)), tmp_path / "features"
    runner = embedding.runner

    def interrupted(*arguments):
        if sum(embedded) >= 32:
            raise KeyboardInterrupt
        return runner(*arguments)(*arguments[4:])

    with monkeypatch.context() as patch:
        patch.setattr(embedding, "runner", lambda *_: lambda block: interrupted(0, 0, 0, 0, block))
        with pytest.raises(KeyboardInterrupt):
            make_features(features, home)
    assert not (home / features.name).exists()
    resumed = make_features(features, home)
    assert sum(embedded) == 60 + 20
    whole = make_features(features, tmp_path / "whole")
    for part in ("train.npz", "test.npz"):
        with np.load(resumed / part) as one, np.load(whole / part) as other:
            np.testing.assert_array_equal(one["X"], other["X"])


def test_other_images_are_other_features_and_other_runs(root, tmp_path):
    other = save_cifar10(tmp_path / "other/cifar10", seed=1)
    same = save_cifar10(tmp_path / "copy/cifar10")
    names = [PretrainedFeatures("cifar10", str(each)).name for each in (root, other, same)]
    assert names[0] != names[1]
    assert names[0] == names[2]
    keys = [cells(restricted(table("fig1", each), [0], ["mlc"]))[0].job.key for each in (root, other, same)]
    assert (keys[0] == keys[1], keys[0] == keys[2]) == (False, True)


def test_the_command_embeds_trains_and_tabulates(root, tmp_path, embedded, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "table2", "--scale", "features", "--data_root", str(root), "--folder", "out"]
    command += ["--methods", '["trusted-only"]', "--seeds", "[0]", "--trusted_per_class", "2"]
    assert main(command) == 0
    capsys.readouterr()
    results = tmp_path / "out/table2-features-2-per-class-selection"
    assert "40 noisy, 20 trusted, 20 test" in (results / "table.md").read_text()
    (run,) = json.loads((results / "results.json").read_text())["runs"]
    assert run["column"] == "CIFAR-10 human, worst"
    assert run["summary"]["noise_rate_actual"] == pytest.approx(0.4)
    summary = tmp_path / "out/runs" / run["run"] / "summary.json"
    written = summary.stat().st_mtime_ns
    assert main(command) == 0
    assert summary.stat().st_mtime_ns == written
    assert sum(embedded) == 60 + 20


def test_a_run_on_features_has_the_classes_of_the_images(root, tmp_path, embedded):
    """By their names, asymmetric noise finds the similar classes; integers it would take for digits."""
    column = table("table1", root, data="cifar10").columns[4]
    assert column.settings["noise"] == "asymmetric"
    values = column.settings | {"noise_rate": 1.0, "trusted_per_class": 1, "epochs": 1, "seed": 0}
    each = job(values | {"method": "cross-entropy"})
    cache = Cache(tmp_path / "runs")
    cache.make(each, wait=True)
    split = Run.load(cache.folder(each), device="cpu").split()
    names, noisy = split.classes, split.noisy
    pairs = {(names[c], names[d]) for c, d in zip(noisy.true_labels, noisy.given, strict=True) if c != d}
    assert pairs == {
        *(("truck", "automobile"), ("bird", "airplane"), ("deer", "horse")),
        *(("cat", "dog"), ("dog", "cat")),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data_root", "absent"], "data_root: there is no folder 'absent'; expected the one that holds"),
        (["--data", "digits"], "data: expected one of cifar10, cifar100 here, got 'digits'"),
        (
            ["--trusted_per_class", "0"],
            "trusted_per_class: expected 1 or more, at scale features only, got 0",
        ),
        (["--scale", "small", "--trusted_per_class", "3"], "trusted_per_class: expected 1 or more, at scale"),
    ],
)
def test_options_without_meaning_are_refused_before_anything_is_embedded(options, message, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["reproduce", "table1", "--scale", "features", "--folder", str(folder), *options]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_times_are_not_measured_on_features():
    with pytest.raises(InputError, match="scale: table3 measures networks that learn from images"):
        EXPERIMENTS["table3"](Choice("features"))


def test_figures_have_rows_that_learn_from_features(root):
    assert [row.label for row in table("fig1", root).rows] == [
        "emlc, noise-aware",
        "emlc (paper), k = 1",
        "mlc",
    ]
    experiment = table("fig6", root)
    assert isinstance(experiment, Grid)
    teachers = {
        (each.column.label, each.job.settings.teacher, each.job.settings.look_ahead)
        for each in cells(restricted(experiment, [0], None))
    }
    assert teachers == {
        (f"CIFAR-100 symmetric 50 %, {teacher}", teacher, k)
        for teacher in ("gate", "noise-aware")
        for k in (1, 2, 3, 5, 10)
    }


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the package's code, to be changed; keys are of it."""
    for room in ("methods", "networks", "meta", "architectures", "pretraining", "runs", "data"):
        shutil.copytree(Path(code.__file__).parents[1] / room, tmp_path / "src/emlc" / room)
    monkeypatch.setattr(code, "_HOMES", (tmp_path / "src",))
    yield tmp_path / "src/emlc"
    forget_code()


def forget_code():
    code.code_digest.cache_clear()
    code._code.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("methods/glc.py", '"""', '"""Changed. ', set()),
        ("methods/glc.py", "\n", "\n# A comment.\n", set()),
        ("methods/glc.py", "class GLC(", "OTHER = 1\n\n\nclass GLC(", {"glc"}),
        ("meta/metagradient.py", "\ndef ", "\nOTHER = 1\n\n\ndef ", {"emlc"}),
        ("runs/fit.py", "\ndef ", "\nOTHER = 1\n\n\ndef ", {"emlc", "glc", "trusted-only"}),
        ("data/noise.py", "\ndef ", "\nOTHER = 1\n\n\ndef ", {"emlc", "glc", "trusted-only"}),
        ("networks/backbones.py", "\ndef ", "\nOTHER = 1\n\n\ndef ", {"emlc", "glc", "trusted-only"}),
    ],
)
def test_runs_have_another_key_when_the_code_of_their_method_changes(source, file, old, new, changed):
    def keys():
        forget_code()
        values = {"data": "digits", "trusted_per_class": 1}
        return {name: job(values | {"method": name}).key for name in ("emlc", "glc", "trusted-only")}

    before, text = keys(), (source / file).read_text()
    (source / file).write_text(text.replace(old, new, 1))
    assert {name for name, key in keys().items() if key != before[name]} == changed
