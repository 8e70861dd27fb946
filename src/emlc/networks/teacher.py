"""Teachers correct a label, given the sample *and* its label; which one, the setting ``teacher`` says."""

from torch import nn

from emlc.config import Settings
from emlc.networks.gate_teacher import Correction, Teacher
from emlc.networks.noise_aware_teacher import NoiseAwareCorrection, NoiseAwareTeacher

AnyCorrection = Correction | NoiseAwareCorrection
AnyTeacher = Teacher | NoiseAwareTeacher


def build_teacher(s: Settings, backbone: nn.Module, feature_dim: int, num_classes: int) -> AnyTeacher:
    """The teacher that the settings name, on a backbone of its own."""
    if s.teacher == "noise-aware":
        return NoiseAwareTeacher(backbone, feature_dim, num_classes)
    return Teacher(
        backbone,
        feature_dim,
        num_classes,
        label_embedding_dim=s.label_embedding_dim,
        gate_hidden_dim=s.gate_hidden_dim,
    )
