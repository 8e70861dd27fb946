"""Inputs."""

from torch import Tensor

Inputs = Tensor
