"""Which dialect a broker speaks that the configuration does not tell: found out by asking it how it is.

Our own node says what it is at ``/health``, and so does another aggregator, which passes on requests of any
dialect. A broker that knows no such path is one of the reference dialect. It must not know any request.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from wes_bridge.aggregator.health import told_of
from wes_bridge.aggregator.upstream import Upstream
from wes_bridge.federation.client import BrokerError

AUTO = "auto"
_NATIVE, _REFERENCE, _ANY = "native", "reference", "any"
_PATIENCE = 2.0
"""Seconds for the answer; a broker that gives none is taken for a native one, and asked again."""
_GOOD_FOR = 600.0
"""Seconds for which an answer is remembered: another server may be put in the place of a broker."""
_NO_SUCH_PATH = frozenset({404, 405, 501})


@dataclass
class _Known:
    dialect: str
    until: float


class Dialects:
    """Remembers those that it has found out. For one event loop."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def understands(self, broker: Upstream, dialect: str, via: str) -> bool:
        """Whether a broker understands requests of a dialect.

        Args:
            broker: by its configuration, or by what it says.
            dialect: of the request.
            via: header that tells aggregators among them the way this has come.
        """
        if broker.dialect != AUTO:
            return broker.dialect == dialect
        async with self._asking.setdefault(broker.name, asyncio.Lock()):
            known = self._known.get(broker.name)
            if known is None or known.until < time.monotonic():
                found = await _found(broker, via)
                if found is None:
                    return dialect == _NATIVE
                known = self._known[broker.name] = _Known(found, time.monotonic() + _GOOD_FOR)
        return known.dialect in (dialect, _ANY)


async def _found(broker: Upstream, via: str) -> str | None:
    try:
        answer = await broker.exchange("GET", f"{broker.url}/health", _PATIENCE, headers={"Via": via})
    except BrokerError:
        return None
    told = told_of(answer)
    if isinstance(told.get("status"), str) and "name" in told:
        return _ANY if isinstance(told.get("brokers"), list) else _NATIVE
    return _REFERENCE if answer.status in _NO_SUCH_PATH else None
