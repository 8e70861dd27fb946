"""Data sets: read sources, and draw one disjoint split from them."""

from emlc.data.samples import Samples
from emlc.data.saved_split import check_files, check_split
from emlc.data.sources.read import read
from emlc.data.sources.source import Schema
from emlc.data.split import Split, make_split, split_samples

__all__ = ["Samples", "Schema", "Split", "check_files", "check_split", "make_split", "read", "split_samples"]
