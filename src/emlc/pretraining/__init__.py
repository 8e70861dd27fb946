"""Self-supervised pretraining of a backbone on images without labels."""

from emlc.pretraining.run import Pretrained, pretrain

__all__ = ["Pretrained", "pretrain"]
