"""Booking without a node or a clock of its own: late acceptances, limits of offers, restarts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import inspect

from wes_bridge.config import BookingConfig, NodeConfig
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.states import Phase
from wes_bridge.model.units import GIB, format_instant
from wes_bridge.node.booking import Booked
from wes_bridge.node.capacity import Capacity, Need
from wes_bridge.node.checks import check_values
from wes_bridge.node.errors import BadRequestError, NodeError
from wes_bridge.node.ids import new_uuid
from wes_bridge.node.live import LiveSession
from wes_bridge.node.offers import OfferMaker, Slot, check_limits, need_of, schedule_of
from wes_bridge.store import node_sessions as store
from wes_bridge.store.database import Database, migrate

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class World:
    """A calendar of one core, and a clock that is set by hand."""

    def __init__(self, cores: int = 1) -> None:
        self.now = NOON
        self.moved: list[str] = []
        config = BookingConfig(mode="slots")
        self.booked = Booked(
            config,
            Capacity(cores, 100 * GIB, cores),
            lambda live: self.moved.append(live.uuid),
            clock=self.time,
        )

    def time(self) -> float:
        return self.now.timestamp()

    def offer(self, start: datetime, length: timedelta = HOUR, wished: str | None = None) -> LiveSession:
        schedule = schedule_of(Slot(start, length))
        if wished:
            schedule.requested = eb.RequestedSchedule(start=wished)
        session = eb.Session(
            meta=eb.Meta(uuid=new_uuid()),
            phase=Phase.OFFERED,
            compute=eb.Compute(cores=eb.MinMax(min=1)),
            schedule=schedule,
        )
        return LiveSession(session, "set", "boot")

    def kind(self, live: LiveSession) -> str | None:
        refused = self.booked.take(live, True)
        return refused.kind if refused else None


def test_a_late_acceptance_keeps_its_whole_time() -> None:
    world = World()
    offer = world.offer(NOON)
    assert format_instant(NOON) in offer.body()
    world.now += timedelta(minutes=4)
    assert world.kind(offer) is None
    assert world.booked.span(offer) == (world.now, world.now + HOUR)
    assert format_instant(world.now) in offer.body(), "a restart would know another start"
    assert offer.session.compute.schedule.available.start == f"{format_instant(world.now)}/PT0S"


def test_a_late_acceptance_does_not_push_the_next_away() -> None:
    world = World()
    assert world.kind(world.offer(NOON + HOUR)) is None
    slow, slower = world.offer(NOON), world.offer(NOON)
    world.now += timedelta(seconds=3)
    assert world.kind(slow) is None
    assert world.booked.span(slow) == (NOON, NOON + HOUR)
    world.booked.free(slow.uuid)
    world.now += timedelta(seconds=3)
    assert world.kind(slower) == "urn:wes-bridge:slot-taken"


def test_an_acceptance_after_the_requested_start() -> None:
    world = World()
    wished = f"{format_instant(NOON)}/PT10M"
    in_time, late = (world.offer(NOON, wished=wished) for _ in range(2))
    world.now += timedelta(minutes=9)
    assert world.kind(in_time) is None
    world.booked.free(in_time.uuid)
    world.now += timedelta(minutes=2)
    assert world.kind(late) == "urn:wes-bridge:slot-over"
    assert len(world.booked.calendar) == 0


def test_a_restart_keeps_what_a_smaller_quota_could_not() -> None:
    world = World()
    for start in (NOON, NOON, NOON + HOUR):
        world.booked.restore(world.offer(start))
    need = Need(1, GIB, HOUR)
    [first, *_] = world.booked.planner.slots(need, NOON, None)
    assert first.start == NOON + 2 * HOUR


def test_a_booking_that_is_over_is_not_begun() -> None:
    world = World()
    live = world.offer(NOON)
    world.booked.restore(live)
    world.booked.check(live)
    world.now += HOUR
    with pytest.raises(NodeError, match="before the command could start"):
        world.booked.check(live)

    async def wait() -> None:
        async with world.booked.in_time(live):
            await asyncio.Event().wait()

    with pytest.raises(NodeError, match="before the command could start"):
        asyncio.run(wait())


def test_waiting_ends_when_room_is_freed() -> None:
    world = World()
    first, second = world.offer(NOON), world.offer(NOON + HOUR)
    assert world.kind(first) is None and world.kind(second) is None

    async def go() -> None:
        waiting = asyncio.ensure_future(world.booked.wait_due(second))
        await asyncio.sleep(0)
        world.now += timedelta(minutes=10)
        world.booked.free(first.uuid)
        await asyncio.wait_for(waiting, 30)

    asyncio.run(go())
    assert world.moved == [second.uuid]
    assert world.booked.span(second) == (world.now, world.now + HOUR)


def test_room_freed_before_anybody_waited_is_not_lost() -> None:
    """A quick command ends before the next acceptance is written down and its session begins to wait."""
    world = World()
    first, second = world.offer(NOON), world.offer(NOON + HOUR)
    assert world.kind(first) is None and world.kind(second) is None

    async def go() -> None:
        world.booked.free(first.uuid)
        await asyncio.sleep(0.1)
        await asyncio.wait_for(world.booked.wait_due(second), 30)

    asyncio.run(go())
    assert world.moved == [second.uuid]


def test_nobody_is_moved_while_the_node_goes_down() -> None:
    world = World()
    first, second = world.offer(NOON), world.offer(NOON + HOUR)
    assert world.kind(first) is None and world.kind(second) is None

    async def go() -> None:
        waiting = asyncio.ensure_future(world.booked.wait_due(second))
        await asyncio.sleep(0)
        world.booked.free("somebody else")
        world.booked.close()
        world.booked.free(first.uuid)
        waiting.cancel()
        await asyncio.wait({waiting})

    asyncio.run(go())
    assert world.moved == []


FIGURES = st.none() | st.integers(-1, 12)
SIZES = st.builds(
    eb.MinMax,
    min=FIGURES,
    max=FIGURES,
    min_bytes=st.none() | st.integers(0, 12 * GIB),
    max_bytes=st.none() | st.integers(0, 12 * GIB),
)
COUNTS = st.builds(eb.MinMax, min=FIGURES, max=FIGURES)


def below(offered: int | None, asked: int | None) -> bool:
    return asked is None or (offered is not None and offered <= asked)


@given(st.none() | COUNTS, st.none() | SIZES, st.none() | COUNTS)
def test_an_offer_is_never_more_than_the_most_asked_for(
    cores: eb.MinMax | None, memory: eb.MinMax | None, gpus: eb.MinMax | None
) -> None:
    capacity = Capacity(8, 8 * GIB, 8, gpus=2)
    compute = eb.Compute(cores=cores, memory=memory, gpus=gpus)
    request = eb.ExecutionRequest(executable=eb.Executable(kind=eb.PROCESS), compute=compute)
    if any(note.level == "ERROR" for note in check_limits(request, capacity)):
        return
    config = NodeConfig(booking=BookingConfig(mode="slots"))
    booked = Booked(config.booking, capacity, lambda live: None)
    offers, _ = OfferMaker(config, capacity, booked.planner).make(request, [])
    assert offers
    for offer in offers:
        given_ = offer.compute
        for what, asked in (("cores", cores), ("memory", memory), ("gpus", gpus)):
            if asked is not None:
                found = getattr(given_, what)
                assert below(found.max, asked.max) and below(found.min, asked.max)
                assert below(found.max_bytes, asked.max_bytes) and below(found.min_bytes, asked.max_bytes)
        need = need_of(given_, HOUR)
        assert need == need_of(compute, HOUR)
        if memory is not None and memory.max is not None:
            assert need.memory <= memory.max * GIB
        assert given_.cores.min <= 8 and need.memory <= 8 * GIB and need.gpus <= 2


@given(st.text(alphabet="PT0123456789HMSDWYZ:-+./ ", max_size=40))
def test_intervals_are_understood_or_refused(text: str) -> None:
    requested = eb.RequestedSchedule(start=text, duration="PT1H")
    request = eb.ExecutionRequest(schedule=eb.RequestedScheduleBlock(requested=requested))
    try:
        check_values(request)
    except BadRequestError as error:
        assert "schedule.requested" in str(error)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"slot": "PT25H"}, "slot must not be longer than horizon"),
        ({"mode": "slots", "horizon": "PT1H"}, "default_duration must not be longer than horizon"),
        ({"slot": "PT0S"}, "greater than or equal"),
        ({"slot": "-PT1H"}, "greater than or equal"),
        ({"offers": 0}, "greater than 0"),
        ({"mode": "calendar"}, "'queue' or 'slots'"),
        ({"slots": 3}, "Extra inputs"),
    ],
)
def test_bad_settings(given_: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BookingConfig.model_validate(given_)


def test_slots_can_be_minutes() -> None:
    assert BookingConfig.model_validate({"slot": "PT5M"}).slot == timedelta(minutes=5)


def test_an_old_node_learns_to_take_notes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'node.db'}"
    old = Database(url, store.NODE)
    with old.write() as connection:
        for table in (*store.metadata.tables, "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    migrate(old.engine, store.NODE.migrations, "0001")
    assert not inspect(old.engine).has_table("notes")
    old.close()
    database = Database(url, store.NODE)
    for value in ("one", "two", None):
        with database.write() as connection:
            store.set_note(connection, "key", value)
        assert store.get_note(database, "key") == value
    database.close()
