"""Are the brokers there? A look at each, shared by all clients that ask at about the same time.

A broker that has no ``/health`` is there when it answers at all. It must not know offers or sessions.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from wes_bridge.aggregator.messages import Json
from wes_bridge.aggregator.upstream import Upstream
from wes_bridge.federation.client import BrokerError
from wes_bridge.federation.exchange import Answer

DEADLINE = 2.0
"""Seconds a broker has to answer."""
KEPT = 1.0
"""Seconds for which the result of a look is kept."""
_SERVER_ERROR = 500


class Look:
    """Looks at brokers.

    Args:
        brokers: all of them.
    """

    def __init__(self, brokers: Sequence[Upstream]) -> None:
        self._brokers = brokers
        self._task: asyncio.Task[dict[str, str]] | None = None
        self._until = 0.0

    async def away(self, via: str) -> dict[str, str]:
        """The brokers that take nothing new now, and why, by name.

        Args:
            via: header that tells aggregators among them the way this has come.
        """
        if self._task is None or time.monotonic() > self._until:
            self._until = time.monotonic() + DEADLINE + KEPT
            self._task = asyncio.create_task(self._look(via))
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self, via: str) -> dict[str, str]:
        reasons = await asyncio.gather(*(_why_away(broker, via) for broker in self._brokers))
        self._until = time.monotonic() + KEPT
        named = zip(self._brokers, reasons, strict=True)
        return {broker.name: reason for broker, reason in named if reason is not None}


def report(name: str, brokers: Sequence[str], away: dict[str, str]) -> Json:
    """What ``/health`` tells: ``ok``, ``degraded`` when some brokers are away, ``failing`` when all are."""
    status = "ok" if not away else "degraded" if len(away) < len(brokers) else "failing"
    told: Json = {"status": status, "name": name, "brokers": list(brokers)}
    return told | {"away": away} if away else told


async def _why_away(broker: Upstream, via: str) -> str | None:
    """Why a broker takes nothing new; None when it does, as far as it says."""
    try:
        answer = await broker.exchange("GET", f"{broker.url}/health", DEADLINE, headers={"Via": via})
    except BrokerError as error:
        return str(error)
    told = told_of(answer)
    if told.get("status") == "failing" and isinstance(told.get("away"), dict):
        return f"{broker.name} is there, but none of its brokers: {', '.join(map(str, told['away']))}"
    if answer.status >= _SERVER_ERROR:
        return broker.refusal(answer)
    return f"{broker.name} is being drained" if told.get("draining") is True else None


def told_of(answer: Answer) -> Json:
    """The object in an answer; an empty one where there is none."""
    try:
        told = json.loads(answer.content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
