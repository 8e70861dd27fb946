"""The options that select an experiment's scale, data sets and number of trusted samples."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emlc.errors import InputError
from emlc.reproduce.protocol import DataName, Protocol, Scale, make_protocol


class Choice:
    """The options of the command that decide what an experiment consists of.

    Args:
        scale: small, features or paper.
        data: At small scale, the data set to use instead of digits; else the only one to run.
        data_root: Folder that holds data sets given by name.
        trusted_per_class: Trusted samples per class at scale features, in place of 1,000 in all.

    Raises:
        InputError: An option has no meaning at this scale, or there is no such folder.
    """

    def __init__(
        self,
        scale: Scale,
        data: str | None = None,
        data_root: str | None = None,
        trusted_per_class: int | None = None,
    ) -> None:
        self.scale, self._data, self._data_root = scale, data, data_root
        self._trusted_per_class = trusted_per_class
        if trusted_per_class is not None and (scale != "features" or trusted_per_class < 1):
            found = f"{trusted_per_class} at scale {scale}"
            raise InputError(f"trusted_per_class: expected 1 or more, at scale features only, got {found}")
        if scale == "features" and data_root is not None and not Path(data_root).expanduser().is_dir():
            raise InputError(
                f"data_root: there is no folder {data_root!r}; expected the one that holds the folders "
                "cifar10 and cifar100 with train-*.parquet and test-*.parquet files"
            )

    def protocols(self, *names: DataName) -> list[Protocol]:
        """Return the protocols of an experiment that the paper ran on these data sets; one at small scale.

        Raises:
            InputError: The chosen data set is none of the experiment's.
        """
        if self.scale == "features" and names == ("clothing1m",):
            names = ("cifar10", "cifar100") if self._data else ("cifar10",)
        chosen: Iterable[Any] = [self._data or "digits"] if self.scale == "small" else names
        if self.scale != "small" and self._data is not None:
            chosen = [name for name in names if name == self._data]
            if not chosen:
                raise InputError(f"data: expected one of {', '.join(names)} here, got {self._data!r}")
        options = (self._data_root, self._trusted_per_class)
        return [make_protocol(self.scale, name, *options) for name in chosen]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Default seeds: three at small scale, else five as in the paper."""
        return tuple(range(3 if self.scale == "small" else 5))
