"""Corrected labels.

``decision`` decides when a given label counts as wrong, by ``evidence``. ``table`` builds the label table,
one row per sample, and ``estimate`` that of a method without a teacher; ``files`` writes it. ``quality``
measures it where the true labels are known, and compares it with cleanlab.
"""
