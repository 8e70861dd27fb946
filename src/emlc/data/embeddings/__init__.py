"""Texts and images as rows of numbers: each is embedded once, by a pretrained network."""
