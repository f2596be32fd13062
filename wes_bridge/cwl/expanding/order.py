"""Things in an order in which each comes after all that it waits for.

Each link is looked at once, however long the chains are. It must not know what the things are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)


class InOrder(Generic[Thing]):
    """Gives each thing as soon as all is there that it waits for.

    Args:
        waits: the names of what each thing waits for.
        known: names of what is there.
    """

    def __init__(self, waits: Iterable[tuple[Thing, Iterable[str]]], known: Iterable[str] = ()) -> None:
        there = set(known)
        self._ready: deque[Thing] = deque()
        self._missing: dict[Thing, set[str]] = {}
        self._after: dict[str, list[Thing]] = {}
        for thing, names in waits:
            missing = set(names) - there
            if not missing:
                self._ready.append(thing)
                continue
            self._missing[thing] = missing
            for name in missing:
                self._after.setdefault(name, []).append(thing)

    def __iter__(self) -> Iterator[Thing]:
        """The things whose turn it is; ends when there is none."""
        while self._ready:
            yield self._ready.popleft()

    def add(self, names: Iterable[str]) -> None:
        """Say what else is there now."""
        for name in names:
            for thing in self._after.pop(name, ()):
                self._missing[thing].discard(name)
                if not self._missing[thing]:
                    del self._missing[thing]
                    self._ready.append(thing)

    @property
    def waiting(self) -> list[Thing]:
        """Things that still wait."""
        return list(self._missing)
