"""Colours of all figures, from the Okabe-Ito palette, which colour-blind readers can tell apart."""

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
AMBER, SKY, BLACK = "#e69f00", "#56b4e9", "#000000"
