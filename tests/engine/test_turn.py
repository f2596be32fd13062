"""Who waits for the network lets the others load meanwhile."""

from __future__ import annotations

import threading

from wes_bridge.engine.turn import Turn


def test_who_is_away_holds_up_nobody() -> None:
    turn, is_away, may_return = Turn(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        with turn, turn:
            order.append("slow begins")
            with turn.away():
                is_away.set()
                assert may_return.wait(60)
            order.append("slow ends")

    thread = threading.Thread(target=slow)
    thread.start()
    assert is_away.wait(60)
    with turn:
        order.append("quick")
        may_return.set()
        thread.join(0.05)  # it has to wait for its turn again
        order.append("quick ends")
    thread.join(60)
    assert order == ["slow begins", "quick", "quick ends", "slow ends"]


def test_who_has_no_turn_takes_none_from_others() -> None:
    turn = Turn()
    with turn.away():
        pass
    with turn:
        taken: list[bool] = []

        def away() -> None:
            with turn.away():
                taken.append(turn._lock.locked())

        thread = threading.Thread(target=away)
        thread.start()
        thread.join(60)
        assert taken == [True]
