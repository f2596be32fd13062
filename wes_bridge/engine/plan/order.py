"""The steps of a workflow in an order in which each comes after those whose outputs it takes.

Each link is looked at once, however long the chains are. It must not know what a step is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from cwltool.utils import aslist


class StepsInOrder:
    """Gives each step as soon as all of its sources are there.

    Args:
        steps: of the workflow.
        known: ids of the sources that are there.
    """

    def __init__(self, steps: Iterable[Any], known: Iterable[str]) -> None:
        there = set(known)
        self._ready: deque[Any] = deque()
        self._missing: dict[Any, set[str]] = {}
        self._after: dict[str, list[Any]] = {}
        for step in steps:
            missing = {source for port in step.tool["inputs"] for source in aslist(port.get("source", []))}
            missing -= there
            if not missing:
                self._ready.append(step)
                continue
            self._missing[step] = missing
            for source in missing:
                self._after.setdefault(source, []).append(step)

    def __iter__(self) -> Iterator[Any]:
        """The steps that can be looked at; ends when no further one can."""
        while self._ready:
            yield self._ready.popleft()

    def add(self, made: Iterable[str]) -> None:
        """Say that these sources are there now."""
        for source in made:
            for step in self._after.pop(source, ()):
                self._missing[step].discard(source)
                if not self._missing[step]:
                    del self._missing[step]
                    self._ready.append(step)

    @property
    def waiting(self) -> list[Any]:
        """Steps whose sources are not all there."""
        return list(self._missing)
