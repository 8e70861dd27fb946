"""What commands import: torch takes seconds, and neither help nor an error has to wait for it."""

import json
import subprocess
import sys
import textwrap

from emlc.cli.main import COMMANDS

REFUSED = {  # arguments of a command, and what its error says
    ("apply", "runs/absent", "decisions.csv"): "runs/absent: not a run directory",
    ("apply", "run", "absent.csv"): "absent.csv: cannot be read: No such file or directory",
    ("bench", "step", "--repetitions", "0"): "repetitions: expected at least 1",
    ("correct", "run", "absent.csv"): "absent.csv: no such file or folder",
    ("correct", "runs/absent"): "runs/absent: not a run directory",
    ("demo", "--epochs", "many"): "epochs: expected",
    ("draw", "absent.csv"): "absent.csv: no such file or folder",
    ("embed", "absent.csv", "--output", "x.parquet"): "absent.csv: no such file or folder",
    ("evaluate", "runs/absent"): "runs/absent: not a run directory",
    ("export", "runs/absent", "--to", "csv"): "runs/absent: not a run directory",
    ("methods", "emlc"): "emlc",
    ("predict", "run", "absent.csv"): "absent.csv: no such file or folder",
    ("predict", "runs/absent", "decisions.csv"): "runs/absent: not a run directory",
    ("presets", "cifar10"): "cifar10",
    ("pretrain", "absent.npz"): "absent.npz: no such file or folder",
    ("report", "runs/absent"): "runs/absent: not a run directory",
    ("review", "runs/absent"): "runs/absent: not a run directory",
    ("report", "run", "--samples", "-1"): "samples: expected 0 or more",
    ("reproduce", "table9"): "experiment: expected one of table1",
    ("train", "absent.csv", "--trusted_per_class", "3"): "absent.csv: no such file or folder",
    ("train", "absent*.parquet", "--trusted_per_class", "3"): "absent*.parquet: no such file or folder",
    ("train", "digits", "--trusted", "absent.csv"): "absent.csv: no such file or folder",
    ("train", "digits", "--trusted_per_class", "3", "--epochs", "0"): "epochs: expected",
}

WITHOUT = """
import contextlib, io, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in sys.argv[1].split(), f"{name} is imported"

sys.meta_path.insert(0, Refuse())
"""

RUN_COMMANDS = """
from emlc.cli import main

for argv in json.loads(sys.argv[2]):
    with contextlib.redirect_stderr(io.StringIO()) as messages:
        status = main(argv)
    print(json.dumps([status, messages.getvalue()]))
"""

TRAIN = """
import numpy as np
import emlc

rng = np.random.default_rng(0)
trusted = np.arange(60) < 10
samples = emlc.Samples.from_arrays(rng.normal(size=(60, 5)), rng.integers(0, 2, 60), trusted=trusted)
settings = emlc.Settings(epochs=1, rivals=False, output="made", device="cpu")
run = emlc.train(settings, samples)
print(len(run.correct_labels(samples)), run.predict_proba(samples.inputs).shape)
"""

USE = """
import numpy as np
import emlc
import emlc.report

samples = emlc.Samples.from_arrays(np.zeros((60, 5)), np.arange(60) % 2)
run = emlc.Run.load("made", device="cpu")
compilers = [name for name in sys.modules if name.startswith("torch._dynamo")]
print(len(run.predict_proba(samples.inputs)), len(run.correct_labels(samples)), compilers)
"""


def output(code: str, *arguments: str, folder) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_errors_of_every_command_come_before_torch(tmp_path):
    assert {argv[0] for argv in REFUSED} == COMMANDS.keys()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/settings.yaml").write_text("data: digits\ntrusted_per_class: 3\n")
    (tmp_path / "decisions.csv").write_text("id,decision,label,given_label,suggested_label\n")
    lines = output(WITHOUT + RUN_COMMANDS, "torch torchvision", json.dumps([*REFUSED]), folder=tmp_path)
    results = [json.loads(line) for line in lines.splitlines()]
    for (argv, expected), (status, message) in zip(REFUSED.items(), results, strict=True):
        assert status == 2, argv
        assert expected in message, argv


def test_a_table_is_trained_on_without_torchvision_and_its_run_used_without_torchs_compiler(tmp_path):
    # torchvision takes as long to import as torch; the compiler, and sympy which it imports, a second.
    assert output(WITHOUT + TRAIN, "torchvision", folder=tmp_path) == "60 torch.Size([60, 2])\n"
    assert output(WITHOUT + USE, "torchvision sympy sklearn matplotlib", folder=tmp_path) == "60 60 []\n"
