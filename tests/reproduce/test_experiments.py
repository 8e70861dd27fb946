"""The experiments as they are defined, and what the command says of bad options."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from benchmarks.grid import _with_data, grid_from
from benchmarks.label_issues import cases_from
from benchmarks.search import search_from
from emlc import InputError
from emlc.cli import main
from emlc.config import Settings
from emlc.config.methods import METHODS
from emlc.config.presets import preset_path
from emlc.data.loaders import Batch
from emlc.networks.gate_teacher import Teacher
from emlc.reproduce.choice import Choice
from emlc.reproduce.contenders import CONTENDERS
from emlc.reproduce.engine import _settings_by_noise
from emlc.reproduce.experiments import EXPERIMENTS, restricted
from emlc.reproduce.paper import _tables, published
from emlc.reproduce.plan import PRETRAIN, Part, Timing, cells, distinct, job
from emlc.runtime.files import read_yaml
from emlc.timing.building import build_method
from emlc.timing.cases import make_cases, make_groups

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COLUMNS = {"table1": (5, 9), "table2": (1, 1), "table4": (3, 1), "fig1": (1, 1), "fig4": (1, 1)}
COLUMNS |= {"fig5": (1, 1), "fig6": (1, 1), "fig7": (1, 1), "fig8": (4, 4)}


@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if n != "table3"])
def test_every_cell_has_settings_at_either_scale(name):
    for scale, columns, seeds in zip(("small", "paper"), COLUMNS[name], (3, 5), strict=True):
        experiment = EXPERIMENTS[name](Choice(scale))
        assert len(experiment.columns) == columns
        runs = cells(restricted(experiment, [0], None))
        assert len(runs) == len(experiment.rows) * columns > 0
        assert len(experiment.seeds) == seeds
        assert {each.job.settings.method for each in runs} <= set(METHODS)
        assert [tiny.without_effect(each.job.settings) for each in runs] == [[]] * len(runs)


def test_the_small_scale_can_be_cifar10():
    experiment = EXPERIMENTS["table1"](Choice("small", "cifar10", "somewhere"))
    settings = {(s := each.job.settings).data + s.data_root: each.job.start for each in cells(experiment)}
    assert list(settings) == ["cifar10somewhere"]
    assert settings["cifar10somewhere"].settings.data_root == "somewhere"


def test_the_full_protocol_is_the_presets():
    experiment = EXPERIMENTS["table1"](Choice("paper"))
    jobs = {
        (each.row.label, each.column.label): each.job for each in cells(restricted(experiment, [0], ["emlc"]))
    }
    ten = jobs["emlc (paper), k = 5", "CIFAR-10 symmetric 80 %"]
    hundred = jobs["emlc (paper), k = 1", "CIFAR-100 symmetric 20 %"]
    assert (ten.settings.backbone, hundred.settings.backbone) == ("resnet34", "resnet50")
    for each in (ten, hundred):
        s = each.settings
        assert (s.learning_rate, s.noisy_batch, s.trusted_batch, s.epochs, s.meta_weight) == (
            0.02,
            128,
            32,
            15,
            1,
        )
        assert each.start.settings.backbone == s.backbone
        assert each.start.settings.epochs == 1000
    assert (ten.settings.look_ahead, ten.settings.noise_rate) == (5, 0.8)
    clothing = cells(EXPERIMENTS["table2"](Choice("paper")))[0].job
    assert (clothing.settings.init, clothing.start) == ("imagenet", None)


@pytest.mark.parametrize(
    ("label", "suffix", "look_ahead"),
    [
        ("emlc (paper), k = 1", "", 1),
        ("emlc (paper), k = 5", "", 5),
        ("emlc (authors' first version)", "-authors-first", 1),
        ("emlc (authors' HEAD)", "-authors-head", 1),
    ],
)
def test_table_1_runs_emlc_as_its_presets_have_it(label, suffix, look_ahead):
    experiment = restricted(EXPERIMENTS["table1"](Choice("paper")), [0], ["emlc"])
    runs = [each.job.settings for each in cells(experiment) if each.row.label == label]
    assert len(runs) == 9
    for run in runs:
        preset = read_yaml(preset_path(f"{run.data}{suffix}", "train"))
        others = {"noise": run.noise, "noise_rate": run.noise_rate, "look_ahead": look_ahead}
        beside = {"init": run.init, "output": None, "rivals": False}
        assert run.as_dict() == Settings(**{**preset, **others, **beside}).as_dict()


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_papers_tables_and_figures_are_of_its_own_teacher(scale):
    teachers = {}
    for name in COLUMNS:
        runs = cells(restricted(EXPERIMENTS[name](Choice(scale)), [0], ["emlc"]))
        for each in runs:
            teachers.setdefault(each.job.settings.teacher, set()).add((name, each.row.label))
    assert teachers["noise-aware"] == {("table1", "emlc, noise-aware"), ("table2", "emlc, noise-aware")}
    assert len(teachers["gate"]) == (4 + 2) + 5 + 2 + 1 + 2 + 5 + 5 + 2


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_papers_times_are_of_its_own_teacher(scale):
    options = replace(EXPERIMENTS["table3"](Choice(scale)).options, networks=["linear"], image_size=4)
    (group,) = make_groups(options)
    timed = [case for case in make_cases(options, cuda=True, tf32=False) if case.method == "emlc"]
    assert {case.k for case in timed} == {1, 5}
    for case in timed:
        method = build_method(case, group, options, tiny.ALONE, tiny_batch(options.image_size))
        assert (method.settings.teacher, method.settings.meta_weight) == ("gate", 1)
        assert isinstance(method.teacher, Teacher)


def tiny_batch(pixels):
    x = torch.zeros(4, 3, pixels, pixels, dtype=torch.uint8)
    return Batch(x, torch.zeros(4, dtype=torch.long), torch.arange(4), 4)


def test_the_noise_aware_row_is_emlc_as_it_is_by_default():
    for scale in ("small", "paper"):
        experiment = restricted(EXPERIMENTS["table1"](Choice(scale)), [0], ["emlc"])
        (run, *_) = (each.job for each in cells(experiment) if each.row.label == "emlc, noise-aware")
        assert {name: getattr(run.settings, name) for name in ("teacher", "meta_weight", "look_ahead")} == {
            name: getattr(Settings(data="digits", trusted_per_class=1), name)
            for name in ("teacher", "meta_weight", "look_ahead")
        }
        assert run.settings.weight_decay == 0


BY_NOISE = {
    ("dividemix", "CIFAR-10 symmetric 20 %"): {"unlabelled_weight": 0},
    ("dividemix", "CIFAR-10 symmetric 50 %"): {"unlabelled_weight": 25, "threshold": 0.5},
    ("dividemix", "CIFAR-10 symmetric 80 %"): {"unlabelled_weight": 25, "averaged_epochs": 1},
    ("dividemix", "CIFAR-10 symmetric 90 %"): {
        "unlabelled_weight": 50,
        "threshold": 0.6,
        "averaged_epochs": 5,
        "confidence_penalty": False,
        "ramp_epochs": 1,
    },
    ("dividemix", "CIFAR-10 asymmetric 40 %"): {"unlabelled_weight": 0, "confidence_penalty": True},
    ("dividemix", "CIFAR-100 symmetric 20 %"): {"unlabelled_weight": 25},
    ("dividemix", "CIFAR-100 symmetric 50 %"): {"unlabelled_weight": 150},
    ("c2d", "CIFAR-10 symmetric 20 %"): {"unlabelled_weight": 0},
    ("c2d", "CIFAR-100 symmetric 20 %"): {"unlabelled_weight": 150, "threshold": 0.5},
    ("c2d", "CIFAR-100 symmetric 80 %"): {"unlabelled_weight": 500, "threshold": 0.03},
    ("c2d", "Clothing1M"): {"unlabelled_weight": 0, "threshold": 0.7, "mixup_alpha": 0.5},
    ("augdesc", "Clothing1M"): {"unlabelled_weight": 0, "confidence_penalty": True},
    ("mlc", "CIFAR-10 symmetric 20 %"): {"skip": False, "label_embedding_dim": 128},
    ("mlc", "Clothing1M"): {"skip": True, "label_embedding_dim": 128, "meta_learning_rate": 3e-3},
    ("sanm", "Clothing1M"): {"unlabelled_weight": 0, "reconstruction_weight": 0.3, "most_masked": 0.13},
    ("pencil", "Clothing1M"): {"compatibility_weight": 0.08, "entropy_weight": 0.8},
}
"""What authors chose by the noise and the data, by row and column of Tables 1 and 2."""


def test_rivals_have_the_hyper_parameters_that_their_authors_chose_for_the_noise():
    runs = [run for name in ("table1", "table2") for run in cells(EXPERIMENTS[name](Choice("paper")))]
    hypers = {(run.row.label, run.column.label): run.job.settings.hyper_parameters for run in runs}
    for cell, chosen in BY_NOISE.items():
        assert {name: getattr(hypers[cell], name) for name in chosen} == chosen, cell


def test_a_table_says_which_hyper_parameters_depend_on_its_columns():
    grid = restricted(EXPERIMENTS["table1"](Choice("small")), [0], ["cross-entropy", "dividemix"])
    (note,) = _settings_by_noise(grid)
    assert note == (
        "Hyper-parameters that authors chose by the noise: dividemix: symmetric 20 % unlabelled_weight 0.0; "
        "symmetric 50 % unlabelled_weight 25.0; symmetric 80 % unlabelled_weight 25.0; symmetric 90 % "
        "unlabelled_weight 50.0, threshold 0.6, averaged_epochs 5; asymmetric 40 % unlabelled_weight 0.0, "
        "confidence_penalty True."
    )


def test_rows_are_chosen_by_method_or_by_label():
    table = EXPERIMENTS["table1"](Choice("small"))
    rows = restricted(table, None, ["emlc (authors' HEAD)", "mlc"]).rows
    assert [row.label for row in rows] == ["mlc", "emlc (authors' HEAD)"]
    assert len(restricted(table, None, ["emlc", "emlc, noise-aware"]).rows) == 5
    with pytest.raises(InputError, match=r"methods: table1 has .*; got emlc, aware"):
        restricted(table, None, ["mlc", "emlc, aware"])


def test_what_a_row_says_of_hyper_parameters_overrides_what_the_noise_says():
    experiment = EXPERIMENTS["table2"](Choice("small"))
    (run,) = (each for each in cells(restricted(experiment, [0], ["pencil"])))
    hyper = run.job.settings.hyper_parameters
    assert (hyper.label_learning_rate, hyper.compatibility_weight, hyper.entropy_weight) == (50, 0.1, 0.8)


def test_figures_that_show_it_start_with_and_without_pretraining():
    experiment = EXPERIMENTS["fig8"](Choice("small"))
    starts = {row.label: row.settings[PRETRAIN] is not None for row in experiment.rows}
    assert starts == {"emlc, SimCLR": True, "emlc": False, "mlc, SimCLR": True, "mlc": False}


def test_tables_share_their_runs():
    one, two = (cells(EXPERIMENTS[name](Choice("small"))) for name in ("table1", "table2"))
    methods = {each.job.settings.method for each in one}
    assert len(methods) > 10
    shared = [each for each in two if each.job.settings.method in methods]
    # Of these methods, Table 2's column is one of Table 1's.
    assert {each.key for each in distinct(shared)} <= {each.key for each in distinct(one)}


def test_the_papers_figures_are_complete_tables():
    for name, table in _tables().items():
        assert {len(figures) for figures in table["rows"].values()} == {len(table["columns"])}, name
    assert str(published("table1", "emlc, k = 1", "CIFAR-10 symmetric 50 %")) == "91.16 ± 0.25"
    assert str(published("table2", "fasten", "Clothing1M")) == "77.83"
    assert published("table1", "mlc", "CIFAR-10 asymmetric 40 %") is None
    for name in ("table1", "table2"):
        assert set(_tables()[name]["rows"]) <= {each.published or each.label for each in CONTENDERS.values()}


@pytest.mark.parametrize("name", ["table1", "table2", "table4", "fig6", "fig7"])
def test_the_papers_figures_are_found_by_the_experiments(name):
    for scale in ("small", "paper"):
        experiment = EXPERIMENTS[name](Choice(scale))
        found = {
            (r.paper, c.paper)
            for r in experiment.rows
            for c in experiment.columns
            if published(experiment.paper, r.paper, c.paper)
        }
        table = _tables()[name]
        wanted = {
            (row, column)
            for row, figures in table["rows"].items()
            for column, figure in zip(table["columns"], figures, strict=True)
            if figure is not None and (scale == "paper" or name != "table1" or column.startswith("CIFAR-10 "))
        }
        assert found == wanted


def test_only_times_are_measured_by_steps():
    assert [name for name in EXPERIMENTS if isinstance(EXPERIMENTS[name](Choice("paper")), Timing)] == [
        "table3"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "2/2"], "shard: expected I/N with I from 0 to N - 1, such as 0/4, got '2/2'"),
        (["--shard", "1"], "shard: expected I/N with I from 0 to N - 1, such as 0/4, got '1'"),
        (["--shard", "0/0"], "shard: expected I/N with I from 0 to N - 1, such as 0/4, got '0/0'"),
        (["--shard=-1/2"], "shard: expected I/N with I from 0 to N - 1, such as 0/4, got '-1/2'"),
        (["--seeds", "[1,1]"], "seeds: expected at least one, and each once, got [1, 1]"),
        (["--processes", "0"], "processes: expected at least 1, got 0"),
        (["--methods", '["emlc","no-such"]'], "no-such"),
        (["--data", "clothing1m"], "data: --scale small has digits, cifar10, got 'clothing1m'"),
        (
            ["--data", "digits", "--scale", "paper"],
            "data: expected one of cifar10, cifar100 here, got 'digits'",
        ),
    ],
)
def test_bad_options_end_with_one_message(options, message, tmp_path, capsys):
    command = ["reproduce", "table1", "--folder", str(tmp_path / "out")]
    assert main([*command, *options]) == 2
    message_shown = capsys.readouterr().err
    assert message_shown.startswith("emlc: error: ")
    assert message in message_shown
    assert "Traceback" not in message_shown
    assert not (tmp_path / "out").exists()


def test_options_without_meaning_for_times_are_refused(capsys):
    assert main(["reproduce", "table3", "--seeds", "[0]", "--processes", "2"]) == 2
    assert "seeds, processes: cannot be given with table3" in capsys.readouterr().err


def runs_of(file):
    """What a study's file makes its script run, by label."""
    if file.stem.startswith("label_issues"):
        return {name: job(values) for name, values in cases_from(file).items()}
    study = search_from(file, {"data": "digits"}) if file.stem == "search" else grid_from(file)
    return {(each.row.label, each.column.label, each.seed): each.job for each in cells(study)}


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_file_of_a_study_is_understood_and_makes_no_run_twice(file):
    runs = runs_of(file)
    assert len(runs) > 1
    assert len({each.key for each in runs.values()}) == len(runs)


def test_methods_of_a_study_may_be_in_what_all_rows_share():
    study = grid_from(BENCHMARKS / "exact.yaml")
    rows = tuple(Part(row.label, {}) for row in study.rows)
    shared = replace(study, common={**study.common, "method": "glc"}, rows=rows)
    assert len(restricted(shared, None, ["glc"]).rows) == 6
    with pytest.raises(InputError, match="methods: exact has glc, k = 10, approximate"):
        restricted(shared, None, ["emlc"])


def test_other_data_are_refused_where_columns_name_their_own():
    study = grid_from(BENCHMARKS / "digits.yaml")
    assert {each.job.settings.data for each in cells(_with_data(study, "cifar10"))} == {"cifar10"}
    with pytest.raises(InputError, match=r"data: cannot be given with unequal_classes, whose .* 70 % in one"):
        _with_data(grid_from(BENCHMARKS / "unequal_classes.yaml"), "cifar10")


def test_a_study_without_rows_is_refused(tmp_path):
    (tmp_path / "study.yaml").write_text("title: A study\nseeds: [0]\nsettings: {}\ncolumns: {}\n")
    with pytest.raises(InputError, match="rows: expected a dict, got None"):
        grid_from(tmp_path / "study.yaml")
