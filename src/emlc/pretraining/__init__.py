"""Self-supervised pretraining: a backbone that knows images before it sees a label."""

from emlc.pretraining.run import Pretrained, pretrain

__all__ = ["Pretrained", "pretrain"]
