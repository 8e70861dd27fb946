"""A reviewer's decisions: ``decisions`` reads them, ``apply`` makes the next data set from them."""

from emlc.review.apply import apply_decisions

__all__ = ["apply_decisions"]
