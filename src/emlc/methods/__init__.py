"""One file a method; all are trained by the same loop."""

from emlc.methods.base import Losses, Method
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.emlc import EMLC
from emlc.methods.trusted_only import TrustedOnly

METHODS: dict[str, type[Method]] = {m.name: m for m in (EMLC, CrossEntropy, TrustedOnly)}

__all__ = ["EMLC", "METHODS", "CrossEntropy", "Losses", "Method", "TrustedOnly"]
