"""What was measured, and how it is shown: a table, and JSON."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One quantity of one program, measured several times.

    Attributes:
        who: the program.
        what: the quantity.
        unit: of the samples.
        samples: in the order they were measured.
    """

    who: str
    what: str
    unit: str
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The figure that is reported."""
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Verdict:
    """A figure or ratio of ours beside its limit.

    Attributes:
        what: it is.
        value: of ours.
        limit: what it may be at most.
    """

    what: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether it is within its limit."""
        return self.value <= self.limit


@dataclass
class Result:
    """One benchmark's outcome.

    Attributes:
        name: of the benchmark.
        method: how it was measured, for the reader of the figures.
        problems: what could not be measured, and why.
        ours_failed: whether that is something of ours.
    """

    name: str
    method: str = ""
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ours_failed: bool = False

    def figure(self, who: str, what: str, unit: str = "s") -> Figure:
        """The figure of that name, made when it is not there."""
        for figure in self.figures:
            if (figure.who, figure.what) == (who, what):
                return figure
        self.figures.append(Figure(who, what, unit))
        return self.figures[-1]

    def measured(self, what: str) -> dict[str, Figure]:
        """The figures of one quantity that have samples, by program."""
        return {figure.who: figure for figure in self.figures if figure.what == what and figure.samples}

    def compare(self, what: str, ours: str, limit: float) -> None:
        """Hold our median against the best peer's: ``limit`` is the largest ratio that will do."""
        figures = self.measured(what)
        mine = figures.pop(ours, None)
        if mine is None or not figures:
            return
        best = min(figures.values(), key=lambda figure: figure.median)
        self.verdicts.append(Verdict(f"{what}: ours / {best.who}", mine.median / best.median, limit))


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """Everything, for a file."""
    listed = []
    for result in results:
        data = dataclasses.asdict(result)
        for figure, object_ in zip(data["figures"], result.figures, strict=True):
            figure["median"] = object_.median if object_.samples else None
        for verdict, object_ in zip(data["verdicts"], result.verdicts, strict=True):
            verdict["met"] = object_.met
        listed.append(data)
    return listed


def as_text(result: Result) -> str:
    """One benchmark for the eye."""
    lines = [f"== {result.name}"]
    figures = [figure for figure in result.figures if figure.samples]
    best = {figure.what: min(result.measured(figure.what).values(), key=_median) for figure in figures}
    rows = [_row(figure, best[figure.what]) for figure in figures]
    lines += _aligned([("who", "what", "median", "lowest", "highest", "rounds", "times lowest"), *rows])
    for verdict in result.verdicts:
        word = "met" if verdict.met else "NOT met"
        lines.append(f"  target {word}: {verdict.what} = {_short(verdict.value)} (at most {verdict.limit:g})")
    lines += [f"  not measured: {problem}" for problem in result.problems]
    lines.append(f"  method: {result.method}")
    return "\n".join(lines)


def _median(figure: Figure) -> float:
    return figure.median


def _row(figure: Figure, best: Figure) -> tuple[str, ...]:
    times = f"{figure.median / best.median:.2f}" if best.median and figure.who != best.who else ""
    low, high = min(figure.samples), max(figure.samples)
    shown = [f"{_short(figure.median)} {figure.unit}", _short(low), _short(high)]
    return (figure.who, figure.what, *shown, str(len(figure.samples)), times)


def _short(number: float) -> str:
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
