"""Corrected labels.

``decision`` says when a given label counts as wrong; ``table`` has a row a sample, ``files`` writes it;
``quality`` measures it where the truth is known, beside cleanlab.
"""
