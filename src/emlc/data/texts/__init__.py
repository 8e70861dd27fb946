"""Texts: embedded once by a pretrained model."""
