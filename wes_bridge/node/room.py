"""Offers that nobody has taken yet: how many there may be, and whose are taken back when it gets crowded.

An offer holds no slot, but memory and, soon, rows of the database. What is taken back early is the oldest of
whoever has most: a client that asks without end loses its own offers, and others keep theirs. It must not
know HTTP or the database.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

MOST_BYTES = 512 * 1024**2
"""Of the requests they were made for, times their offers."""


@dataclass
class _Theirs:
    sets: OrderedDict[str, int] = field(default_factory=OrderedDict)
    size: int = 0


class Room:
    """Counts open sets of offers by owner.

    Args:
        most_sets: in all.
        most_bytes: in all.
    """

    def __init__(self, most_sets: int, most_bytes: int = MOST_BYTES) -> None:
        self._most_sets = most_sets
        self._most_bytes = most_bytes
        self._owners: dict[str, _Theirs] = {}
        self._owner_of: dict[str, str] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._owner_of)

    def add(self, uuid: str, owner: str, size: int) -> list[str]:
        """A set was made.

        Returns:
            The sets to take back for it.
        """
        theirs = self._owners.setdefault(owner, _Theirs())
        theirs.sets[uuid] = size
        theirs.size += size
        self._owner_of[uuid] = owner
        self._size += size
        crowded = []
        while len(self._owner_of) > 1 and (
            len(self._owner_of) > self._most_sets or self._size > self._most_bytes
        ):
            oldest = self._of_the_greediest()
            crowded.append(oldest)
            self.remove(oldest)
        return crowded

    def remove(self, uuid: str) -> None:
        """A set was taken, given back, or is over; told more than once."""
        owner = self._owner_of.pop(uuid, None)
        if owner is None:
            return
        theirs = self._owners[owner]
        size = theirs.sets.pop(uuid)
        theirs.size -= size
        self._size -= size
        if not theirs.sets:
            del self._owners[owner]

    def _of_the_greediest(self) -> str:
        """The oldest set of the owner with the largest part of what is short."""
        by_size = self._size > self._most_bytes

        def part(theirs: _Theirs) -> int:
            return theirs.size if by_size else len(theirs.sets)

        return next(iter(max(self._owners.values(), key=part).sets))
