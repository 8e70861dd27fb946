"""torchvision's classification networks. It is imported on first use, which takes as long as torch."""

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def network_names() -> list[str]:
    """Return the names of all networks."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)  # type: ignore[no-any-return]


def build_network(name: str, **options: Any) -> nn.Module:
    """Build a network with its head; options as those of ``torchvision.models.get_model``."""
    from torchvision.models import get_model

    network: nn.Module = get_model(name, **options)
    return network


def default_weights(name: str) -> "WeightsEnum":
    """Return torchvision's default weights of a network, which are downloaded when they are asked for."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT


def is_resnet(network: nn.Module | None) -> bool:
    """Return whether a network is one of the residual ones."""
    from torchvision.models import ResNet

    return isinstance(network, ResNet)
