"""The booking calendar against a brute-force model of it."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wes_bridge.node.calendar import Amount, Calendar

QUOTA = Amount(cores=4, memory=100, storage=50, gpus=2, sessions=3)
SLOT, HORIZON = 10, 200
AMOUNTS = st.builds(
    Amount,
    cores=st.integers(0, 4),
    memory=st.integers(0, 100),
    storage=st.integers(0, 50),
    gpus=st.integers(0, 2),
    sessions=st.just(1),
)


def fits_all(held: list[Amount]) -> bool:
    return all(sum(part) <= most for part, most in zip(zip(*held, strict=True), QUOTA, strict=True))


class CalendarMachine(RuleBasedStateMachine):
    """Whatever is asked, booked, moved and freed, at no instant is more held than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.calendar = Calendar(QUOTA, SLOT, HORIZON)
        self.now = 0
        self.held: dict[str, tuple[int, int, Amount]] = {}
        self.count = 0

    @initialize(now=st.integers(-1000, 1000))
    def begin(self, now: int) -> None:
        self.now = now

    # ---- the model ---------------------------------------------------------------------------------

    def has_room(self, amount: Amount, start: int, end: int) -> bool:
        """Looked at instant by instant."""
        return all(
            fits_all([amount, *(a for s, e, a in self.held.values() if s <= instant < e)])
            for instant in range(start, end)
        )

    def expected(
        self, amount: Amount, duration: int, earliest: int, latest: int | None, count: int
    ) -> list[int]:
        possible = [
            start
            for start in range(max(self.now, earliest), self.now + HORIZON + 1)
            if (start == self.now or start % SLOT == 0)
            and start + duration <= self.now + HORIZON
            and (latest is None or start <= latest)
        ]
        return [start for start in possible if self.has_room(amount, start, start + duration)][:count]

    # ---- what can happen ---------------------------------------------------------------------------

    @rule(
        amount=AMOUNTS,
        duration=st.integers(1, 60),
        wait=st.integers(-50, 250),
        width=st.none() | st.integers(0, 100),
        count=st.integers(1, 5),
        data=st.data(),
    )
    def ask_and_book(
        self, amount: Amount, duration: int, wait: int, width: int | None, count: int, data: st.DataObject
    ) -> None:
        earliest = self.now + wait
        latest = None if width is None else earliest + width
        starts = self.calendar.starts(amount, duration, earliest, latest, now=self.now, count=count)
        assert starts == self.expected(amount, duration, earliest, latest, count)
        for start in starts:
            assert start == self.now or start % SLOT == 0
            assert max(earliest, self.now) <= start
            assert latest is None or start <= latest
            assert start + duration <= self.now + HORIZON
        if starts:
            start = data.draw(st.sampled_from(starts))
            self.book(amount, start, duration, True)

    @rule(amount=AMOUNTS, wait=st.integers(0, 200), duration=st.integers(1, 60))
    def book_unasked(self, amount: Amount, wait: int, duration: int) -> None:
        """An acceptance long after its offer: the calendar says what is true now."""
        start = self.now + wait
        self.book(amount, start, duration, self.has_room(amount, start, start + duration))

    def book(self, amount: Amount, start: int, duration: int, possible: bool) -> None:
        self.count += 1
        name = str(self.count)
        assert self.calendar.book(name, amount, start, start + duration) is possible
        assert (name in self.calendar) is possible
        if possible:
            self.held[name] = (start, start + duration, amount)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """A cancellation, or an end before its time: what it held is free at once."""
        name = data.draw(st.sampled_from(sorted(self.held)))
        start, end, amount = self.held.pop(name)
        assert self.calendar.free(name) == (start, end, amount)
        assert self.calendar.free(name) is None
        assert self.calendar.has_room(amount, max(start, self.now), max(end, self.now))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def move_to_now(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        start, end, amount = self.held.pop(name)
        possible = self.has_room(amount, self.now, self.now + end - start)
        assert self.calendar.move(name, self.now) is possible
        self.held[name] = (self.now, self.now + end - start, amount) if possible else (start, end, amount)

    @rule(step=st.integers(1, 80))
    def time_goes_by(self, step: int) -> None:
        self.now += step
        self.held = {name: item for name, item in self.held.items() if item[1] > self.now}
        self.calendar.forget_past(self.now)

    # ---- what must always be true --------------------------------------------------------------------

    @invariant()
    def never_over_booked(self) -> None:
        for instant in range(self.now, self.now + HORIZON + 1, 3):
            used = self.calendar.used(instant)
            assert used.within(QUOTA)
            held = [a for s, e, a in self.held.values() if s <= instant < e]
            assert used == tuple(map(sum, zip(Amount(0, 0, 0, 0, 0), *held, strict=True)))

    @invariant()
    def it_lists_what_is_held(self) -> None:
        listed = self.calendar.within(self.now, self.now + 10 * HORIZON)
        assert {name: tuple(entry) for name, entry in listed} == self.held
        assert all(a[1].start <= b[1].start for a, b in pairwise(listed))


TestCalendar = CalendarMachine.TestCase
TestCalendar.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 150), st.integers(1, 50)), max_size=30))
@settings(deadline=None)
def test_what_is_freed_leaves_no_trace(bookings: list[tuple[Amount, int, int]]) -> None:
    calendar = Calendar(QUOTA, SLOT, HORIZON)
    made = [
        str(index)
        for index, (amount, start, length) in enumerate(bookings)
        if calendar.book(str(index), amount, start, start + length)
    ]
    random.Random(len(made)).shuffle(made)
    for name in made:
        calendar.free(name)
    assert len(calendar) == 0
    assert all(calendar.used(moment) == Amount(0, 0, 0, 0, 0) for moment in range(-1, 210))
    assert calendar.has_room(QUOTA, 0, 10**9)


def test_starts_are_on_the_hour_or_now() -> None:
    hour = 3600_000
    calendar = Calendar(Amount(cores=1), hour, 24 * hour)
    now = 1_700_000_123_456
    first, second, *_ = calendar.starts(Amount(cores=1), hour // 6, 0, None, now=now, count=4)
    assert first == now
    assert second % hour == 0 and 0 < second - now <= hour
    later = now + 2 * hour
    [start] = calendar.starts(Amount(cores=1), hour, later, None, now=now, count=1)
    assert start % hour == 0 and later <= start < later + hour


def test_no_room_for_what_is_not_there() -> None:
    calendar = Calendar(QUOTA, SLOT, HORIZON)
    for amount in (Amount(cores=5), Amount(gpus=3), Amount(storage=51), Amount(memory=101)):
        assert calendar.starts(amount, 10, 0, None, now=0, count=1) == []
        assert not calendar.book("x", amount, 0, 10)
    assert calendar.starts(Amount(cores=1), HORIZON + 1, 0, None, now=0, count=1) == []
    assert calendar.starts(Amount(cores=1), HORIZON, 0, None, now=3, count=9) == [3]


def test_promises_outlive_a_smaller_quota() -> None:
    calendar = Calendar(Amount(cores=2), SLOT, HORIZON)
    calendar.force("old", Amount(cores=8), 0, 50)
    assert calendar.starts(Amount(cores=1), 10, 0, None, now=0, count=1) == [50]
    with pytest.raises(ValueError, match="old"):
        calendar.force("old", Amount(cores=8), 0, 50)


def test_ten_thousand_bookings_are_searched_in_a_moment() -> None:
    """A tenth of the 10 ms of the target on a quiet machine; the bound here is for loaded ones."""
    minute, day = 60_000, 24 * 3600_000
    calendar = Calendar(Amount(cores=4000, sessions=4000), minute, day)
    chance = random.Random(1)
    while len(calendar) < 10_000:
        start = chance.randrange(0, day - 3600_000)
        calendar.book(str(len(calendar)), Amount(cores=8), start, start + chance.randrange(1, 600_000))
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        calendar.starts(Amount(cores=3900), 3600_000, 0, None, now=0, count=4)
        times.append(time.perf_counter() - begin)
    assert sorted(times)[25] < 0.1
