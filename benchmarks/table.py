"""Compare emlc on tables of people with logistic regression and gradient boosting.

    python -m benchmarks.table ../shared/cases/table.py

The generator writes ``cust.csv`` (1,200 rows: numbers, categories, yes and no, dates, missing values; 35 %
of the labels are wrong), ``cust_checked.csv`` (60 trusted rows) and ``cust_test.csv`` (400 rows), anew for
each seed. The rivals are scikit-learn's, with the preprocessing that is usual for each: for logistic
regression medians with indicators, standardisation (or Yeo and Johnson's transformation, "power") and
one-hot categories; gradient boosting takes missing values and categories itself. Each learns from the
trusted rows alone, and from all rows.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PowerTransformer, StandardScaler

from emlc import EMLCClassifier
from emlc.reproduce.tables import cell, markdown_table
from emlc.timing.hardware import describe_hardware, describe_versions

_NUMBERS = ["age", "spend", "visits", "since"]
_CATEGORIES = ["city", "payment", "newsletter"]

Part = tuple[pd.DataFrame, "pd.Series[str]"]
"""Features and labels of the rows of a file."""


def table(
    generator: str,
    seeds: list[int] | None = None,
    epochs: list[int] | None = None,
    noisy_batch: int | None = None,
) -> None:
    """Train everything with every seed, and tabulate the accuracy on the test rows.

    Args:
        generator: The script that writes the tables: GENERATOR FOLDER SEED.
        seeds: Seeds of the data and of the training, 0 to 4 by default.
        epochs: Numbers of epochs of emlc; by default the one that it chooses.
        noisy_batch: Noisy samples per step of emlc; by default what it chooses.
    """
    accuracies: dict[tuple[str, str], list[float]] = {}
    for seed in seeds or range(5):
        parts = _parts(Path(generator), seed)
        for method, rows, accuracy in _accuracies(parts, seed, epochs or [None], noisy_batch):
            accuracies.setdefault((method, rows), []).append(100 * accuracy)
    lines = [[*names, cell(values)] for names, values in accuracies.items()]
    print(markdown_table(["method", "learns from", "test accuracy, %"], lines))
    known = {**describe_hardware(torch.device("cpu")), **describe_versions()}
    print(f"\nMean ± standard deviation over {len(seeds or range(5))} seeds; {known}.")


def _parts(generator: Path, seed: int) -> dict[str, Part]:
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, generator.resolve(), folder, str(seed)], check=True)
        return {name: _read(Path(folder) / f"cust{name}.csv") for name in ("", "_checked", "_test")}


def _read(path: Path) -> Part:
    frame = pd.read_csv(path)
    return frame.drop(columns="plan"), frame["plan"]


def _accuracies(
    parts: dict[str, Part], seed: int, epochs: Sequence[int | None], noisy_batch: int | None
) -> Iterator[tuple[str, str, float]]:
    """Yield each method, the rows that it learns from, and its accuracy."""
    (noisy, noisy_y), (trusted, trusted_y), (test, test_y) = parts.values()
    both, both_y = pd.concat([noisy, trusted]), pd.concat([noisy_y, trusted_y])
    for rows, (X, y) in {"trusted": (trusted, trusted_y), "all": (both, both_y)}.items():
        for name, model in _rivals(seed).items():
            yield name, rows, model.fit(_plain(X, both), y).score(_plain(test, both), test_y)
    is_trusted = np.arange(len(both)) >= len(noisy)
    for number in epochs:
        emlc = EMLCClassifier(epochs=number, noisy_batch=noisy_batch, device="cpu", random_state=seed)
        emlc.fit(both, both_y, trusted=is_trusted)
        yield f"emlc, {emlc.run_.settings.epochs} epochs", "all", emlc.score(test, test_y)


def _rivals(seed: int) -> dict[str, Any]:
    impute = SimpleImputer(strategy="median", add_indicator=True)
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist")
    scalers = {"": StandardScaler(), ", power": PowerTransformer()}
    logistic = {
        f"logistic regression{name}": make_pipeline(
            ColumnTransformer(
                [("numbers", make_pipeline(impute, scaler), _NUMBERS), ("categories", one_hot, _CATEGORIES)]
            ),
            LogisticRegression(max_iter=2000),
        )
        for name, scaler in scalers.items()
    }
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=seed)
    return logistic | {"gradient boosting": boosting}


def _plain(X: pd.DataFrame, both: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that scikit-learn takes: dates as days, categories with one set of levels."""
    days = (pd.to_datetime(X["since"]) - pd.Timestamp("1970-01-01")).dt.days
    levels = {name: pd.Categorical(X[name], sorted(both[name].dropna().unique())) for name in _CATEGORIES}
    return X[[*_NUMBERS, *_CATEGORIES]].assign(since=days, **levels)


if __name__ == "__main__":
    auto_cli(table, as_positional=True)
