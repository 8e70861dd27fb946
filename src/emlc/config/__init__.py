"""Every setting, typed once, for the command line, YAML files and Python alike.

The groups of settings become the sections of ``emlc train --help``. jsonargparse checks types on the command
line; types, ranges and clashes are checked when settings are built. All problems are reported together, each
with the name of its field.
"""

from emlc.config.data import (
    BUNDLED_IMAGE_MODEL,
    BUNDLED_TEXT_MODEL,
    NAMED_SOURCES,
    DataSettings,
    NoiseSettings,
)
from emlc.config.groups import Precision, PrecisionSetting, groups
from emlc.config.pretraining import PretrainSettings, View
from emlc.config.setting import facts_of, names_of, paths_of
from emlc.config.training import Augmentation, Settings, estimator_settings

AnySettings = Settings | PretrainSettings

__all__ = [
    "BUNDLED_IMAGE_MODEL",
    "BUNDLED_TEXT_MODEL",
    "NAMED_SOURCES",
    "AnySettings",
    "Augmentation",
    "DataSettings",
    "NoiseSettings",
    "Precision",
    "PrecisionSetting",
    "PretrainSettings",
    "Settings",
    "View",
    "estimator_settings",
    "facts_of",
    "groups",
    "names_of",
    "paths_of",
]
