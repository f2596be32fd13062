"""The demonstration's picture and words, from made-up logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from wes_bridge.demo import words
from wes_bridge.demo.drawing import Rect, Sheet, Text, can_png, fitted, svg, write_png
from wes_bridge.demo.nodes import as_yaml, demo_nodes, demo_service
from wes_bridge.demo.story import RUNNING, WAITING, Act, Bar, tell
from wes_bridge.demo.timeline import timeline
from wes_bridge.demo.watching import Booking, Seen
from wes_bridge.model.execution_broker import Session

ZERO = datetime(2026, 1, 1, 12, tzinfo=UTC)
NODES = {"alpha": "green", "beta": "cheap", "gamma": "idle"}


def at(seconds: float) -> str:
    return (ZERO + timedelta(seconds=seconds)).isoformat()


def session(*, created: float, due: float, started: float, finished: float, ended: float) -> Session:
    return Session.model_validate(
        {
            "meta": {"created": at(created), "modified": at(ended)},
            "phase": "COMPLETED",
            "executable": {"kind": "x", "started": at(started), "finished": at(finished)},
            "schedule": {"available": {"start": f"{at(due)}/PT0S", "duration": "PT2M"}},
        }
    )


def task(name: str, node: str, url: str, **placement: Any) -> dict[str, Any]:
    return {"name": name, "node": node, "session_url": url, "state": "COMPLETE", "placement": placement}


def seen(node: str, first: float, last: float, **phases: float) -> Seen:
    base = ZERO.timestamp()
    slot = (base + first, base + first + 120)
    return Seen(node, base + first, base + last, [slot], {name: base + when for name, when in phases.items()})


def a_story() -> Act:
    offers = [{"node": "alpha", "cost": [1, 3], "carbon": [2, 2]}, {"node": "beta", "cost": [1, 1]}]
    lost = {"attempt": 1, "node": "alpha", "session_url": "http://alpha/sessions/2", "problem": "gone"}
    tasks = [
        task("one", "alpha", "http://alpha/sessions/1", choice={"offers": offers}),
        task(
            "two<&>", "beta", "http://beta/sessions/3", attempt=2, earlier=[lost], choice={"offers": offers}
        ),
    ]
    sessions = {
        "http://alpha/sessions/1": session(created=0, due=1, started=1.5, finished=3, ended=3.25),
        "http://beta/sessions/3": session(created=5, due=4, started=5.5, finished=7, ended=7.5),
    }
    glimpses = {"2": seen("alpha", 1, 3.5, WAITING=1, RUNNING=2)}
    stopped = ("alpha", ZERO.timestamp() + 4)
    return tell("greenest", "COMPLETE", tasks, sessions, glimpses, stopped=stopped)


def test_phases_are_those_of_the_sessions() -> None:
    one, lost, two = a_story().bars
    base = ZERO.timestamp()
    pieces = [(name, start - base, end - base) for name, start, end in one.pieces]
    assert pieces == [
        ("waiting", 0, 1),
        ("preparing", 1, 1.5),
        ("running", 1.5, 3),
        ("releasing", 3, 3.25),
    ]
    assert (two.step, two.attempt, two.pieces[0][0]) == ("two<&>", 2, "preparing")
    assert one.slot == (base + 1, base + 121)
    assert not one.lost
    assert lost.lost
    assert [(name, end - base) for name, _, end in lost.pieces] == [(WAITING, 2), (RUNNING, 4)]


def test_what_a_run_was_quoted_at() -> None:
    act = a_story()
    assert (act.figure("cost"), act.figure("carbon"), act.figure("energy")) == (3, 2, None)
    assert act.makespan == pytest.approx(7.5)
    assert (act.by_node(), act.lost()) == ({"alpha": 1, "beta": 1}, 1)
    columns, (row,) = words.table([act], list(NODES))
    assert dict(zip(columns, row, strict=True)) | {"state": ""} == {
        "run": "greenest, alpha stopped",
        "alpha": "1 (+1 lost)",
        "beta": "1",
        "gamma": "-",
        "price": "3.00",
        "energy": "?",
        "CO2": "2.0 g",
        "time": "7.5 s",
        "state": "",
    }
    assert list(words.reasons(act)) == ["two<&> was lost on alpha (gone) → beta"]


def texts(document: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(document).iter() if element.text]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_picture_names_everything(count: int) -> None:
    found = texts(svg(timeline("Runs & nodes", [a_story()] * count, NODES)))
    for text in ("Runs & nodes", "alpha", "beta", "gamma", "one", "two<&>", "attempt 2", "alpha is gone"):
        assert text in found
    assert found.count("greenest, alpha stopped") == count
    assert found.count("nothing ran here") == count


def test_everything_is_on_the_sheet() -> None:
    sheet = timeline("Runs", [a_story()] * 3, NODES)
    for shape in sheet.shapes:
        if isinstance(shape, Rect):
            assert 0 <= shape.x <= shape.x + shape.width <= sheet.width
            assert 0 <= shape.y <= shape.y + shape.height <= sheet.height
        if isinstance(shape, Text):
            assert 0 <= shape.x <= sheet.width
            assert 0 <= shape.y <= sheet.height


def test_a_run_without_steps_is_drawn_too() -> None:
    assert texts(svg(timeline("Runs", [Act("cheapest", "EXECUTOR_ERROR", ())], NODES)))
    assert tell("cheapest", "COMPLETE", [{"name": "x", "placement": None}], {}, {}).bars == ()


def test_long_names_are_cut_and_told_in_full() -> None:
    name = "a_very_long_sub_workflow_name/with_a_very_long_step_name[123]"
    bar = Bar(name, "alpha", (("running", 0.0, 1.0),))
    document = svg(timeline("Runs", [Act("cheapest", "COMPLETE", (bar,))], NODES))
    assert name not in texts(document)
    assert any(text.startswith(f"{name} on alpha") for text in texts(document))
    assert fitted("abcdefghij", 10, 40) == "abc…ij"


def test_bookings_are_noted_as_they_change() -> None:
    glimpse = Seen("alpha", 1.0, 1.0)
    first = Booking.model_validate(
        {"session": "1", "start": at(60), "end": at(180), "phase": "WAITING", "cores": 1}
    )
    moved = first.model_copy(update={"start": ZERO, "phase": "RUNNING"})
    for moment, booking in ((1.0, first), (2.0, first), (3.0, moved)):
        glimpse.note(booking, moment)
    assert glimpse.phases == {"WAITING": 1.0, "RUNNING": 3.0}
    assert len(glimpse.slots) == 2
    assert glimpse.last == 3.0


def test_the_reason_names_who_was_faster() -> None:
    offers = [{"node": "gamma"}, {"node": "beta"}]
    reason = (
        "the better ones could not be accepted; cheapest of 3 offers: costs 0.0151234"
        " (gamma: costs 0.02; beta: costs 0.1)"
    )
    earlier = [{"node": "gamma", "problem": "gamma: the offer became EXPIRED"}]
    one = task("x", "beta", "u", reason=reason, choice={"offers": offers}, earlier=earlier)
    told = "cheapest of 3 offers: costs 0.1 (gamma: costs 0.015)"
    assert words.brief(one) == f"{told}; what gamma had offered, another step took first"


def test_the_nodes_differ_clearly() -> None:
    quotes = {node.name: node.config.quotes for node in demo_nodes()}

    def best(name: str, sign: int) -> str:
        return min(quotes, key=lambda node: sign * getattr(quotes[node], name).max)

    assert best("carbon", 1) == best("energy", 1) == best("compute_performance", -1) == "alpha"
    assert best("monetary", 1) == "gamma"
    assert all(node.config.booking.mode == "slots" for node in demo_nodes())
    assert "nodes: []" in as_yaml(demo_service({"alpha": "http://127.0.0.1:1/"}))


@pytest.mark.skipif(not can_png(), reason="needs matplotlib")
def test_png(tmp_path: Any) -> None:
    write_png(timeline("Runs $1", [a_story()], NODES), tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_sheet_is_a_document() -> None:
    assert ElementTree.fromstring(svg(Sheet(10, 10))).get("width") == "10"
