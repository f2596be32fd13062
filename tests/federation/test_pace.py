"""How often a broker is asked that holds nothing: soon after news, else seldom, and never too often."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wes_bridge.federation.pace import FIRST, LONGEST, RATE, USUAL, Crowd, Pace


def steady(crowd: Crowd) -> Pace:
    return Pace(crowd, lambda: 0.5)


def pauses(pace: Pace, seconds: float) -> list[float]:
    """Of a session without news for so long."""
    quiet, found = 0.0, []
    while quiet < seconds:
        found.append(pace.next(quiet))
        quiet += found[-1]
    return found


def test_a_short_command_is_asked_for_often_and_a_long_one_seldom() -> None:
    found = pauses(steady(Crowd()), 4 * 3600.0)
    assert found[0] < 2 * FIRST
    assert found == sorted(found)
    assert max(pause for index, pause in enumerate(found) if sum(found[:index]) < 200) <= USUAL
    assert found[-1] == LONGEST


def test_news_make_it_quick_again() -> None:
    pace = steady(Crowd())
    pauses(pace, 3600.0)
    pace.news()
    assert pace.next(0.0) < 2 * FIRST


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2000), st.floats(0.0, 1e6), st.floats(0.0, 0.999))
def test_all_together_keep_to_the_rate(size: int, quiet: float, draw: float) -> None:
    crowd = Crowd()
    paces = [Pace(crowd, lambda: draw) for _ in range(size)]
    for pace in paces:
        pace.next(quiet)
    slowest = [pace.next(quiet) for pace in paces]
    assert all(pause > 0.899 * size / RATE for pause in slowest)
    assert crowd.size == size


def test_who_is_told_or_has_ended_is_not_counted() -> None:
    crowd = Crowd()
    one, two = steady(crowd), steady(crowd)
    one.next(0.0)
    two.next(0.0)
    one.held()
    one.held()  # it may be said twice
    assert crowd.size == 1
    one.next(0.0)
    assert crowd.size == 2
