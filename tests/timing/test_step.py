"""The benchmark of a step: its cases, the predictions of the cost model, and the records.

No test here says how long anything takes.
"""

import io
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from rich.console import Console

import tiny
from emlc.cli import main
from emlc.errors import InputError
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.mlc import MLC
from emlc.networks.standardize import Standardize
from emlc.runs.outputs import check_ours
from emlc.timing import features as features_module
from emlc.timing import step as step_module
from emlc.timing.building import build_method
from emlc.timing.cases import Case, left_out, make_cases, make_groups
from emlc.timing.cost import forward_passes
from emlc.timing.hardware import describe_hardware
from emlc.timing.memory import peak_of_cpu, state_bytes
from emlc.timing.options import StepOptions
from emlc.timing.report import PLOT, save_plot, tables
from emlc.timing.step import measure_steps

SMALL = {
    "networks": ["cnn"],
    "image_size": 8,
    "noisy_batch": [6],
    "trusted_batch": [4],
    "classes": [3],
    "device": "cpu",
    "repetitions": 2,
    "look_ahead": [2],
    "precisions": ["float32"],
    "memory_formats": ["channels_last"],
}
ISSUE = {
    *("method", "k", "engine", "meta_gradient", "precision", "memory_format", "device", "network"),
    *("noisy_batch", "trusted_batch", "seconds_per_image", "ratio_to_erm", "over_model"),
    "peak_memory_bytes",
}


def options(**changes):
    return StepOptions(**(SMALL | changes))


def cases(*, cuda=False, tf32=False, **changes):
    return make_cases(options(**changes), cuda=cuda, tf32=tf32)


def plain(method="cross-entropy", captured=False, **kind):
    return Case(method, "float32", "channels_last", captured, **kind)


def emlc(k, engine, meta_gradient="approximate"):
    return plain("emlc", k=k, engine=engine, meta_gradient=meta_gradient)


# --- the model ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "passes"),
    [
        (plain(), 3),
        (emlc(1, "finite-difference"), 3 * 160 / 128 + 3 + 3 / 4 + 1),
        (emlc(1, "forward"), 9.5),
        (emlc(1, "forward").plain, 10.5),
        (emlc(1, "double-backward"), 12.5),
        (emlc(1, "forward").authors, 10.5),
        (emlc(5, "forward"), 3 * (128 + 6.4) / 128 + 3 + 3 * 32 / (5 * 128) + 2),
        (emlc(5, "forward", "exact"), 3.15 + 3 + 0.15 + 9),
        (emlc(5, "double-backward", "exact"), 15.3),
        (plain("mlc", engine="double-backward"), 3 + 0.375 + 2 * 0.375 + 2),
        (plain("mlc-pruned", engine="double-backward"), 5.75),
    ],
)
def test_model_by_hand(case, passes):
    assert sum(forward_passes(case, 128, 32).values()) == pytest.approx(passes)


# --- which cases -------------------------------------------------------------------------------


def test_impossible_combinations_are_left_out():
    kinds = cases(precisions=["float32", "bf16-mixed"], methods=["emlc"])
    differences = [case for case in kinds if case.engine == "finite-difference"]
    assert [(case.precision, case.meta_gradient) for case in differences] == [("float32", "approximate")]
    assert len([case for case in kinds if case.method == "emlc"]) == 1 + 2 * 2 * 2
    assert {case.method for case in kinds} == {"emlc", "cross-entropy"}
    assert len(kinds) == len(set(kinds))


def test_tf32_leaves_finite_differences_out():
    assert not [case for case in cases(cuda=True, tf32=True) if case.engine == "finite-difference"]


def test_graphs_are_captured_on_cuda_only():
    assert not [case for case in cases() if case.captured]
    methods = ["mlc", "emlc", "data"]
    eager, captured = (cases(cuda=True, captured=flag, methods=methods) for flag in ("false", "true"))
    assert {case.captured for case in captured} == {True}
    assert {case.method for case in eager} - {case.method for case in captured} == {"data"}
    assert left_out(options(methods=methods), captured) == ["data"]
    both = cases(cuda=True, methods=methods)
    assert set(both) == {*eager, *captured}
    assert {case.erm.captured for case in both if case.captured} == {True}


@pytest.mark.parametrize("captured", ["false", "true", "both"])
@pytest.mark.parametrize("precisions", [["bf16-mixed"], ["float32", "bf16-mixed"]])
@pytest.mark.parametrize("memory_formats", [["channels_last"], ["channels_last", "contiguous"]])
def test_straightforward_steps_are_measured_once_in_a_way_of_their_own(captured, precisions, memory_formats):
    kinds = cases(
        cuda=True,
        methods=["emlc", "emlc-plain", "emlc-authors"],
        engines=["double-backward"],
        meta_gradients=["exact"],
        look_ahead=[1, 5],
        captured=captured,
        precisions=precisions,
        memory_formats=memory_formats,
    )
    own = [case for case in kinds if case.method in ("emlc-plain", "emlc-authors")]
    assert {(case.method, case.k) for case in own} == {
        (method, k) for method in ("emlc-plain", "emlc-authors") for k in (1, 5)
    }
    assert len(own) == 4
    assert {(case.precision, case.memory_format, case.captured) for case in own} == {
        ("float32", "contiguous", False)
    }
    assert all(case.erm in kinds for case in own)
    assert left_out(options(methods=["emlc", "emlc-plain", "emlc-authors"]), kinds) == []


def test_methods_of_which_no_case_is_left_are_named():
    o = options(methods=["emlc", "mlc"], engines=["finite-difference"], precisions=["bf16-mixed"])
    assert left_out(o, make_cases(o, cuda=False, tf32=False)) == ["emlc"]
    err = io.StringIO()
    measure_steps(replace(o, repetitions=1), Console(file=err, width=200))
    assert "left out, as no combination of the other options suits them: emlc" in err.getvalue()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"captured": "true"}, "captured: CUDA graphs"),
        ({"captured": "true", "methods": ["emlc-plain"]}, "captured: CUDA graphs"),
        ({"methods": ["emlc"], "engines": ["finite-difference"], "precisions": ["bf16-mixed"]}, "engines"),
        ({"methods": ["emlc"], "engines": ["finite-difference"], "meta_gradients": ["exact"]}, "engines"),
    ],
)
def test_nothing_to_measure(changes, field):
    with pytest.raises(InputError, match=f"^{field}"):
        cases(**changes)


# --- measuring ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records():
    return measure_steps(options(engines=["finite-difference", "forward"]), Console(quiet=True))


def test_records_have_the_fields_that_were_asked_for(records):
    for record in records:
        assert asdict(record).keys() >= ISSUE
        json.dumps(asdict(record), allow_nan=False)
    assert [(r.method, r.k, r.engine, r.meta_gradient) for r in records] == [
        ("cross-entropy", 1, None, None),
        ("mlc", 1, "double-backward", None),
        ("mlc-pruned", 1, "double-backward", None),
        ("emlc", 2, "finite-difference", "approximate"),
        ("emlc", 2, "forward", "approximate"),
        ("emlc", 2, "forward", "exact"),
        ("data", 1, None, None),
        ("cross-entropy", 1, None, None),
        ("emlc-plain", 2, "forward", "approximate"),
        ("emlc-authors", 2, "forward", "approximate"),
    ]
    assert [r.memory_format for r in records] == ["channels_last"] * 7 + ["contiguous"] * 3


def test_figures_follow_from_the_seconds_of_every_round(records):
    for record in records:
        (erm,) = (r for r in records if r.case == record.case.erm)
        assert record.problem is None
        assert len(record.seconds) == 2
        ratios = [seconds / unit for seconds, unit in zip(record.seconds, erm.seconds, strict=True)]
        assert record.seconds_per_image == pytest.approx(median(record.seconds))
        assert record.ratio_to_erm == pytest.approx(median(ratios))
        assert min(ratios) <= record.ratio_spread[0] <= record.ratio_spread[1] <= max(ratios)
        if record.method != "data":
            passes = sum(forward_passes(record.case, 6, 4).values())
            assert record.over_model == pytest.approx(median(ratios) * 3 / passes)
    assert records[0].ratio_to_erm == records[0].over_model == 1
    assert [r.method for r in records if r.over_model is None] == ["data"]


def test_emlc_is_compared_with_the_straightforward_steps_whatever_its_format(records):
    plain, authors = records[-2:]
    for record in records:
        comparable = record.method == "emlc" and record.meta_gradient == "approximate"
        for ratio, other in ((record.ratio_to_plain, plain), (record.ratio_to_authors, authors)):
            expected = median(np.divide(record.seconds, other.seconds)) if comparable else None
            assert ratio == (expected if expected is None else pytest.approx(expected))


def test_a_straightforward_step_has_its_precision_where_others_have_another(monkeypatch):
    monkeypatch.setattr(step_module, "mean_seconds", lambda step, repeats, device: 1.0)
    records = measure_steps(options(methods=["emlc-plain"], precisions=["bf16-mixed"]), Console(quiet=True))
    assert [(r.method, r.precision, r.problem) for r in records] == [
        ("cross-entropy", "float32", None),
        ("emlc-plain", "float32", None),
    ]


def test_seconds_are_those_of_a_noisy_image(monkeypatch):
    monkeypatch.setattr(step_module, "mean_seconds", lambda step, repeats, device: 12.0)
    records = measure_steps(options(methods=["emlc"], engines=["forward"]), Console(quiet=True))
    assert [(r.k, r.seconds_per_image) for r in records] == [(1, 2.0), (2, 1.0), (2, 1.0)]


def test_every_round_runs_every_case_once_in_an_order_of_its_own(monkeypatch):
    calls = []
    monkeypatch.setattr(step_module, "mean_seconds", lambda step, repeats, device: calls.append(step) or 1.0)
    measure_steps(options(methods=["mlc", "mlc-pruned"], repetitions=5), Console(quiet=True))
    rounds = [tuple(calls[i : i + 3]) for i in range(0, 15, 3)]
    assert {frozenset(each) for each in rounds} == {frozenset(calls)}
    assert len(set(rounds)) > 1


def test_a_case_that_fails_is_reported_and_the_others_go_on(monkeypatch):
    def refuse(self, noisy, trusted):
        raise NotImplementedError("no such operator\nfurther lines")

    monkeypatch.setattr(MLC, "step", refuse)
    records = measure_steps(options(methods=["mlc", "emlc"], engines=["forward"]), Console(quiet=True))
    failed = records[1]
    assert failed.problem == "NotImplementedError: no such operator"
    assert failed.seconds_per_image is failed.ratio_to_erm is failed.over_model is None
    assert [r.problem for r in records if r is not failed] == [None] * 3
    text = printed(records)
    assert "failed" in text
    assert "mlc float32 channels_last: NotImplementedError: no such operator" in text


def test_steps_of_networks_that_diverged_are_no_figures(monkeypatch):
    plain_step = MLC.step

    def diverge(self, noisy, trusted):
        losses = plain_step(self, noisy, trusted)
        with torch.no_grad():
            next(self.student.parameters()).mul_(math.nan)
        return losses

    monkeypatch.setattr(MLC, "step", diverge)
    records = measure_steps(options(methods=["mlc"]), Console(quiet=True))
    assert [r.problem for r in records] == [None, "FloatingPointError: the networks diverged"]
    assert records[1].seconds_per_image is None


def test_without_the_plain_step_there_is_no_ratio(monkeypatch):
    def refuse(self, noisy, trusted):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(CrossEntropy, "step", refuse)
    records = measure_steps(options(methods=["mlc"]), Console(quiet=True))
    assert records[0].problem == "OutOfMemoryError: no memory"
    assert records[1].seconds_per_image > 0
    assert records[1].ratio_to_erm is records[1].ratio_spread is None
    assert "mlc" in printed(records)


def test_unknown_network_is_bad_input():
    with pytest.raises(InputError, match="backbone: there is no network 'cn'"):
        measure_steps(options(networks=["cn"]), Console(quiet=True))


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_memory_format_of_weights_and_images(memory_format):
    o = options(noisy_batch=[2])
    case = Case("emlc", "float32", memory_format, False, 2, "forward", "approximate")
    batch = step_module._Batches(make_groups(o)[0], o, torch.device("cpu")).noisy[0]
    method = build_method(case, make_groups(o)[0], o, tiny.ALONE, batch)
    form = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    for network in method.networks().values():
        (first,) = [m for m in network.modules() if isinstance(m, Standardize)]
        assert first(batch.inputs).is_contiguous(memory_format=form)
        weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
        assert all(weight.is_contiguous(memory_format=form) for weight in weights)
        assert network.training


@pytest.mark.parametrize("k", [1, 3])
def test_the_authors_step_is_ours_where_no_batch_norm_joins_their_samples(k):
    preset = "cifar10-authors-head"
    o = options(networks=["linear"], image_size=2, look_ahead=[k], preset=preset)
    case, group = emlc(k, "double-backward"), make_groups(o)[0]
    batches = step_module._Batches(group, o, torch.device("cpu"))
    ours, theirs = (build_method(c, group, o, tiny.ALONE, batches.noisy[0]) for c in (case, case.authors))
    start = ours.teacher.gate[0].weight.detach().clone()
    for method in (ours, theirs):
        for _ in range(2):
            losses = method.step(batches.noisy, batches.trusted)
        assert {"student_loss", "teacher_ce", "meta_objective"} <= losses.keys()
    assert (ours.teacher.gate[0].weight - start).abs().max() > 1e-7  # by the meta-gradient alone
    for name, network in ours.networks().items():
        for mine, other in zip(network.parameters(), theirs.networks()[name].parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_a_preset_is_one_of_emlc_train():
    with pytest.raises(InputError, match="has no preset 'cifar11'"):
        options(preset="cifar11")
    o = options(preset="cifar10-authors-head", methods=["emlc"])
    batch = step_module._Batches(make_groups(o)[0], o, torch.device("cpu")).noisy[0]
    for case, weight_decay in ((emlc(2, "forward"), 0.0005), (plain(), 0.0)):
        method = build_method(case, make_groups(o)[0], o, tiny.ALONE, batch)
        assert method.student_sgd.param_groups[0]["weight_decay"] == weight_decay


# --- memory ------------------------------------------------------------------------------------


def test_peak_of_known_allocations():
    def allocate():
        a = torch.empty(1000)
        b = torch.empty(500)
        del a
        c = torch.empty(700)
        return b.numel() + c.numel()

    assert peak_of_cpu(allocate) == 4 * 1500


def test_state_bytes_of_a_method_after_its_first_step(records):
    o = options()
    batches = step_module._Batches(make_groups(o)[0], o, torch.device("cpu"))
    method = build_method(plain(), make_groups(o)[0], o, tiny.ALONE, batches.noisy[0])
    weights = sum(p.nbytes for p in method.student.parameters())
    buffers = sum(b.nbytes for b in method.student.buffers())
    assert state_bytes(method) == weights + buffers
    method.step(batches.noisy[:1], None)
    assert state_bytes(method) == 2 * weights + buffers  # and the momentum
    # In a step there are gradients besides, and activations.
    assert records[0].peak_memory_bytes > 3 * weights + buffers


# --- tables and plots --------------------------------------------------------------------------


def printed(records):
    console = Console(width=200)
    with console.capture() as capture:
        for table in tables(records, "a machine"):
            console.print(table)
    return capture.get()


def test_table_names_the_teacher(monkeypatch):
    monkeypatch.setattr(step_module, "mean_seconds", lambda step, repeats, device: 1.0)
    chosen = {"methods": ["mlc", "emlc", "emlc-authors"], "engines": ["forward"]}
    chosen |= {"meta_gradients": ["approximate"], "memory_formats": ["contiguous"]}
    for preset, teacher in ((None, "noise-aware"), ("cifar10", "gate")):
        records = measure_steps(options(preset=preset, **chosen), Console(quiet=True))
        assert {r.method: r.teacher for r in records} == {
            "cross-entropy": None,
            "mlc": None,
            "emlc": teacher,
            "emlc-authors": "gate",
        }
        lines = [line.split() for line in printed(records).splitlines()]
        (heading,) = (line for line in lines if line[:1] == ["step"])
        assert heading[1] == "teacher"
        assert {tuple(line[:3]) for line in lines if line[:1] in (["emlc"], ["emlc-authors"])} == {
            ("emlc", "k=2", teacher),
            ("emlc-authors", "k=2", "gate"),
        }


def test_table_is_sorted_by_ratio(records):
    rows = [line.split() for line in printed(records).splitlines() if " ms/image" not in line]
    names = [row[0] for row in rows if row and row[0] in {r.method for r in records}]
    assert names == [r.method for r in sorted(records, key=lambda r: r.ratio_to_erm)]


def test_picture(records, tmp_path):
    other = measure_steps(options(classes=[5], methods=["mlc"]), Console(quiet=True))
    save_plot([*records, *other], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_hardware_of_the_cpu():
    hardware = describe_hardware(torch.device("cpu"))
    assert hardware["threads"] == torch.get_num_threads()
    assert hardware["capability"] == torch.backends.cpu.get_cpu_capability()
    assert hardware["device"]


# --- the command -------------------------------------------------------------------------------

COMMAND = ["bench", "step", "--device", "cpu", "--networks", '["cnn"]', "--image_size", "8"]
COMMAND += ["--noisy_batch", "[6]", "--trusted_batch", "[4]", "--repetitions", "1"]


def test_command_writes_measurements_and_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    chosen = ["--methods", '["mlc"]', "--precisions", '["float32"]', "--memory_formats", '["contiguous"]']
    assert main([*COMMAND, *chosen, "--plot", "bench.png", "--captured", "false"]) == 0
    out, err = capsys.readouterr()
    assert "mlc" in out
    assert "cnn, 6 noisy and 4 trusted images, 10 classes: 2 cases, 1 rounds" in err
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result.keys() == {"versions", "hardware", "command", "records"}
    assert result["command"].startswith("emlc bench step --device cpu --networks '[\"cnn\"]'")
    assert [(r["method"], r["memory_format"]) for r in result["records"]] == [
        ("cross-entropy", "contiguous"),
        ("mlc", "contiguous"),
    ]
    check_ours(Path("bench.png"), PLOT, usual=False)  # both may be replaced by the same command
    check_ours(Path("bench.json"), '"command": "emlc bench', usual=False)


@pytest.mark.parametrize("failing", [[MLC], [MLC, CrossEntropy]])
def test_the_command_fails_if_a_step_was_not_measured(failing, tmp_path, monkeypatch, capsys):
    def refuse(self, noisy, trusted):
        raise RuntimeError("no memory")

    for method in failing:
        monkeypatch.setattr(method, "step", refuse)
    monkeypatch.chdir(tmp_path)
    chosen = ["--methods", '["mlc"]', "--precisions", '["float32"]', "--memory_formats", '["contiguous"]']
    assert main([*COMMAND, *chosen, "--plot", "bench.png"]) == 1
    out, _ = capsys.readouterr()
    assert "mlc float32 contiguous: RuntimeError: no memory" in out
    problems = {r["method"]: r["problem"] for r in json.loads(Path("bench.json").read_text())["records"]}
    assert problems["mlc"] == "RuntimeError: no memory"
    assert Path("bench.png").exists() == (CrossEntropy not in failing)
    assert ("not written: bench.png" in out) == (CrossEntropy in failing)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["bench"], "what"),
        (["bench", "leap"], "what"),
        ([*COMMAND, "--methods", '["emcl"]'], "methods"),
        ([*COMMAND, "--look_ahead", "[0]"], "look_ahead: expected at least 1, got 0"),
        ([*COMMAND, "--trusted_batch", "[3]"], "trusted_batch: expected at least 4, got 3"),
        ([*COMMAND, "--networks", "[]"], "networks: expected at least one"),
        ([*COMMAND, "--classes", "[3,3]"], "classes: expected each once, got [3, 3]"),
        (["bench", "step", "--features", "--look_ahead", "[2]"], "look_ahead: plays no part with --features"),
        ([*COMMAND, "--repetitions", "0"], "repetitions: expected at least 1, got 0"),
        ([*COMMAND, "--captured", "true"], "captured: CUDA graphs need a CUDA device"),
        ([*COMMAND, "--captured", "maybe"], "captured"),
        ([*COMMAND, "--engines", '["magic"]'], "engines: expected a list in brackets, each item one of"),
        ([*COMMAND, "--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
        ([*COMMAND, "--output", "bench.csv"], "output: expected a file name that ends in .json"),
        ([*COMMAND, "--output", "folder.json"], "output: folder.json is a directory"),
        ([*COMMAND, "--networks", '["cn"]'], "there is no network 'cn'"),
    ],
)
def test_bad_input(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    message = [line for line in err.splitlines() if line.startswith("emlc: error: ")]
    assert len(message) == 1
    assert said in message[0]
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


def test_features_are_measured_beside_plain_training(tmp_path, monkeypatch, capsys, four_threads):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(features_module, "SHAPE", (60, 5))
    monkeypatch.setattr(features_module, "_TRUSTED", 20)
    options = ["--noisy_batch", "[8]", "--trusted_batch", "[4]", "--classes", "[3]", "--repetitions", "3"]
    assert main(["bench", "step", "--features", "--device", "cpu", *options]) == 0
    assert "60 x 5 features, 8 noisy + 4 trusted, 3 classes" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    records = written["records"]
    assert written["hardware"]["threads"] == records[0]["threads"] == 1  # as the loop takes for them
    assert [r["method"] for r in records] == ["cross-entropy", "emlc, gate", "emlc, noise-aware", "fasten"]
    plain = records[0]["seconds"]
    for r in records:
        ratios = np.divide(r["seconds"], plain)
        assert r["ratio_to_erm"] == pytest.approx(np.median(ratios))
        assert r["seconds_per_step"] == np.median(r["seconds"]) > 0
