"""Tables of pandas as the estimator's X: their columns become features, like those of a file."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from emlc.data.columns.encoding import Column, encode
from emlc.data.columns.fit import fit_columns
from emlc.data.sources.image_paths import look_like_image_paths
from emlc.errors import InputError

_log = logging.getLogger(__name__)


def fit_frame(X: pd.DataFrame) -> tuple[Column, ...]:
    """Find how the columns of a table become features.

    Raises:
        InputError: two columns have the same name, one has paths of images, or nothing can be learned from
            any.
    """
    _check_no_images(X)
    columns = fit_columns(_table(X), "X")
    if not columns:
        raise InputError(f"X: found no column to learn from among {len(X.columns)}")
    return columns


def _check_no_images(X: pd.DataFrame) -> None:
    for k, name in enumerate(X.columns):
        texts = [value for value in X.iloc[:, k] if isinstance(value, str)]
        if texts and look_like_image_paths(texts):
            raise InputError(
                f"X: column {str(name)!r} has paths of images: give X[{name!r}], this column alone, to learn "
                f"from the images, or X.drop(columns={name!r}) to learn from the others"
            )


def encode_frame(X: Any, names: Sequence[str], columns: Sequence[Column]) -> NDArray[np.float32]:
    """Return the features (n, d) of a table or array with columns of these names, in their order.

    Raises:
        InputError: most values of a column are not of its kind.
    """
    features, remarks = encode(_table(pd.DataFrame(X).set_axis(list(names), axis=1)), columns, "X")
    if remarks:
        _log.warning(f"X: {'; '.join(remarks)}")
    return features


def _table(X: pd.DataFrame) -> pa.Table:
    names = [str(name) for name in X.columns]
    if len(set(names)) < len(names):
        raise InputError("X: expected columns of different names")
    return pa.table({name: _values(X.iloc[:, k]) for k, name in enumerate(names)})


def _values(column: "pd.Series[Any]") -> Any:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError):  # values of several types
        return pa.array(column.astype(str).where(column.notna(), None), pa.large_string(), from_pandas=True)
