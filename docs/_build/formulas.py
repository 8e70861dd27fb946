"""Render formulas from LaTeX to inline SVG with matplotlib, so that pages load nothing from elsewhere."""

import html
import re

import matplotlib
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

_FONTS = "stix"
_EM = 100
"""Units of the drawing per em."""

_COMMANDS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
_ARITHMATEX = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: object) -> str:
    """Draw the formulas that arithmatex marked; a block of several lines is drawn line by line."""
    return _ARITHMATEX.sub(lambda match: _draw(match[1], match[2]), html)


def _draw(tag: str, latex: str) -> str:
    lines = [line.strip() for line in html.unescape(latex).split("\\\\")]
    if tag == "span":
        return svg(lines[0])
    return f'<div class="formulas">{"".join(f"<div>{svg(line)}</div>" for line in lines if line)}</div>'


def svg(latex: str) -> str:
    """Draw a formula as an inline SVG, in the text's colour and on its baseline, labelled with the LaTeX.

    Raises:
        ValueError: matplotlib does not understand the formula; this ends the build.
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
    """Flip y in x0, y0, x1, y1, ...: SVG counts it downwards."""
    return [-value if k % 2 else value for k, value in enumerate(points)]
