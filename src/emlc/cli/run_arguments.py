"""Arguments that the commands on a finished run share: RUN, its weights, and DATA read as in training."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.config import DataSettings
from emlc.config.checks import data_problems, out_of_range, wrong_types
from emlc.config.sources import check_source
from emlc.errors import InputError, raise_together
from emlc.runs.stored_settings import check_run

if TYPE_CHECKING:
    from emlc.data import Samples
    from emlc.data.rows_on_disk import Portions
    from emlc.runs.run import Run
    from emlc.runtime.distributed import Ranks


PART_ROWS = 16_384
"""Number of rows of a part, by default."""


@dataclass(frozen=True, kw_only=True)
class ReadSettings(DataSettings):
    """Settings for reading DATA, the device to embed it on, and whether processes wait for each other.

    Raises:
        InputError: lists every field out of range and every pair of fields that clash.
    """

    device: str = "auto"
    waits: bool = True

    def __post_init__(self) -> None:
        problems = list(wrong_types(self)) or [*out_of_range(self), *data_problems(self)]
        raise_together(problems, "the settings")


def add_parts_argument(parser: ArgumentParser) -> None:
    """Add --part_rows, for outputs that are made in parts."""
    parser.add_argument(
        "--part_rows",
        type=int,
        default=PART_ROWS,
        help="rows of a part: a process holds one in memory, and a killed command goes on after the last one",
    )


def check_before_torch(arguments: Namespace) -> None:
    """Check RUN, DATA and --part_rows; torch takes seconds to import."""
    if arguments.part_rows < 1:
        raise InputError(f"part_rows: expected at least 1, got {arguments.part_rows}")
    check_run(Path(arguments.run))
    if arguments.data is not None:
        check_source(arguments.data)


def add_run_arguments(parser: ArgumentParser, data_help: str, *, data_required: bool = False) -> None:
    """Add RUN, DATA, --label_column, and which weights to use on which device."""
    add_weights_arguments(parser)
    parser.add_argument("data", type=str | None, nargs=None if data_required else "?", help=data_help)
    parser.add_argument(
        "--label_column", type=str | None, help="label column of DATA, if it is not that of the training data"
    )
    parser.add_argument(
        "--classes",
        type=list[str] | None,
        help="names of the classes that integer labels of DATA stand for, in their order from 0",
    )
    parser.add_argument(
        "--separator", type=str | None, help="cell separator of a CSV file (default: found by content)"
    )
    parser.add_argument(
        "--encoding", type=str | None, help="encoding of a CSV file (default: found by content)"
    )
    parser.add_argument(
        "--drop_unlabelled", type=bool, default=False, help="leave out samples without a label"
    )
    parser.add_argument(
        "--drop_untrusted_classes",
        type=bool,
        default=False,
        help="leave out samples of classes that the run does not have",
    )
    parser.add_argument(
        "--skip_unreadable", type=bool, default=False, help="leave out images of DATA that cannot be read"
    )


def add_weights_arguments(parser: ArgumentParser) -> None:
    """Add RUN, and which weights to use on which device."""
    parser.add_argument("run", type=str, help="run directory of `emlc train`")
    parser.add_argument(
        "--weights",
        type=Literal["chosen", "last"],
        default="chosen",
        help="weights of the chosen or of the last epoch",
    )
    parser.add_argument("--device", type=str, default="auto", help="auto | cpu | cuda | cuda:N")
    add_trust_argument(parser, "the run names")


def add_trust_argument(parser: ArgumentParser, whose: str) -> None:
    """Add --trust_code, for code that "the run names", say."""
    parser.add_argument(
        "--trust_code",
        action="store_true",
        help=f"trust what {whose}: run its code (a backbone module:factory) and write to its cache folders, "
        "even if these were not used here before",
    )


def alone_in_run(
    command: Callable[[Namespace], None], *, shares: bool = False
) -> Callable[[Namespace], None]:
    """Let a command hold the lock of RUN, from its first look to its last file, if its output lies there.

    Two at once would each replace what the other has written; beside a training it would read of one epoch,
    and write over the results of another. With ``shares`` the processes of ``torchrun`` work together, and
    the first of them holds the lock.
    """

    @wraps(command)
    def locked(arguments: Namespace) -> None:
        from emlc.runtime.locks import in_use, warn_if_in_use

        folder = Path(arguments.run)
        writes = arguments.output is None or _is_in(arguments.output, folder)
        is_first = not shares or int(os.environ.get("RANK", 0)) == 0
        is_run = is_first and (folder / "settings.yaml").is_file()
        if is_run and not writes and not (folder / "summary.json").exists():
            warn_if_in_use(folder)
        with in_use(folder) if is_run and writes else nullcontext():
            command(arguments)

    return locked


def _is_in(output: str, folder: Path) -> bool:
    return Path(os.path.realpath(output)).is_relative_to(os.path.realpath(folder))


def load_run(arguments: Namespace, device: str | None = None) -> "Run":
    """Load RUN with the weights that were asked for, on this device, if it is given."""
    # torch takes seconds to import: check first what can be checked without.
    check_run(Path(arguments.run))
    if getattr(arguments, "data", None) is not None:
        check_source(arguments.data)
    from emlc.runs.run import Run

    return Run.load(
        arguments.run,
        which=arguments.weights,
        device=device or arguments.device,
        trust_code=arguments.trust_code,
    )


def read_samples(run: "Run", arguments: Namespace, role: Literal["data", "test", "predict"]) -> "Samples":
    """Read the samples of DATA in the same way as the run's training data."""
    from emlc.data import read

    settings = read_settings(run, arguments, role)
    return read(arguments.data, settings, role=role, schema=run.schema)


def open_portions(
    run: "Run", arguments: Namespace, role: Literal["data", "predict"], ranks: "Ranks"
) -> "tuple[Portions, dict[str, Any]]":
    """Open DATA to be read some rows at a time; return plain values that say how it is read, too."""
    from emlc.data import portions

    settings = read_settings(run, arguments, role)
    settings = replace(settings, device=str(ranks.device), waits=ranks.size == 1)
    opened = portions.open_portions(arguments.data, settings, ranks, role=role, schema=run.schema)
    values = asdict(settings)
    return opened, {name: values[name] for name in values if name not in ("device", "waits")}


def made_of(run: "Run", arguments: Namespace, **further: object) -> dict[str, Any]:
    """Return what the parts of an output are made of, besides DATA."""
    from emlc.runs.parts import digest_of

    names = ("command", "all_probabilities")
    return {
        **{name: getattr(arguments, name) for name in names if hasattr(arguments, name)},
        "networks": digest_of(run.folder / run.which),
        "schema": asdict(run.schema),
        **further,
    }


def read_settings(run: "Run", arguments: Namespace, role: Literal["data", "test", "predict"]) -> ReadSettings:
    """Return the settings by which DATA is read in the same way as the run's training data."""
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
    return ReadSettings(**values, device=arguments.device)


def output_path(run: "Run", arguments: Namespace, stem: str, ending: str = ".csv") -> Path:
    """Return the output to write: --output, or in the run directory, named after DATA and the weights."""
    from emlc.runs.outputs import default_path

    if arguments.output is not None:
        return Path(arguments.output)
    last = "-last" if arguments.weights == "last" else ""
    return default_path(run.folder, stem, f"{last}{ending}", arguments.data)
