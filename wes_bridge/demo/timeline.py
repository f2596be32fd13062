"""The picture: a panel for each run, a row for each step, by node; phases as colours, bookings as outlines.

Left in a panel are the seconds in which things happened, right the minutes that were booked. All panels have
the same scales, so that runs can be compared by eye. Pure: from :mod:`story` to a :class:`drawing.Sheet`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wes_bridge.demo.drawing import Line, Rect, Sheet, Text, fitted, text_width
from wes_bridge.demo.story import PHASES, PREPARING, RELEASING, RUNNING, WAITING, Act, Bar

WIDTH, MARGIN, GAP = 1600.0, 28.0, 36.0
_HEAD, _TITLE, _AXIS = 84.0, 46.0, 40.0
_NODE, _STEPS, _SLOTS, _SPACE = 62.0, 170.0, 150.0, 22.0
"""Widths: of node names, of step names at most, of the booked slots, and between the two charts."""
COLOURS = {WAITING: "#e3e7ee", PREPARING: "#f2b134", RUNNING: "#2f6fb5", RELEASING: "#27a08c"}
_LOST, _LOST_PALE, _INK, _FAINT, _GRID = "#c8372d", "#efb1ab", "#1f2733", "#697386", "#dde2ea"
_BANDS = ("#f5f7fa", "#ffffff")
_OUTLINE = "#8b95a7"
_WORDS = {
    WAITING: "waiting for its slot",
    PREPARING: "preparing",
    RUNNING: "running",
    RELEASING: "releasing",
}


@dataclass(frozen=True)
class _Scale:
    """From a figure to a place."""

    left: float
    width: float
    most: float

    def at(self, figure: float) -> float:
        return self.left + self.width * max(0.0, min(1.0, figure / self.most))


def timeline(title: str, acts: Sequence[Act], nodes: Mapping[str, str]) -> Sheet:
    """Draw runs.

    Args:
        title: of the picture.
        acts: one panel each.
        nodes: all there are, by name, and what they are in a few words.
    """
    columns = 2 if len(acts) > 1 else 1
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    lines = [acts[start : start + columns] for start in range(0, len(acts), columns)]
    row = 16.0 if max((len(act.bars) for act in acts), default=0) <= 26 else 13.0
    heights = [
        _TITLE + _AXIS + row * max(sum(map(len, _by_node(act, nodes).values())) for act in line)
        for line in lines
    ]
    sheet = Sheet(WIDTH, _HEAD + sum(heights) + GAP / 2 * (len(lines) - 1) + MARGIN, title)
    _head(sheet, title, nodes)
    seconds = max((act.makespan for act in acts), default=1.0) * 1.02 or 1.0
    minutes = (
        max((bar.slot[1] - act.start for act in acts for bar in act.bars if bar.slot), default=60.0) / 60
    )
    names = max((text_width(bar.step, 10) for act in acts for bar in act.bars), default=0.0)
    top = _HEAD
    for line, height in zip(lines, heights, strict=True):
        for place, act in enumerate(line):
            left = MARGIN + place * (width + GAP)
            chart = left + _NODE + min(names, _STEPS) + 10
            end = left + width
            panel = _Panel(
                act,
                (left, end),
                _Scale(chart, end - _SLOTS - _SPACE - chart, seconds),
                _Scale(end - _SLOTS, _SLOTS, minutes),
                row,
            )
            panel.draw(sheet, top, nodes)
        top += height + GAP / 2
    return sheet


def _head(sheet: Sheet, title: str, nodes: Mapping[str, str]) -> None:
    sheet.add(Text(MARGIN, 36, title, 20, _INK, bold=True))
    words = "   ·   ".join(f"{name}: {text}" for name, text in nodes.items())
    sheet.add(Text(MARGIN, 60, words, 12, _FAINT))
    x = WIDTH - MARGIN
    for label, fill, stroke in reversed(list(_legend())):
        x -= text_width(label, 11)
        sheet.add(Text(x, 36, label, 11, _INK))
        x -= 24
        sheet.add(Rect(x, 26, 18, 11, fill, stroke, radius=2))
        x -= 16


def _legend() -> Iterator[tuple[str, str, str]]:
    yield "booked", "#ffffff", _OUTLINE
    for phase in PHASES:
        yield _WORDS[phase], COLOURS[phase], "none"
    yield "lost with its node", _LOST_PALE, _LOST


def _by_node(act: Act, nodes: Mapping[str, str]) -> dict[str, list[Bar | None]]:
    """The rows of each node; one that had nothing has an empty one."""
    names = list(nodes) + sorted({bar.node for bar in act.bars} - set(nodes))
    rows: dict[str, list[Bar | None]] = {}
    for name in names:
        rows[name] = [bar for bar in act.bars if bar.node == name] or [None]
    return rows


@dataclass(frozen=True)
class _Panel:
    act: Act
    across: tuple[float, float]
    seconds: _Scale
    minutes: _Scale
    row: float

    def draw(self, sheet: Sheet, top: float, nodes: Mapping[str, str]) -> None:
        """Draw it below ``top``."""
        self._title(sheet, top + 18)
        first = y = top + _TITLE
        groups = _by_node(self.act, nodes)
        for index, rows in enumerate(groups.values()):
            height = self.row * len(rows)
            left, right = self.across
            sheet.add(Rect(left, y, right - left, height, _BANDS[index % 2]))
            y += height
        self._grid(sheet, first, y)
        y = first
        for name, rows in groups.items():
            self._group(sheet, y, name, rows)
            y += self.row * len(rows)
        self._axes(sheet, first, y)

    def _title(self, sheet: Sheet, y: float) -> None:
        act, (left, right) = self.act, self.across
        sheet.add(Text(left, y, act.title, 15, _LOST if act.stopped else _INK, bold=True))
        sheet.add(Text(right, y, " · ".join(_summary(act)), 11.5, _INK, "end"))
        sheet.add(Text(self.minutes.left, y + 21, "slots booked, when it ran", 10, _FAINT))
        sheet.add(Text(self.seconds.left, y + 21, "what happened", 10, _FAINT))

    def _grid(self, sheet: Sheet, top: float, bottom: float) -> None:
        for scale, enough in ((self.seconds, 8), (self.minutes, 5)):
            for tick in _ticks(scale.most, enough):
                x = scale.at(tick)
                sheet.add(Line(x, top, x, bottom, _GRID))

    def _axes(self, sheet: Sheet, top: float, bottom: float) -> None:
        for scale, enough, unit in ((self.seconds, 8, "seconds"), (self.minutes, 5, "minutes")):
            sheet.add(Line(scale.left, bottom, scale.left + scale.width, bottom, _OUTLINE))
            for tick in _ticks(scale.most, enough):
                x = scale.at(tick)
                sheet.add(Line(x, bottom, x, bottom + 4, _OUTLINE))
                sheet.add(Text(x, bottom + 15, f"{tick:g}", 10, _FAINT, "middle"))
            middle = scale.left + scale.width / 2
            sheet.add(Text(middle, bottom + 28, f"{unit} since the first booking", 10, _FAINT, "middle"))
        left, right = self.across
        sheet.add(Line(left, top, right, top, _GRID))

    def _group(self, sheet: Sheet, top: float, name: str, rows: list[Bar | None]) -> None:
        left = self.across[0]
        steps = sum(bar is not None and not bar.lost for bar in rows)
        sheet.add(Text(left + 6, top + 12, name, 12, _INK, bold=True))
        if len(rows) > 1:
            sheet.add(Text(left + 6, top + 25, f"{steps} step{'' if steps == 1 else 's'}", 9.5, _FAINT))
        for index, bar in enumerate(rows):
            y = top + index * self.row
            if bar is None:
                sheet.add(Text(left + _NODE, y + self.row - 4.5, "nothing ran here", 10, _FAINT))
            else:
                self._bar(sheet, y, bar)
        if self.act.stopped and self.act.stopped[0] == name:
            self._stop(sheet, top, self.row * len(rows), self.act.stopped)

    def _bar(self, sheet: Sheet, y: float, bar: Bar) -> None:
        base, zero = y + self.row - 4.5, self.act.start
        name = fitted(bar.step, 10, min(_STEPS, self.seconds.left - self.across[0] - _NODE))
        sheet.add(Text(self.across[0] + _NODE, base, name, 10, _LOST if bar.lost else _INK))
        height = self.row - 5
        outline = _LOST if bar.lost else _OUTLINE
        words = _words(bar, zero)
        for phase, start, end in bar.pieces:
            x, right = self.seconds.at(start - zero), self.seconds.at(end - zero)
            colour = _LOST_PALE if bar.lost and phase != WAITING else COLOURS[phase]
            sheet.add(Rect(x, y + 2.5, max(0.8, right - x), height, colour))
        x, right = self.seconds.at(bar.start - zero), self.seconds.at(bar.end - zero)
        sheet.add(Rect(x, y + 2.5, max(1.5, right - x), height, "none", outline, 1.0, 1.5, words))
        if bar.attempt > 1:
            sheet.add(Text(right + 5, base, f"attempt {bar.attempt}", 9, _FAINT))
        if bar.slot is None:
            return
        x, right = (self.minutes.at((moment - zero) / 60) for moment in bar.slot)
        sheet.add(Rect(x, y + 2.5, max(2.0, right - x), height, "#ffffff", outline, 1.0, 1.5, words))
        run = [piece for piece in bar.pieces if piece[0] == RUNNING]
        for _, start, end in run:
            x, right = self.minutes.at((start - zero) / 60), self.minutes.at((end - zero) / 60)
            fill = _LOST if bar.lost else COLOURS[RUNNING]
            sheet.add(Rect(x, y + 2.5, max(2.5, right - x), height, fill))

    def _stop(self, sheet: Sheet, top: float, height: float, stopped: tuple[str, float]) -> None:
        name, moment = stopped
        x = self.seconds.at(moment - self.act.start)
        sheet.add(Line(x, top, x, top + height, _LOST, 1.6, dashed=True))
        sheet.add(Text(x + 5, top + 11.5, f"{name} is gone", 10, _LOST, bold=True))


def _summary(act: Act) -> Iterator[str]:
    steps = sum(act.by_node().values())
    lost = f", {act.lost()} lost" if act.lost() else ""
    yield f"{act.state}: {steps} steps{lost}"
    yield f"{act.makespan:.1f} s"
    cost, energy, carbon = (act.figure(name) for name in ("cost", "energy", "carbon"))
    if cost is not None:
        yield f"price {cost:.2f}"
    if energy is not None:
        yield f"{energy * 1000:.0f} Wh"
    if carbon is not None:
        yield f"{carbon:.1f} g CO₂"


def _words(bar: Bar, zero: float) -> str:
    parts = [f"{bar.step} on {bar.node}"]
    parts += [f"{_WORDS[phase]} {start - zero:.2f}-{end - zero:.2f} s" for phase, start, end in bar.pieces]
    if bar.slot:
        begin, end = ((moment - zero) / 60 for moment in bar.slot)
        parts.append(f"booked for minutes {begin:.1f}-{end:.1f}")
    if bar.lost:
        parts.append("lost with its node")
    return "; ".join(parts)


def _ticks(most: float, enough: int) -> list[float]:
    """Round figures from 0 on, at most ``enough`` steps."""
    raw = most / enough
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [round(index * step, 6) for index in range(int(most / step + 1e-9) + 1)]
