"""Arguments that the commands on a finished run share: RUN, its weights, and DATA read as in training."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.config import DataSettings
from emlc.config.sources import check_source
from emlc.runs.stored_settings import check_run

if TYPE_CHECKING:
    from emlc.data import Samples
    from emlc.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class _ReadSettings(DataSettings):
    """Settings for reading DATA, and the device on which its texts are embedded."""

    device: str = "auto"


def add_run_arguments(parser: ArgumentParser, data_help: str, *, data_required: bool = False) -> None:
    """Add RUN, DATA, --label_column, and which weights to use on which device."""
    add_weights_arguments(parser)
    parser.add_argument("data", type=str | None, nargs=None if data_required else "?", help=data_help)
    parser.add_argument("--label_column", type=str | None, help="label column of DATA, if not as in training")
    parser.add_argument(
        "--classes",
        type=list[str] | None,
        help="names of the classes that integer labels of DATA stand for, in their order from 0",
    )
    parser.add_argument("--separator", type=str | None, help="of a CSV file (default: found by content)")
    parser.add_argument("--encoding", type=str | None, help="of a CSV file (default: found by content)")
    parser.add_argument(
        "--drop_unlabelled", type=bool, default=False, help="leave samples without a label out"
    )
    parser.add_argument(
        "--drop_untrusted_classes",
        type=bool,
        default=False,
        help="leave samples of classes out that the run does not have",
    )
    parser.add_argument(
        "--skip_unreadable", type=bool, default=False, help="leave images of DATA out that cannot be read"
    )


def add_weights_arguments(parser: ArgumentParser) -> None:
    """Add RUN, and which weights to use on which device."""
    parser.add_argument("run", type=str, help="run directory of `emlc train`")
    parser.add_argument(
        "--weights", type=Literal["chosen", "last"], default="chosen", help="of the chosen or the last epoch"
    )
    parser.add_argument("--device", type=str, default="auto", help="auto | cpu | cuda | cuda:N")
    add_trust_argument(parser, "the run names")


def add_trust_argument(parser: ArgumentParser, whose: str) -> None:
    """Add --trust_code, for code that "the run names", say."""
    parser.add_argument(
        "--trust_code",
        action="store_true",
        help=f"let code that {whose}, a backbone module:factory, run here for the first time, and let its "
        "cache folders be written to",
    )


def alone_in_run(command: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """Let a command hold the lock of RUN, from its first look to its last file, if its output lies there.

    Two at once would each replace what the other has written; beside a training it would read of one epoch,
    and write over the results of another.
    """

    @wraps(command)
    def locked(arguments: Namespace) -> None:
        from emlc.runtime.locks import in_use, warn_if_in_use

        folder = Path(arguments.run)
        writes = arguments.output is None or _is_in(arguments.output, folder)
        is_run = (folder / "settings.yaml").is_file()
        if is_run and not writes and not (folder / "summary.json").exists():
            warn_if_in_use(folder)
        with in_use(folder) if is_run and writes else nullcontext():
            command(arguments)

    return locked


def _is_in(output: str, folder: Path) -> bool:
    return Path(os.path.realpath(output)).is_relative_to(os.path.realpath(folder))


def load_run(arguments: Namespace) -> "Run":
    """Load RUN with the weights that were asked for."""
    # torch takes seconds to import: check first what can be checked without.
    check_run(Path(arguments.run))
    if getattr(arguments, "data", None) is not None:
        check_source(arguments.data)
    from emlc.runs.run import Run

    return Run.load(
        arguments.run,
        which=arguments.weights,
        device=arguments.device,
        trust_code=arguments.trust_code,
    )


def read_samples(run: "Run", arguments: Namespace, role: Literal["data", "test", "predict"]) -> "Samples":
    """Read the samples of DATA in the same way as the run's training data."""
    from emlc.data import read
    from emlc.runtime.trust import USUAL, is_known_folder

    values = {field.name: getattr(run.settings, field.name) for field in fields(DataSettings)}
    if not arguments.trust_code and not is_known_folder(run.settings.data_root):
        values["data_root"] = USUAL["data_root"]  # DATA by name may be downloaded into it
    if role == "data":  # labels are corrected without true labels or trusted samples
        values |= {"true_label_column": None, "trusted_column": None}
    for name in ("separator", "encoding"):  # those of the training data need not be those of DATA
        values[name] = getattr(arguments, name)
    for name in ("drop_unlabelled", "drop_untrusted_classes", "skip_unreadable"):
        values[name] = values[name] or getattr(arguments, name)
    if arguments.classes is not None:
        values["classes"] = arguments.classes
    if arguments.label_column is not None:
        values |= {"label_column": arguments.label_column, "true_label_column": None}
    if getattr(arguments, "true_label_column", None) is not None:
        values |= {"true_label_column": arguments.true_label_column}
    return read(
        arguments.data, _ReadSettings(**values, device=arguments.device), role=role, schema=run.schema
    )


def output_file(run: "Run", arguments: Namespace, stem: str) -> Path:
    """Return the file to write: --output, or in the run directory, named after DATA and the weights."""
    from emlc.runs.outputs import default_path

    if arguments.output is not None:
        return Path(arguments.output)
    last = "-last" if arguments.weights == "last" else ""
    return default_path(run.folder, stem, f"{last}.csv", arguments.data)
