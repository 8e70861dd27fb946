"""The loop: what it hands to a method, which epoch it chooses, and what it leaves on disk."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny
from emlc.config.methods import method_class
from emlc.errors import InputError
from emlc.methods import emlc as emlc_module
from emlc.methods.cross_entropy import CrossEntropy
from emlc.runs import fit as fit_module
from emlc.runs.checkpoint import Progress
from emlc.runs.fit import PendingLosses, chosen_epoch, fit
from emlc.runtime.distributed import pick_device

CPU = torch.device("cpu")


class Silent:
    def on_start(self, progress: Progress, steps_per_epoch: int) -> None: ...
    def on_step(self, progress: Progress) -> None: ...
    def on_epoch(self, progress: Progress) -> None: ...


class Recorder(CrossEntropy):
    """Takes k noisy batches and a trusted one, and counts its steps in the student's last bias."""

    uses_trusted = True

    def __init__(self, settings, inputs, num_classes):
        super().__init__(settings, inputs, num_classes)
        self.look_ahead = settings.look_ahead
        self.seen = []
        self.learning_rates = []
        torch.nn.init.zeros_(self.student[-1].bias)

    def step(self, noisy, trusted) -> dict[str, Tensor]:
        self.seen.append(([batch.positions.tolist() for batch in noisy], trusted.positions.tolist()))
        self.learning_rates.append(self.student_sgd.param_groups[0]["lr"])
        with torch.no_grad():
            self.student[-1].bias += 1
        return {"student_loss": torch.tensor(float(len(self.seen)))}


def record(folder, **changes):
    settings = tiny.settings(**changes)
    split = tiny.split(settings)
    method = Recorder(settings, split.noisy.inputs, 3)
    return method, split, fit(method, split, settings, Silent(), folder, tiny.ALONE).history


def train(folder, split=None, **changes):
    """The history of a real training, and the weights it left: chosen and last."""
    settings = tiny.settings(**changes)
    split = split or tiny.split(settings)
    torch.manual_seed(settings.seed)
    method = method_class(settings.method)(settings, split.noisy.inputs, 3)
    history = fit(method, split, settings, Silent(), folder, tiny.ALONE).history
    return history, weights(folder, "chosen"), weights(folder, "last")


def weights(folder, which):
    return {
        f"{path.stem}.{name}": tensor
        for path in sorted((folder / which).glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


# Look-ahead groups


@pytest.mark.parametrize(
    ("k", "groups"),
    [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (5, [4])],
)
def test_an_epochs_leftover_is_a_shorter_look_ahead(tmp_path, k, groups):
    method, split, _ = record(tmp_path, look_ahead=k, epochs=3)  # 63 noisy samples in batches of 16
    assert [len(noisy) for noisy, _ in method.seen] == 3 * groups
    for epoch in range(3):
        of_epoch = method.seen[epoch * len(groups) : (epoch + 1) * len(groups)]
        visited = [p for noisy, _ in of_epoch for batch in noisy for p in batch]
        assert sorted(visited) == list(range(len(split.noisy)))


def test_trusted_batches_cycle_across_epochs(tmp_path):
    method, split, _ = record(tmp_path, epochs=3, look_ahead=2)
    assert len(split.trusted) == 12
    visits = [p for _, trusted in method.seen for p in trusted]
    assert len(visits) == 6 * 8
    assert np.bincount(visits).tolist() == [4] * 12


def test_trusted_only_takes_as_many_steps_as_the_others(tmp_path):
    steps = {
        name: train(tmp_path / name, method=name, epochs=1)[0][0]["steps"]
        for name in ("trusted-only", "cross-entropy", "emlc")
    }
    assert set(steps.values()) == {4}


def test_losses_are_averaged_over_the_epochs_steps(tmp_path):
    _, _, history = record(tmp_path, epochs=2)
    assert [row["student_loss"] for row in history] == [np.mean([1, 2, 3, 4]), np.mean([5, 6, 7, 8])]
    assert [row["steps"] for row in history] == [4, 8]
    assert [row["epoch"] for row in history] == [1, 2]


# Losses that are read later than they are made


def losses_of(step):
    return {"one": torch.tensor(float(step)), "other": torch.tensor(-2.0 * step, dtype=torch.bfloat16)}


class FromAfar(PendingLosses):
    """As on a GPU: what is sent for is not here at once."""

    class Arrival:
        def synchronize(self):
            pass

    def _send(self):
        return super()._send()._replace(arrived=self.Arrival())


def test_what_is_here_is_not_held_back():
    pending, progress = PendingLosses(tiny.ALONE), Progress()
    pending.append(losses_of(1))
    pending.flush(progress, wait=False)
    assert progress.losses == {"one": [1], "other": [-2]}


def test_a_loss_that_is_not_finite_is_told_when_it_arrives():
    pending, progress = FromAfar(tiny.ALONE), Progress(epoch=2)
    pending.append({"one": torch.tensor(math.inf)})
    pending.flush(progress, wait=False)
    with pytest.raises(FloatingPointError, match="one is not finite in epoch 3"):
        pending.flush(progress, wait=True)
    assert progress.losses == {}


@pytest.mark.parametrize("waits", [[True], [False], [False, False, True, True], [True, False]], ids=str)
@pytest.mark.parametrize("steps_between", [1, 3])
def test_losses_arrive_in_their_order_and_once(waits, steps_between):
    pending, progress = FromAfar(tiny.ALONE), Progress()
    taken = 0
    for flush in range(6):
        arrived = taken
        for _ in range(steps_between):
            taken += 1
            pending.append(losses_of(taken))
        wait = waits[flush % len(waits)]
        pending.flush(progress, wait=wait)
        if wait:
            arrived = taken
        expected = [float(step) for step in range(1, arrived + 1)]
        assert progress.losses.get("one", []) == expected
        assert progress.losses.get("other", []) == [-2 * loss for loss in expected]
    for _ in range(2):
        pending.flush(progress)
        assert progress.losses["one"] == [float(step) for step in range(1, taken + 1)]


def test_flushing_nothing_gives_nothing():
    progress = Progress()
    for wait in (False, True):
        PendingLosses(tiny.ALONE).flush(progress, wait=wait)
    assert progress.losses == {}


def test_means_are_of_the_losses_that_are_there():
    pending, progress = FromAfar(tiny.ALONE), Progress()
    means = []
    for step in range(1, 9):
        if step == 5:  # another epoch begins
            pending.flush(progress)
            assert progress.mean_losses() == {
                "one": np.mean([1, 2, 3, 4]),
                "other": np.mean([-2, -4, -6, -8]),
            }
            progress.epoch_steps = 0
        pending.append(losses_of(step))
        progress.steps += 1
        progress.epoch_steps += 1
        pending.flush(progress, wait=False)
        means.append(progress.mean_losses().get("one"))
    assert means == [None, 1, 1.5, 2, None, 5, 5.5, 6]


def test_a_loss_that_begins_later_has_a_mean_of_its_own():
    progress = Progress(steps=6, epoch_steps=2)
    progress.losses = {"student": [9.0, 9, 9, 9, 1, 3], "teacher": [5.0, 6]}
    assert progress.mean_losses() == {"student": 2, "teacher": 5.5}


@pytest.mark.parametrize("checkpoint_every", [None, 3])
@pytest.mark.parametrize("flush_every", [1, 3, 20])
def test_every_loss_of_a_run_is_kept(tmp_path, monkeypatch, flush_every, checkpoint_every):
    monkeypatch.setattr(fit_module, "FLUSH_EVERY", flush_every)
    seen = []
    monkeypatch.setattr(Silent, "on_step", lambda _, progress: seen.append(progress.mean_losses()))
    _, _, history = record(tmp_path, epochs=2, checkpoint_every=checkpoint_every)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["progress"]["losses"] == {"student_loss": [float(step) for step in range(1, 9)]}
    assert [row["student_loss"] for row in history] == [2.5, 6.5]
    assert bool(seen[3]) == (flush_every < 20 or checkpoint_every is not None)


# The schedule


def test_a_constant_learning_rate(tmp_path):
    method, _, history = record(tmp_path, epochs=2, schedule="constant")
    assert method.learning_rates == [0.1] * 8
    assert [row["learning_rate"] for row in history] == [0.1, 0.1]


@pytest.mark.parametrize("k", [1, 3])
def test_the_cosine_falls_from_the_learning_rate_to_zero_over_all_steps(tmp_path, k):
    method, _, history = record(tmp_path, epochs=3, schedule="cosine", look_ahead=k)
    total = 3 * math.ceil(4 / k)
    expected = [0.1 * (1 + math.cos(math.pi * step / total)) / 2 for step in range(total)]
    assert method.learning_rates == pytest.approx(expected, rel=1e-12)
    assert [row["learning_rate"] for row in history] == pytest.approx(expected[total // 3 - 1 :: total // 3])


def test_the_cosine_scales_the_teachers_learning_rate_alike(tmp_path, monkeypatch):
    rates = []
    original = method_class("emlc").step

    def step(self, *batches):
        rates.append(tuple(o.param_groups[0]["lr"] for o in self.optimizers().values()))
        return original(self, *batches)

    monkeypatch.setattr(method_class("emlc"), "step", step)
    train(tmp_path, schedule="cosine", teacher_learning_rate=0.03, epochs=1)
    assert len({student for student, _ in rates}) == 4
    assert [teacher for _, teacher in rates] == pytest.approx([0.3 * student for student, _ in rates])


# Model choice


def rows(*figures):
    names = ("choice_accuracy", "choice_loss", "test_accuracy")
    return [{"epoch": e, **dict(zip(names, f, strict=True))} for e, f in enumerate(figures, start=1)]


@pytest.mark.parametrize(
    ("history", "chosen"),
    [
        (rows((80, 1.0, 50), (90, 2.0, 40), (85, 0.1, 99)), 2),  # accuracy, neither loss nor test
        (rows((90, 0.5, 50), (90, 0.4, 40), (90, 0.6, 99)), 2),  # a tie: the lower loss
        (rows((90, 0.5, 10), (90, 0.5, 99)), 1),  # a full tie: the earlier epoch
        (
            [row | {"warm_up": row["epoch"] < 3} for row in rows((95, 0.1, 99), (94, 0.1, 99), (80, 1.0, 9))],
            3,
        ),
        ([row | {"warm_up": 1.0} for row in rows((95, 0.1, 99), (96, 0.1, 99))], 0),  # none yet
        ([row | {"latest_wins": 1.0} for row in rows((95, 0.1, 99), (80, 1.0, 9))], 2),
        ([row | {"latest_wins": 0.0} for row in rows((95, 0.1, 9), (80, 1.0, 99))], 1),
    ],
)
def test_the_choice(history, chosen):
    assert chosen_epoch(history) == chosen


@pytest.mark.parametrize(
    ("teacher", "validated", "latest"),
    [("noise-aware", False, 1.0), ("noise-aware", True, 0.0), ("gate", False, 0.0), ("gate", True, 0.0)],
)
def test_the_latest_epoch_wins_where_only_samples_that_the_teacher_learned_could_choose(
    tmp_path, teacher, validated, latest
):
    settings = tiny.settings(teacher=teacher)
    split = replace(tiny.split(settings), validation=tiny.unlike(9, 1) if validated else None)
    history, _, _ = train(tmp_path, split, teacher=teacher)
    assert [row["latest_wins"] for row in history] == [latest, latest]


def test_the_weights_on_disk_are_those_of_the_chosen_and_the_last_epoch(tmp_path, monkeypatch):
    figures = iter(rows((50, 1.0, 90), (70, 0.9, 50), (70, 0.8, 40), (70, 0.85, 30), (60, 0.1, 99)))
    monkeypatch.setattr(fit_module, "epoch_metrics", lambda *_: next(figures))
    record(tmp_path, epochs=5)
    assert weights(tmp_path, "chosen")["student.classifier.bias"].tolist() == [12.0] * 3  # 4 steps an epoch
    assert weights(tmp_path, "last")["student.classifier.bias"].tolist() == [20.0] * 3


@pytest.mark.parametrize(
    ("knows_truth", "accuracies", "computed"),
    [
        (True, (90, 60, 70, 40), [1, 2, 3, 4]),
        (False, (90, 60, 70, 40), [1, 4]),
        (False, (50, 60, 30, 40), [1, 2, 4]),
        (False, (50, 20, 30, 90), [1, 4]),
    ],
    ids=str,
)
def test_noisy_samples_are_estimated_in_chosen_epochs_the_last_and_where_the_truth_is_known(
    tmp_path, monkeypatch, knows_truth, accuracies, computed
):
    figures = iter(rows(*((accuracy, 0.0, 0.0) for accuracy in accuracies)))
    monkeypatch.setattr(fit_module, "epoch_metrics", lambda *_: next(figures))
    settings = tiny.settings(method="mw-net", epochs=4)
    split = tiny.split(settings)
    if not knows_truth:
        split = replace(split, noisy=replace(split.noisy, true_labels=None))
    method = method_class("mw-net")(settings, split.noisy.inputs, 3)
    epochs, estimate = [], method.estimate
    monkeypatch.setattr(method, "estimate", lambda: epochs.append(method.epoch + 1) or estimate())
    fit(method, split, settings, Silent(), tmp_path, tiny.ALONE)
    assert epochs == computed
    assert torch.equal(weights(tmp_path, "last")["samples.weights"], estimate().weights)


def test_the_test_set_changes_nothing(tmp_path):
    changes = {"epochs": 4, "learning_rate": 0.5}
    alone, chosen, last = train(tmp_path / "alone", **changes)
    for name, wrong in (("tested", 0.0), ("mistested", 1.0)):
        test = tiny.samples(45, seed=9, wrong=wrong, prefix="test")
        test = replace(test, true_labels=None)
        tested, chosen_tested, last_tested = train(
            tmp_path / name, tiny.split(tiny.settings(), test=test), **changes
        )
        assert [row["test_accuracy"] for row in tested]
        assert chosen_epoch(tested) == chosen_epoch(alone)
        assert tiny.same_tensors(chosen, chosen_tested)
        assert tiny.same_tensors(last, last_tested)


def test_a_validation_set_decides_and_changes_nothing_else(tmp_path):
    # On labels that are all wrong, the student is best while it has learned least.
    mistaken = tiny.samples(60, seed=5, wrong=1, prefix="validation")
    mistaken = replace(mistaken, true_labels=None)
    changes = {"epochs": 4, "learning_rate": 0.02}
    split = tiny.split(tiny.settings())
    history, chosen, last = train(tmp_path / "trusted", split, **changes)
    validated = train(tmp_path / "validated", replace(split, validation=mistaken), **changes)
    accuracies = [row["validation_accuracy"] for row in validated[0]]
    assert [row["choice_accuracy"] for row in validated[0]] == accuracies
    assert [row["choice_accuracy"] for row in history] == [row["trusted_accuracy"] for row in history]
    assert chosen_epoch(validated[0]) != chosen_epoch(history)
    assert not tiny.same_tensors(chosen, validated[1])
    assert tiny.same_tensors(last, validated[2])


# Reproducible


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize(("least", "engine"), [(0.9, "finite-difference"), (2.0, "forward")])
@pytest.mark.filterwarnings("ignore::emlc.errors.SteepNetworkWarning")
def test_a_resumed_run_goes_on_with_the_engine_it_chose(tmp_path, monkeypatch, least, engine, steps):
    monkeypatch.setattr("emlc.meta.products.LEAST_COSINE", least)
    whole = train(tmp_path / "whole", look_ahead=2, epochs=4)
    with tiny.interrupted_after(steps):
        train(tmp_path / "run", look_ahead=2, epochs=4, checkpoint_every=1)
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["progress"]["steps"] == steps
    assert state["decisions"] == {"jvp": engine}

    kept = []
    record_step = emlc_module.record_step
    monkeypatch.setattr(
        emlc_module,
        "record_step",
        lambda *batch, keep_products: (
            kept.append(keep_products),
            record_step(*batch, keep_products=keep_products),
        )[1],
    )
    monkeypatch.setattr("emlc.meta.jvp.choose_engine", lambda *_, **__: pytest.fail("chosen anew"))
    check = "emlc.meta.products.Products._check_differences"
    monkeypatch.setattr(check, lambda *_: pytest.fail("compared anew"))
    resumed = train(tmp_path / "run", look_ahead=2, epochs=4)
    assert tiny.same_tensors(resumed[2], whole[2])
    assert set(kept) == {engine == "forward"}
    assert len(kept) == 2 * (8 - steps)


def test_a_step_schedule_falls_after_its_epochs(tmp_path):
    changes = {"schedule": "step", "schedule_epochs": [1, 3], "schedule_factor": 0.5, "epochs": 4}
    method, _, history = record(tmp_path, **changes)  # four steps an epoch
    expected = [0.1] * 4 + [0.05] * 8 + [0.025] * 4
    assert method.learning_rates == pytest.approx(expected)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.05, 0.05, 0.025])


# Errors


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "step", lambda *_: {"student_loss": torch.tensor(math.nan)})
    with pytest.raises(
        FloatingPointError, match="student_loss is not finite in epoch 1: lower learning_rate"
    ):
        record(tmp_path)
    assert not (tmp_path / "chosen").exists()


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_a_device_that_is_none(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=f"device: expected auto, cpu, cuda or cuda:N, got '{name}'"):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device():
    assert pick_device("auto") == CPU
    with pytest.raises(InputError, match=r"device: cuda:1 was asked for, but torch .* finds no CUDA device"):
        pick_device("cuda:1")


def test_a_fit_returns_what_its_checkpoint_holds_and_always_leaves_chosen_weights(tmp_path):
    settings = tiny.settings(method="cross-entropy", epochs=2)
    split = tiny.split(settings)
    method = method_class("cross-entropy")(settings, split.noisy.inputs, 3)
    progress = fit(method, split, settings, Silent(), tmp_path, tiny.ALONE)
    assert progress.losses == torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["losses"]
    assert len(progress.losses["student_loss"]) == progress.steps
    shutil.rmtree(tmp_path / "chosen")
    again = fit(method, split, settings, Silent(), tmp_path, tiny.ALONE, resumable=False)
    assert again == progress
    assert tiny.same_tensors(weights(tmp_path, "chosen"), weights(tmp_path, "last"))
