"""A classifier with scikit-learn's interface, for many noisy labels and a few trusted ones."""

import warnings
from dataclasses import replace
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    check_X_y,
    column_or_1d,
    validate_data,
)

from emlc.config import estimator_settings
from emlc.errors import InputError, RivalWarning

if TYPE_CHECKING:  # torch takes seconds to import: it is left to the first fit
    from emlc.data import Samples, Split
    from emlc.data.columns.encoding import Column
    from emlc.data.images.given import GivenImages
    from emlc.labels.comparison import Comparison
    from emlc.runs.run import Run


class EMLCClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A neural network that learns from noisy labels, and corrects them, with the help of trusted labels.

    Its parameters are the most often tuned ones of :class:`emlc.Settings`; ``settings`` takes the others.
    If all labels are right, ``fit(X, y)`` is ordinary training by cross-entropy.

    Args:
        method: The training method: emlc, or another that ``emlc methods`` lists, such as cross-entropy,
            which takes the noisy labels for right.
        epochs: Number of passes over the noisy samples; None: 15, or more on small data.
        look_ahead: Student steps per teacher step, k.
        warm_up_epochs: Number of first epochs in which the student learns from the given labels; then the
            teacher's network starts as a copy of the student's. None: none, or with the gate as teacher a
            quarter of ``epochs``, at most 5, if the networks start from random weights.
        noisy_batch: Noisy samples per student step; None: 128, or fewer on small data.
        trusted_batch: Trusted samples per teacher step.
        learning_rate: Learning rate of the SGD of student and teacher; None: 0.05 and 0.02; for other
            teachers and methods 0.02, for glc 0.1.
        weight_decay: Weight decay of student and teacher.
        schedule: Schedule of the learning rates: constant | cosine. With cosine they fall to zero.
        backbone: The networks' backbone: auto | linear | shallow | mlp | cnn | a network of
            torchvision.models | module:factory; auto is shallow for rows of numbers and embeddings of images,
            and cnn for the pixels of images.
        image_model: Pretrained network whose embeddings of images are learned from: auto | none |
            efficientnet-lite0 | torchvision:NAME | timm:NAME | a folder; auto is efficientnet-lite0, if it is
            installed, for up to 100,000 images. See docs/images.md.
        width: Units of the hidden layers of shallow and mlp, or channels of the cnn's first stage.
        init: Initial weights: none | imagenet | a file, for example one that ``emlc pretrain`` wrote.
        validation_fraction: Share of the trusted samples that is held out for validation; None: none. The
            chosen epoch is the best on the validation set; without one the latest with emlc's noise-aware
            teacher, else the best on the trusted set.
        settings: Further settings of :class:`emlc.Settings` about networks, method and optimisation.
        output: Directory in which the run is stored, with pictures and checkpoints. It is for one fit: a
            second fit raises an error. None: nothing is stored.
        device: auto | cpu | cuda | cuda:N. auto is a GPU if there is one, but the CPU for short fits on rows
            of numbers.
        random_state: Seed of weights, order and augmentation; None: drawn from numpy's global state.
        verbose: Whether to show progress on standard error.

    Attributes:
        classes_: (C,) the classes, sorted.
        n_features_in_: Size of the second axis of X.
        feature_names_in_: Names of the columns of X, if it had any.
        history_: Metrics, one row per epoch; accuracies in per cent. docs/run-directory.md names the columns.
        run_: The :class:`emlc.Run`, with ``student``, ``teacher`` and the resolved ``settings``. Its folder
            exists only if ``output`` is set.
        rivals_: With ``settings={"rivals": True}``: the fit beside simple classifiers of the same samples,
            with ``accuracy`` in per cent and ``standing``. Where the fit does not beat them, a
            :class:`emlc.errors.RivalWarning` says so.

    Examples:
        A quarter of these labels is wrong, and the first 40 are known to be right:

        >>> from sklearn.datasets import make_blobs
        >>> from emlc import EMLCClassifier
        >>> X, y = make_blobs(400, centers=3, random_state=0)
        >>> labels = y.copy()
        >>> labels[40:140] = (y[40:140] + 1) % 3
        >>> classifier = EMLCClassifier(epochs=5, random_state=0, device="cpu")
        >>> classifier = classifier.fit(X, labels, trusted=range(40))
        >>> print((labels == y).mean(), classifier.score(X, y) > 0.85)
        0.75 True
        >>> corrected = classifier.correct_labels()  # one row per label that is not trusted
        >>> print(len(corrected), (corrected["corrected_label"] == y[40:]).mean() > 0.85)
        360 True
    """

    def __init__(
        self,
        *,
        method: str = "emlc",
        epochs: int | None = None,
        look_ahead: int = 1,
        warm_up_epochs: int | None = None,
        noisy_batch: int | None = None,
        trusted_batch: int = 32,
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine"] = "cosine",
        backbone: str = "auto",
        image_model: str = "auto",
        width: int | None = None,
        init: str = "none",
        validation_fraction: float | None = None,
        settings: dict[str, Any] | None = None,
        output: str | PathLike[str] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.epochs = epochs
        self.look_ahead = look_ahead
        self.warm_up_epochs = warm_up_epochs
        self.noisy_batch = noisy_batch
        self.trusted_batch = trusted_batch
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.backbone = backbone
        self.image_model = image_model
        self.width = width
        self.init = init
        self.validation_fraction = validation_fraction
        self.settings = settings
        self.output = output
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _columns: "tuple[Column, ...]" = ()  # empty: X was an array, also in a fit that was pickled before
    _names: list[str]
    classes_: NDArray[Any]
    run_: "Run"
    history_: pd.DataFrame
    rivals_: "Comparison"

    def fit(self, X: ArrayLike, y: ArrayLike, trusted: ArrayLike | None = None) -> Self:
        """Learn from labelled samples.

        Args:
            X: (n, d) numbers or embeddings; or a table of pandas, whose columns may be numbers, categories,
                booleans, times or embeddings, with missing values (docs/data.md); or images (n, h, w),
                (n, h, w, c) or (n, c, h, w) with 1 or 3 channels, integers from 0 to 255 or floats from 0
                to 1; or n paths of image files, pictures of Pillow or arrays of single images, which may
                differ in size if a pretrained network embeds them, or with an ``image_size``.
            y: (n,) labels of two classes or more.
            trusted: Boolean mask (n,), or indices, of the samples whose labels are trusted; at least one
                sample of every class. None: all labels are trusted.

        Returns:
            The estimator.

        Raises:
            ValueError: the data or the parameters are wrong. The estimator stays as it was.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, y, trusted)
        except BaseException:
            self.__dict__ = before
            raise

    def _fit(self, X: ArrayLike, y: ArrayLike, trusted: ArrayLike | None) -> Self:
        from emlc.estimator.pictures import images_of, open_images

        self.__dict__.pop("rivals_", None)
        images = images_of(X)
        features, labels = self._checked(X, y) if images is None else (None, self._checked_labels(images, y))
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"y: classification needs 2 classes or more, found 1 class: {classes[0]}")
        from emlc.estimator import adapter

        seed = self._seed()
        mask = None if trusted is None else adapter.trusted_mask(trusted, len(codes))
        if mask is not None and mask.all():
            mask = None
        parameters = {k: v for k, v in self.get_params(deep=False).items() if k in estimator_settings()}
        if mask is None:
            parameters |= {"method": "cross-entropy"}
        further = self.settings
        if mask is None and isinstance(further, dict):
            further = {name: value for name, value in further.items() if name != "hyper"}
        inputs: Any = features
        decided: dict[str, Any] = {}
        if images is not None:
            inputs, decided = open_images(images, adapter.unfitted(parameters, further, seed))
        samples = adapter.samples_of(inputs, codes.astype(np.int64), classes)
        split = adapter.split_of(samples, mask, self.validation_fraction, seed, self._columns)
        settings = replace(adapter.settings_of(parameters, further, split, seed), **decided)
        with adapter.trained(settings, split, self.output, verbose=bool(self.verbose)) as run:
            self.classes_, self.run_, self.history_ = classes, run, run.metrics
            self._compare(split)
            self._labels = self._training_labels(split.noisy)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the most probable class (n,) of each sample; X is as in :meth:`fit`."""
        codes = self.predict_proba(X).argmax(axis=1)
        most_probable: NDArray[Any] = self.classes_[codes]
        return most_probable

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Predict class probabilities (n, C), in the order of ``classes_``; X is as in :meth:`fit`."""
        inputs = self._samples(X).inputs
        probabilities: NDArray[np.float32] = self.run_.predict_proba(inputs).numpy()
        return probabilities

    def correct_labels(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> pd.DataFrame:
        """Correct the noisy labels of the fit, or those of other samples.

        Args:
            X: (n, ...) samples as in :meth:`fit`; None: the noisy samples of the fit.
            y: (n,) given labels of these samples; None: those of the fit.

        Returns:
            One row per sample, with the columns of ``labels.csv`` (docs/labels.md). ``id`` is the row number
            in X, and labels are those of y.

        Raises:
            ValueError: every label of the fit was trusted; the method corrects no labels, or only those of
                the fit; or a label is not in ``classes_``.
        """
        check_is_fitted(self, "run_")
        if (X is None) != (y is None):
            raise InputError("correct_labels: give X and y, or neither")
        if self._labels is None:
            raise InputError(
                "no label was corrected: that takes fit(..., trusted=...) and a method that corrects labels, "
                f"such as emlc, got {self.run_.settings.method}"
            )
        if X is None:
            return self._labels.copy()
        if self.run_.teacher is None:
            raise InputError(f"{self.method} corrects only the labels of training; emlc corrects others, too")
        return self._label_table(self._samples(X, y))

    def _compare(self, split: "Split") -> None:
        """Compare the fit with simple classifiers if asked to, and warn where it does not beat them."""
        from emlc.labels.advice import advice_on
        from emlc.runs.beside import compare_run, has_comparison

        if has_comparison(self.run_):
            self.rivals_ = compare_run(self.run_, split)
            for advice in advice_on(self.rivals_):
                warnings.warn(str(advice), RivalWarning, stacklevel=4)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return state | {"run_": _on_cpu(state["run_"])} if "run_" in state else state

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral) and self.random_state >= 0:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _samples(self, X: ArrayLike, y: ArrayLike | None = None) -> "Samples":
        """Convert X, and y if given, to samples, and check that they are like those of the fit."""
        check_is_fitted(self, "run_")
        from emlc.estimator.adapter import samples_of
        from emlc.estimator.pictures import images_of, open_like

        images = images_of(X)
        inputs = (
            self._checked_again(X)
            if images is None
            else open_like(images, self.run_.schema, self.run_.settings)
        )
        codes = None if y is None else self._codes(y, len(inputs))
        samples = samples_of(inputs, codes, self.classes_)
        schema = self.run_.schema
        expected = schema.input_shape
        if schema.image_model is not None and samples.inputs.ndim == 4:
            return samples  # of any size: the run embeds them
        if samples.input_shape != expected:
            raise InputError(f"X: expected samples of shape {expected}, found {samples.input_shape}")
        return samples

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Check X and y, and convert X to an array; find how the columns of a table become features."""
        self._columns = ()
        if not isinstance(X, pd.DataFrame):
            inputs, labels = validate_data(self, X, y, allow_nd=True)
            return inputs, labels
        validate_data(self, X, y, skip_check_array=True)
        from emlc.estimator.frames import encode_frame, fit_frame

        self._columns, self._names = fit_frame(X), [str(name) for name in X.columns]
        inputs, labels = check_X_y(encode_frame(X, self._names, self._columns), y, dtype=None)
        return inputs, labels

    def _checked_labels(self, images: "GivenImages", y: ArrayLike) -> NDArray[Any]:
        """Check y beside images, and forget the columns of an earlier fit."""
        self._columns = ()
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        labels: NDArray[Any] = check_X_y(np.zeros((len(images), 1)), y)[1]
        return labels

    def _checked_again(self, X: ArrayLike) -> NDArray[Any]:
        """Check X as in the fit, and convert it to an array."""
        if not self._columns:
            inputs: NDArray[Any] = validate_data(self, X, reset=False, allow_nd=True)
            return inputs
        validate_data(self, X, reset=False, skip_check_array=True)
        from emlc.estimator.frames import encode_frame

        features: NDArray[Any] = check_array(encode_frame(X, self._names, self._columns))
        return features

    def _codes(self, y: ArrayLike, n: int) -> NDArray[np.int64]:
        labels = column_or_1d(y, warn=True)
        if len(labels) != n:
            raise InputError(f"y: expected {n} labels, as many as samples, found {len(labels)}")
        codes: NDArray[np.int64] = pd.Index(self.classes_).get_indexer(pd.Index(labels)).astype(np.int64)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise InputError(f"y: row {row} has the label {str(labels[row])!r}, which the fit did not have")
        return codes

    def _training_labels(self, noisy: "Samples") -> pd.DataFrame | None:
        """Return the label table of the fit's noisy samples, or None if the method corrects no labels."""
        if self.run_.teacher is not None:
            return self._label_table(noisy)
        from emlc.labels.estimate import estimate_label_tables, load_estimate

        estimate = load_estimate(self.run_.folder / self.run_.which)
        if estimate.soft_labels is None:
            return None
        tables = estimate_label_tables(estimate, self.run_.embedded(noisy), self.run_.student)
        return self._with_original_labels(pd.concat(tables, ignore_index=True), noisy)

    def _label_table(self, samples: "Samples") -> pd.DataFrame:
        return self._with_original_labels(self.run_.correct_labels(samples), samples)

    def _with_original_labels(self, table: pd.DataFrame, samples: "Samples") -> pd.DataFrame:
        """Replace class names in a label table by the labels of y, and ids by integers."""
        from emlc.data.classes import class_codes

        table["id"] = table["id"].astype(np.int64)
        for column in table.columns[table.columns.str.endswith("_label")]:
            table[column] = self.classes_[class_codes(table[column], samples.classes)]
        return table


def _on_cpu(run: "Run") -> "Run":
    """Return the run with its networks on the CPU, so that its pickle can be loaded without a GPU."""
    from copy import deepcopy

    if next(run.student.parameters()).device.type == "cpu":
        return run
    copied = deepcopy(run)
    for network in (copied.student, copied.teacher):
        if network is not None:
            network.cpu()
    return copied
