"""Hyper-parameters that authors chose by the kind and rate of the noise, and by the data.

They knew more than a user does, who has labels and not the noise in them. A published figure is as good as
its hyper-parameters, so that rivals get them; EMLC has the same ones for all noise.
"""

from collections.abc import Mapping
from typing import Any

from emlc.reproduce.plan import Hypers

_TEN = {0.2: 0.0, 0.5: 25.0, 0.8: 25.0, 0.9: 50.0}
_HUNDRED = {0.2: 25.0, 0.5: 150.0, 0.8: 150.0, 0.9: 150.0}
"""DivideMix's lambda_u by the rate of symmetric noise, on CIFAR-10 and CIFAR-100."""


def dividemix(values: Mapping[str, Any]) -> Hypers:
    """Return what DivideMix's and AugDesc's authors chose; nothing for human noise, which they did not have.

    Rates in between have the values of the nearest published one.
    """
    data, noise, rate = str(values["data"]), values.get("noise", "none"), values.get("noise_rate", 0.0)
    if data == "clothing1m":
        return {"unlabelled_weight": 0.0, "mixup_alpha": 0.5, "confidence_penalty": True}
    weights = _HUNDRED if "cifar100" in data else _TEN
    if noise == "asymmetric":
        return {"unlabelled_weight": weights[0.2], "confidence_penalty": True}
    if noise != "symmetric":
        return {}
    nearest = min(weights, key=lambda published: abs(published - rate))
    most = {"threshold": 0.6, "averaged_epochs": 5} if nearest == 0.9 else {}
    return {"unlabelled_weight": weights[nearest], **most}


def c2d(values: Mapping[str, Any]) -> Hypers:
    """Return what C2D's authors chose: DivideMix's, but for CIFAR-100 and Clothing1M."""
    hypers = dict(dividemix(values))
    if values["data"] == "clothing1m":
        return hypers | {"threshold": 0.7}
    if "cifar100" in str(values["data"]) and hypers:
        hypers["unlabelled_weight"] = 150.0
        if values["noise"] == "symmetric" and values["noise_rate"] == 0.8:
            hypers |= {"unlabelled_weight": 500.0, "threshold": 0.03}
    return hypers


def sanm(values: Mapping[str, Any]) -> Hypers:
    """Return what SANM's authors chose for Clothing1M."""
    if values["data"] != "clothing1m":
        return {}
    masked = {"least_masked": 0.06, "most_masked": 0.13, "further_masked": 0.1}
    return {"unlabelled_weight": 0.0, "mixup_alpha": 0.5, "reconstruction_weight": 0.3, **masked}


def pencil(values: Mapping[str, Any]) -> Hypers:
    """Return the values that MSLG's authors ran PENCIL with on CIFAR, and on Clothing1M."""
    if values["data"] == "clothing1m":
        return {"compatibility_weight": 0.08, "entropy_weight": 0.8, "label_learning_rate": 3000 / 32}
    return {"compatibility_weight": 0.1, "entropy_weight": 0.8, "label_learning_rate": 400 / 128}


def mlc(values: Mapping[str, Any]) -> Hypers:
    """Return what MLC's authors chose for Clothing1M."""
    return {"skip": True, "meta_learning_rate": 3e-3} if values["data"] == "clothing1m" else {}
