"""The messages an aggregator adds, and how those of brokers are named. Messages are plain JSON here."""

from __future__ import annotations

from typing import Any

from wes_bridge.model.execution_broker import Message
from wes_bridge.model.units import format_instant, utcnow

Json = dict[str, Any]

SILENT = "urn:wes-bridge:broker-silent"
"""A broker could not be reached or did not answer in time."""
GARBLED = "urn:wes-bridge:broker-garbled"
"""A broker answered something that is no answer."""
REFUSED = "urn:wes-bridge:broker-refused"
"""A broker found fault with the request as we sent it."""
UNEXPLAINED = "urn:wes-bridge:no-reason"
"""A broker said NO and not why."""
FILLED_IN = "urn:wes-bridge:filled-in"
"""Something the request left open was filled in."""
OTHER_DIALECT = "urn:wes-bridge:other-dialect"
"""No broker here speaks the dialect in which the request is written."""
LOOP = "urn:wes-bridge:loop"
"""The request has been here before, or has come through too many aggregators."""
TAKEN = "urn:wes-bridge:offer-taken"
"""Another offer of the same set was accepted."""
STALE = "urn:wes-bridge:stale"
"""What is shown is what the broker said earlier."""


def message(kind: str, level: str, template: str, **values: object) -> Json:
    """A message; ``{name}`` in the template is where a value goes."""
    texts = {name: str(value) for name, value in values.items()}
    text = template
    for name, value in texts.items():
        text = text.replace("{" + name + "}", value)
    made: Json = {"kind": kind, "time": format_instant(utcnow()), "level": level, "template": template}
    return made | {"values": texts, "message": text}


def named(broker: str, messages: list[Json], level: str | None = None) -> list[Json]:
    """Messages of a broker, each beginning with its name; with another level when one is given."""
    result = []
    for item in messages:
        told = dict(item)
        text = Message.model_validate(item).text() or "no text"
        told["broker"] = broker if "broker" not in item else f"{broker}/{item['broker']}"
        told["message"] = f"{broker}: {text}"
        if item.get("template"):
            told["template"] = f"{broker}: {item['template']}"
        if level is not None:
            told["level"] = level
        result.append(told)
    return result


def add_messages(part: Json, messages: list[Json]) -> None:
    """Add messages to the ``meta`` of an offer set or session."""
    if not messages:
        return
    meta = part.setdefault("meta", {})
    meta["messages"] = [*(meta.get("messages") or []), *messages]
