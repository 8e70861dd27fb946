"""Formulas as pictures in the page: LaTeX to SVG by matplotlib, so that nothing is loaded from elsewhere."""

import html
import re

import matplotlib
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

_FONTS = "stix"
_EM = 100
"""Units of the drawing to the width of an em."""

_COMMANDS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
_ARITHMATEX = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: object) -> str:
    """Draw what arithmatex has marked; a block of several lines is drawn a line at a time."""
    return _ARITHMATEX.sub(lambda found: _drawn(found[1], found[2]), html)


def _drawn(tag: str, marked: str) -> str:
    lines = [line.strip() for line in html.unescape(marked).split("\\\\")]
    if tag == "span":
        return svg(lines[0])
    return f'<div class="formulas">{"".join(f"<div>{svg(line)}</div>" for line in lines if line)}</div>'


def svg(latex: str) -> str:
    """An inline SVG of a formula, in the text's colour and on its baseline; the LaTeX is its text.

    Raises:
        ValueError: what matplotlib does not understand, which ends the build.
    """
    font = FontProperties(size=_EM, math_fontfamily=_FONTS)
    with matplotlib.rc_context({"mathtext.fontset": _FONTS}):
        # A formula of several source lines is one line to matplotlib.
        text = f"${' '.join(latex.split())}$"
        width, height, depth, *_ = MathTextParser("path").parse(text, dpi=72, prop=font)
        outline = Path(*text_to_path.get_text_path(font, text, ismath=True))
    drawing = "".join(
        _COMMANDS[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{x:.0f}" for x in flipped(points)))
        for points, code in outline.iter_segments(simplify=False)
    )
    size = f"width:{width / _EM:.2f}em;height:{(height + depth) / _EM:.2f}em"
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(latex)}" '
        f'viewBox="0 {-height:.0f} {width:.0f} {height + depth:.0f}" '
        f'style="{size};vertical-align:{-depth / _EM:.2f}em"><path d="{drawing}"/></svg>'
    )


def flipped(points: "list[float]") -> "list[float]":
    """x0, y0, x1, y1, ... with y downwards, as SVG has it."""
    return [-value if k % 2 else value for k, value in enumerate(points)]
