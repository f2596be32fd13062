"""What a NO means for what is done next: is it worth asking again, when, and for what.

A broker that is an aggregator says what several others say: each of its messages names one of them, and what
holds for one of them need not hold for the others. It must not know who is asked, or how long is waited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from wes_bridge.model.execution_broker import DOCKER_CONTAINER, Message
from wes_bridge.model.units import parse_duration

BROKER_AWAY = frozenset({"urn:wes-bridge:broker-silent", "urn:wes-bridge:broker-garbled"})
"""Kinds of the messages with which an aggregator says that one of its brokers gave no answer that is one."""
DRAINING = "urn:wes-bridge:draining"
"""Kind of the message with which our own node says that it could run the step, but is being drained."""
NO_SLOT = "urn:wes-bridge:no-slot"
"""Kind of the message with which our own node says that it could run the step, but is booked up."""
RESOURCE_LIMIT = "urn:resource-limit"
"""Kind of the message with which a node says that it has less than is asked for; of time, too."""
UNKNOWN_KIND = "uri:unknown-type"
"""Kind of the message with which a broker says that it has nothing for a component of some kind."""
_REMARKS = frozenset({"DEBUG", "INFO"})
"""Levels of messages that are no reasons."""


@dataclass(frozen=True)
class Refusal:
    """What one broker's NO means.

    Attributes:
        away: somebody who might run the step does not answer, or is being drained: asking again may help.
        busy: all that is said against the step is that somebody is booked up: asking again will help.
        no_containers: all that is said against the step is that there is no platform for containers.
        longest: nobody there takes a booking as long as was asked for; this is the longest.
    """

    away: bool = False
    busy: bool = False
    no_containers: bool = False
    longest: timedelta | None = None


def refusal_of(messages: Iterable[Message]) -> Refusal:
    """What the messages of a NO mean, taken together."""
    nodes = [_of_one(said) for said in _by_node(messages).values()]
    lengths = [node.longest for node in nodes if node.longest is not None]
    return Refusal(
        away=any(node.away for node in nodes),
        busy=any(node.busy for node in nodes),
        no_containers=bool(nodes) and all(node.no_containers for node in nodes),
        longest=max(lengths, default=None),
    )


def _by_node(messages: Iterable[Message]) -> dict[str | None, list[Message]]:
    """By who says them (native: ``broker``, set by aggregators); a broker that is none says all itself."""
    found: dict[str | None, list[Message]] = {}
    for message in messages:
        found.setdefault(message.broker, []).append(message)
    return found


def _of_one(messages: list[Message]) -> Refusal:
    kinds = {message.kind for message in messages if message.level in (None, "ERROR")}
    against = [message for message in messages if message.level not in _REMARKS]
    return Refusal(
        away=any(message.kind in BROKER_AWAY for message in messages) or kinds == {DRAINING},
        busy=kinds == {NO_SLOT},
        no_containers=bool(against) and all(map(_is_about_containers, against)),
        longest=_longest(messages) if len(kinds) == 1 else None,
    )


def _is_about_containers(message: Message) -> bool:
    """The message's kind alone does not say it: it may as well be about some storage or data."""
    return message.kind == UNKNOWN_KIND and (message.values or {}).get("kind") == DOCKER_CONTAINER


def _longest(messages: Iterable[Message]) -> timedelta | None:
    for message in messages:
        text = (message.values or {}).get("longest") if message.kind == RESOURCE_LIMIT else None
        try:
            if text and (length := parse_duration(text)) > timedelta():
                return length
        except (ValueError, OverflowError):
            continue
    return None
