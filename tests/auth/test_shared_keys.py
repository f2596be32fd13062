"""Keys of signed URLs that several machines make of one secret."""

from __future__ import annotations

import pytest

from tests.clock import Clock
from wes_bridge.auth.shared_keys import SharedKeys

DAY, WEEK = 86400.0, 7 * 86400.0


def ring(clock: Clock, *secrets: bytes) -> SharedKeys:
    return SharedKeys(lambda: secrets, DAY, WEEK, clock)


def test_two_machines_have_the_same_keys() -> None:
    clock = Clock(1_000_000.0)
    key = ring(clock, b"one").current()
    assert ring(clock, b"one").find(key.id) == key
    assert ring(clock, b"other").find(key.id) is None
    assert len(key.secret) == 64


def test_a_key_is_known_until_its_last_url_has_expired() -> None:
    clock = Clock(1_000_000.0)
    keys = ring(clock, b"one")
    first = keys.current()
    clock.now += DAY
    assert keys.current() != first
    clock.now = first.made + DAY + WEEK - 1
    assert keys.find(first.id) == first
    clock.now += 2
    assert keys.find(first.id) is None


def test_a_new_secret_signs_and_the_old_one_is_still_known() -> None:
    clock = Clock(1_000_000.0)
    old = ring(clock, b"old").current()
    both = ring(clock, b"new", b"old")
    assert both.find(old.id) == old
    assert both.current() != old


def test_clocks_may_differ_by_a_day() -> None:
    ahead, behind = Clock(1_000_000.0 + DAY), Clock(1_000_000.0)
    key = ring(ahead, b"one").current()
    assert ring(behind, b"one").find(key.id) == key


@pytest.mark.parametrize("name", ["", "x", "-", "1", "99999999999999999999-00", "\u0661-0", "-1-0", "11-"])
def test_other_names_are_of_no_key(name: str) -> None:
    assert ring(Clock(1_000_000.0), b"one").find(name) is None


def test_without_a_secret_nothing_is_signed() -> None:
    with pytest.raises(OSError, match="no key in delegation"):
        ring(Clock(0.0)).current()
