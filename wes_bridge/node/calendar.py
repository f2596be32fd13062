"""A booking calendar: who holds how much of a fixed quota, and when there is room for more.

Pure: no I/O and no clock. Times are whole milliseconds since the epoch, so that what is written to a schedule
and read back is the same; who calls says what time it is. It knows amounts and names, nothing of sessions.

The quota's use over time is a step function: sorted moments at which it changes, and what is in use from each
to the next. A search for room reads each step once, however many bookings lie over one another.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

_BEGINNING = -(10**18)
_SPARE = 1024
"""Steps of the past that may pile up before they are dropped."""


class Amount(NamedTuple):
    """What a session holds, or what there is of it.

    Attributes:
        cores: processors.
        memory: bytes.
        storage: bytes.
        gpus: devices.
        sessions: how many run at once; a session is one.
    """

    cores: int = 0
    memory: int = 0
    storage: int = 0
    gpus: int = 0
    sessions: int = 1

    def plus(self, other: Amount) -> Amount:
        """The sum."""
        return Amount(
            self[0] + other[0], self[1] + other[1], self[2] + other[2], self[3] + other[3], self[4] + other[4]
        )

    def minus(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(
            self[0] - other[0], self[1] - other[1], self[2] - other[2], self[3] - other[3], self[4] - other[4]
        )

    def within(self, other: Amount) -> bool:
        """Whether no part is more than that of ``other``."""
        return (
            self[0] <= other[0]
            and self[1] <= other[1]
            and self[2] <= other[2]
            and self[3] <= other[3]
            and self[4] <= other[4]
        )


NOTHING = Amount(0, 0, 0, 0, 0)


class Entry(NamedTuple):
    """A booking: ``amount`` is held from ``start`` to just before ``end`` (milliseconds)."""

    start: int
    end: int
    amount: Amount


class Calendar:
    """Bookings of one quota.

    A booking starts on a slot boundary (a multiple of ``slot`` since the epoch, so on the hour for an hour)
    or at once, when there is room now: a slot that has begun is not lost. It may last as long as it likes,
    and it ends within the horizon.

    Args:
        quota: what there is.
        slot: milliseconds between two starts.
        horizon: milliseconds from now within which bookings must end.
    """

    def __init__(self, quota: Amount, slot: int, horizon: int) -> None:
        if slot <= 0 or horizon <= 0:
            raise ValueError("slot and horizon must be longer than nothing")
        self.quota = quota
        self.slot = slot
        self.horizon = horizon
        self._entries: dict[str, Entry] = {}
        self._times = [_BEGINNING]
        self._used = [NOTHING]

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str) -> Entry | None:
        """A booking by name."""
        return self._entries.get(name)

    # ---- finding room ------------------------------------------------------------------------------

    def starts(
        self, amount: Amount, duration: int, earliest: int, latest: int | None, *, now: int, count: int
    ) -> list[int]:
        """The next times at which ``amount`` is free for ``duration``.

        Args:
            amount: what is needed.
            duration: milliseconds, more than 0.
            earliest: no start before this.
            latest: no start after this, when given.
            now: the time; ``now`` itself is a start when there is room at once.
            count: how many at most.

        Returns:
            Starts in order; all but ``now`` on slot boundaries.
        """
        last = now + self.horizon - duration
        if latest is not None:
            last = min(last, latest)
        limit = self._room_beside(amount)
        if limit is None or duration <= 0:
            return []
        found: list[int] = []
        start = now if earliest <= now else self._boundary(earliest)
        times = self._times
        unread = bisect_right(times, start) - 1  # all steps from the start to this one have room
        while start <= last and len(found) < count:
            end = start + duration
            blocked = self._blocked(unread, end, limit)
            if blocked is None:
                found.append(start)
                unread = bisect_left(times, end, unread)
                start = self._boundary(start + 1)
            else:
                unread = blocked + 1
                start = self._boundary(times[unread])
            unread = max(unread, bisect_right(times, start) - 1)
        return found

    def has_room(self, amount: Amount, start: int, end: int) -> bool:
        """Whether ``amount`` is free from ``start`` to ``end``."""
        limit = self._room_beside(amount)
        step = bisect_right(self._times, start) - 1
        return limit is not None and self._blocked(step, end, limit) is None

    def used(self, moment: int) -> Amount:
        """What is in use at a moment that is not yet past."""
        return self._used[bisect_right(self._times, moment) - 1]

    def within(self, start: int, end: int) -> list[tuple[str, Entry]]:
        """Bookings that hold something between two moments, by start."""
        found = [item for item in self._entries.items() if item[1].start < end and item[1].end > start]
        return sorted(found, key=lambda item: (item[1].start, item[0]))

    def _room_beside(self, amount: Amount) -> Amount | None:
        """The most that may be in use where ``amount`` is added; None when it never fits."""
        return self.quota.minus(amount) if amount.within(self.quota) else None

    def _blocked(self, step: int, end: int, limit: Amount) -> int | None:
        """The first step from ``step`` on, before ``end``, in which more than ``limit`` is in use."""
        cores, memory, storage, gpus, sessions = limit
        used, beyond = self._used, bisect_left(self._times, end, step)
        for index in range(step, beyond):
            now = used[index]
            if now[4] > sessions or now[0] > cores or now[1] > memory or now[2] > storage or now[3] > gpus:
                return index
        return None

    def _boundary(self, moment: int) -> int:
        """The first slot boundary not before ``moment``."""
        return -(-moment // self.slot) * self.slot

    # ---- changing ----------------------------------------------------------------------------------

    def book(self, name: str, amount: Amount, start: int, end: int) -> bool:
        """Reserve, if there is still room.

        Args:
            name: of the booking, not used by another.
            amount: what it holds.
            start: from when.
            end: until when; after ``start``.

        Returns:
            Whether it was; false changes nothing.
        """
        if not self.has_room(amount, start, end):
            return False
        self.force(name, amount, start, end)
        return True

    def force(self, name: str, amount: Amount, start: int, end: int) -> None:
        """Reserve whether or not there is room: for what was promised already, before a restart.

        Raises:
            ValueError: the name is taken, or the booking does not end after it starts.
        """
        if name in self._entries or end <= start:
            raise ValueError(f"booking {name!r} exists, or ends before it starts")
        self._entries[name] = Entry(start, end, amount)
        first, beyond = self._cut(start), self._cut(end)
        used = self._used
        for index in range(first, beyond):
            used[index] = used[index].plus(amount)

    def free(self, name: str) -> Entry | None:
        """Give up a booking, begun or not: what is left of it is free at once.

        Returns:
            What it was; None when there is none of this name.
        """
        entry = self._entries.pop(name, None)
        if entry is None:
            return None
        first, beyond = self._cut(entry.start), self._cut(entry.end)
        used = self._used
        for index in range(first, beyond):
            used[index] = used[index].minus(entry.amount)
        for index in (beyond, first):
            if index > 0 and used[index] == used[index - 1]:
                del self._times[index], used[index]
        return entry

    def move(self, name: str, start: int) -> bool:
        """Have a booking start at another time, as long as before, if there is room.

        Returns:
            Whether it was moved.
        """
        entry = self.free(name)
        if entry is None:
            return False
        moved = self.book(name, entry.amount, start, start + entry.end - entry.start)
        if not moved:
            self.force(name, entry.amount, entry.start, entry.end)
        return moved

    def forget_past(self, now: int) -> None:
        """Drop what lies before ``now``: the steps, and bookings that have ended, held up or not."""
        step = bisect_right(self._times, now) - 1
        if step > _SPARE or step * 2 > len(self._times):
            for name in [name for name, entry in self._entries.items() if entry.end <= now]:
                self.free(name)
            step = bisect_right(self._times, now) - 1
            del self._times[1 : step + 1], self._used[:step]

    def _cut(self, moment: int) -> int:
        """The index of the step that begins at ``moment``, made if there is none."""
        index = bisect_left(self._times, moment)
        if index == len(self._times) or self._times[index] != moment:
            self._times.insert(index, moment)
            self._used.insert(index, self._used[index - 1])
        return index
