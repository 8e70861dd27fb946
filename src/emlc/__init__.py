"""emlc: learn from many doubtful labels and a few trusted ones, and correct the doubtful ones.

An implementation of Enhanced Meta Label Correction. :func:`train` takes :class:`Settings` and returns a
:class:`Run`; :func:`meta_gradient` and what goes with it serve other bi-level problems as well.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emlc.config import Settings
    from emlc.data import Samples
    from emlc.errors import EMLCWarning, InputError
    from emlc.estimator.classifier import EMLCClassifier
    from emlc.labels.table import to_cleanlab
    from emlc.meta.metagradient import InnerSGD, meta_gradient, record_step, trusted_gradient
    from emlc.networks.gate_teacher import Teacher
    from emlc.networks.noise_aware_teacher import NoiseAwareTeacher
    from emlc.runs.run import Run
    from emlc.runs.train import train

__all__ = [
    "EMLCClassifier",
    "EMLCWarning",
    "InnerSGD",
    "InputError",
    "NoiseAwareTeacher",
    "Run",
    "Samples",
    "Settings",
    "Teacher",
    "meta_gradient",
    "record_step",
    "to_cleanlab",
    "train",
    "trusted_gradient",
]

_MODULES = {
    "Settings": "config",
    "Samples": "data",
    "EMLCWarning": "errors",
    "InputError": "errors",
    "EMLCClassifier": "estimator.classifier",
    "InnerSGD": "meta.metagradient",
    "meta_gradient": "meta.metagradient",
    "record_step": "meta.metagradient",
    "trusted_gradient": "meta.metagradient",
    "to_cleanlab": "labels.table",
    "Run": "runs.run",
    "train": "runs.train",
    "Teacher": "networks.gate_teacher",
    "NoiseAwareTeacher": "networks.noise_aware_teacher",
}

# Silent until somebody asks for messages: a command, a function with a console, or the program around it.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # Imported on first use: torch takes seconds to load, and `emlc --help` should not wait for it.
    if name not in _MODULES:
        raise AttributeError(f"module 'emlc' has no attribute {name!r}")
    return getattr(import_module(f"emlc.{_MODULES[name]}"), name)
