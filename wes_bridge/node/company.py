"""Which commands of a node can have met: only those can have handed one another what they hold open.

A descriptor goes from one command to another by a socket that both reach: one that somebody has made in a
folder of this machine which a session may change in place and others see, or, without a name, in a network
that they share. So commands that have such a place in common are in one circle, with all that the others
there can have met; a circle lasts as long as one of its commands does, since a socket can be handed on as
well. It must not know platforms, nor what becomes of outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock


@dataclass(frozen=True)
class Reach:
    """What a command reaches that is not its own.

    Attributes:
        sees: files and folders of the machine, links followed.
        changes: those of them that it may change in place.
        network: whether it is in a network that others are in, too.
    """

    sees: Sequence[Path] = ()
    changes: Sequence[Path] = ()
    network: bool = False


@dataclass
class _Circle:
    """Commands that can have met.

    Attributes:
        places: where they can have.
        network: whether they can have in a network.
        members: those that go on.
    """

    places: set[Path] = field(default_factory=set)
    network: bool = False
    members: set[str] = field(default_factory=set)

    def is_reached(self, reach: Reach) -> bool:
        return (reach.network and self.network) or _overlap(self.places, reach.sees)

    def take_in(self, other: _Circle) -> None:
        self.places |= other.places
        self.network = self.network or other.network
        self.members |= other.members


class Company:
    """Of all commands of a node. From any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._circles: list[_Circle] = []
        self._going_on: dict[str, Reach] = {}
        self._unknown: set[str] = set()

    def began(self, session: str, reach: Reach, *, known: bool = True) -> None:
        """A command begins.

        Args:
            session: whose it is.
            reach: what it reaches.
            known: whether it can have met nobody yet: an earlier process of the node did not begin it.
        """
        with self._lock:
            if session in self._going_on:  # it is tried again
                return
            self._going_on[session] = reach
            if not known:
                self._unknown.add(session)
            new = _Circle(set(reach.changes), reach.network, {session})
            apart = []
            for circle in self._circles:
                if circle.is_reached(reach) or self._sees_one_of(circle.members, new.places):
                    new.take_in(circle)
                else:
                    apart.append(circle)
            for other, its in self._going_on.items():
                if _overlap(new.places, its.sees):
                    new.members.add(other)
            if new.places or new.network:
                self._circles = [*apart, new]

    def ended(self, session: str) -> bool:
        """A command has ended; whether one goes on that may hold what it has held."""
        with self._lock:
            self._going_on.pop(session, None)
            was_unknown = bool(self._unknown)
            self._unknown.discard(session)
            met = was_unknown and bool(self._going_on)
            for circle in self._circles:
                if session in circle.members:
                    circle.members.discard(session)
                    met = met or bool(circle.members)
            self._circles = [circle for circle in self._circles if circle.members]
            return met

    def _sees_one_of(self, members: Iterable[str], places: set[Path]) -> bool:
        return any(_overlap(places, self._going_on[each].sees) for each in members if each in self._going_on)


def _overlap(places: Iterable[Path], seen: Iterable[Path]) -> bool:
    """Whether something that is seen is one of the places, in one, or around one."""
    return any(
        one == place or place in one.parents or one in place.parents for place in places for one in seen
    )
