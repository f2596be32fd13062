"""A sheet of rectangles, lines and words, and how it is written as SVG or, with matplotlib, as PNG."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

FONT = "DejaVu Sans, Verdana, Arial, sans-serif"
_WIDTH = 0.61
"""Mean width of a character of that font, in parts of its size."""


@dataclass(frozen=True)
class Rect:
    """A rectangle; ``title`` is shown when the pointer is on it."""

    x: float
    y: float
    width: float
    height: float
    fill: str = "none"
    stroke: str = "none"
    line: float = 1.0
    radius: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A line from one point to another."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str = "#000"
    line: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    """Words; ``y`` is their base line."""

    x: float
    y: float
    text: str
    size: float = 11.0
    fill: str = "#222"
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


Shape = Rect | Line | Text


@dataclass
class Sheet:
    """What is drawn, first things first, on a white ground; units are pixels."""

    width: float
    height: float
    title: str = ""
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draw more."""
        self.shapes += shapes


def text_width(text: str, size: float) -> float:
    """About how wide words are."""
    return len(text) * size * _WIDTH


def fitted(text: str, size: float, width: float) -> str:
    """The words, cut in the middle if they are wider than ``width``."""
    most = max(3, int(width / (size * _WIDTH)))
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def svg(sheet: Sheet) -> str:
    """The sheet as an SVG document."""
    return "\n".join(_svg(sheet)) + "\n"


def _svg(sheet: Sheet) -> Iterator[str]:
    size = f'width="{_n(sheet.width)}" height="{_n(sheet.height)}"'
    box = f'viewBox="0 0 {_n(sheet.width)} {_n(sheet.height)}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} font-family={quoteattr(FONT)}>'
    if sheet.title:
        yield f"<title>{escape(sheet.title)}</title>"
    yield f'<rect {size} fill="#fff"/>'
    for shape in sheet.shapes:
        yield _element(shape)
    yield "</svg>"


def _element(shape: Shape) -> str:
    match shape:
        case Rect():
            place = (
                f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
            )
            round_ = f' rx="{_n(shape.radius)}"' if shape.radius else ""
            stroke = (
                f' stroke="{shape.stroke}" stroke-width="{_n(shape.line)}"' if shape.stroke != "none" else ""
            )
            head = f'<rect {place}{round_} fill="{shape.fill}"{stroke}'
            return f"{head}><title>{escape(shape.title)}</title></rect>" if shape.title else f"{head}/>"
        case Line():
            place = f'x1="{_n(shape.x1)}" y1="{_n(shape.y1)}" x2="{_n(shape.x2)}" y2="{_n(shape.y2)}"'
            dashes = ' stroke-dasharray="4 3"' if shape.dashed else ""
            return f'<line {place} stroke="{shape.stroke}" stroke-width="{_n(shape.line)}"{dashes}/>'
        case Text():
            look = f'font-size="{_n(shape.size)}" fill="{shape.fill}" text-anchor="{shape.anchor}"'
            bold = ' font-weight="bold"' if shape.bold else ""
            return f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" {look}{bold}>{escape(shape.text)}</text>'


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def can_png() -> bool:
    """Whether matplotlib is here."""
    return importlib.util.find_spec("matplotlib") is not None


def write_png(sheet: Sheet, path: Path, scale: float = 1.5) -> None:
    """Write the sheet as PNG; needs matplotlib.

    Args:
        sheet: to draw.
        path: of the file.
        scale: pixels per unit.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415

    dpi = 72.0  # a unit is a point, as sizes of letters are
    figure = Figure(figsize=(sheet.width / dpi, sheet.height / dpi), dpi=dpi * scale, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, sheet.width)
    axes.set_ylim(sheet.height, 0)
    axes.set_axis_off()
    anchors = {"start": "left", "middle": "center", "end": "right"}
    for order, shape in enumerate(sheet.shapes):
        match shape:
            case Rect():
                style = f"round,pad=0,rounding_size={shape.radius}" if shape.radius else "square,pad=0"
                box = (shape.x, shape.y), shape.width, shape.height
                colours: dict[str, Any] = {
                    "facecolor": shape.fill,
                    "edgecolor": shape.stroke,
                    "linewidth": shape.line,
                }
                axes.add_patch(FancyBboxPatch(*box, boxstyle=style, zorder=order, **colours))
            case Line():
                dashes: Any = (0, (4, 3)) if shape.dashed else "-"
                line = Line2D([shape.x1, shape.x2], [shape.y1, shape.y2], linestyle=dashes, zorder=order)
                line.set(color=shape.stroke, linewidth=shape.line)
                axes.add_line(line)
            case Text():
                weight = "bold" if shape.bold else "normal"
                look: dict[str, Any] = {
                    "fontsize": shape.size,
                    "color": shape.fill,
                    "ha": anchors[shape.anchor],
                }
                text = shape.text.replace("$", r"\$")
                axes.text(shape.x, shape.y, text, va="baseline", weight=weight, zorder=order, **look)
    figure.savefig(path)
