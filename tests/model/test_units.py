"""Durations, intervals and states as the standards write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.model.states import FINAL_STATES, LifecyclePhase, Phase, State, may_follow, task_state
from wes_bridge.model.units import (
    format_duration,
    format_instant,
    parse_duration,
    parse_instant,
    parse_interval,
    signal_of,
    spell_seconds,
)


@given(st.integers(0, 10**10))
def test_durations_come_back(milliseconds: int) -> None:
    length = timedelta(milliseconds=milliseconds)
    assert abs(parse_duration(format_duration(length)) - length) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT2H", 7200), ("P1DT30M", 88200), ("PT0.5S", 0.5), ("P2W", 1209600), ("-PT5M", -300)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "P1Y", "P1M", "2H", "PT2", "PT1H30", "P1DT", "pt1h"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_instants_come_back(when: datetime) -> None:
    assert abs(parse_instant(format_instant(when)) - when) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T10:00:00Z/PT30M",
        "PT30M/2026-01-01T10:30:00Z",
        "2026-01-01T10:00:00Z/2026-01-01T10:30:00Z",
        "2026-01-01T10:00:00/2026-01-01T11:30:00+01:00",
    ],
)
def test_intervals(text: str) -> None:
    start, end = parse_interval(text)
    assert start == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert end - start == timedelta(minutes=30)


@pytest.mark.parametrize("text", ["2026-01-01", "PT1H", "a/b", "/", "PT1H/PT1H"])
def test_what_is_not_an_interval(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_interval(text)


@given(st.sampled_from(list(State)), st.sampled_from(list(State)))
def test_final_states_are_final(old: State, new: State) -> None:
    if old in FINAL_STATES:
        assert may_follow(old, new) == (old is new)


@given(st.sampled_from(list(State)), st.sampled_from(list(State)))
def test_there_is_no_way_round_in_a_circle(old: State, new: State) -> None:
    if old is not new and may_follow(old, new) and may_follow(new, old):
        assert {old, new} == {State.RUNNING, State.PAUSED}


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_a_state(phase: Phase) -> None:
    assert task_state(phase) in State


def test_how_a_failure_is_told() -> None:
    assert task_state(Phase.FAILED, exit_code=3) is State.EXECUTOR_ERROR
    assert task_state(Phase.FAILED) is State.SYSTEM_ERROR
    assert task_state(Phase.PREPARING, LifecyclePhase.RUNNING) is State.RUNNING


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (7200, "2 h"), (90000, "1 d 1 h")]
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (1.25, "1.2 s"), (59.96, "1 min"), (7202.3, "2 h")],
)
def test_times_for_people_who_compare_short_ones(seconds: float, text: str) -> None:
    assert spell_seconds(seconds, tenths=True) == text


def test_signals_are_told_as_shells_do() -> None:
    told = {code: signal_of(code) for code in (0, 1, 127, 128, 137, 139, 255, -9)}
    assert told == dict.fromkeys(told) | {137: "SIGKILL", 139: "SIGSEGV"}
