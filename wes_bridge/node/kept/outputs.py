"""What a node's sessions have to do with its kept outputs: those they make, and those they use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container
from pathlib import Path

from wes_bridge.config import NodeConfig
from wes_bridge.model.units import GIB
from wes_bridge.node.kept.asking import output_name
from wes_bridge.node.kept.inputs import KeptInputs
from wes_bridge.node.kept.keeper import SessionKeeper
from wes_bridge.node.kept.store import KeptStore
from wes_bridge.node.live import LiveSession
from wes_bridge.node.staging.plan import Tree
from wes_bridge.store.outage import Trouble

log = logging.getLogger(__name__)

_LOOK = 60.0
"""Seconds between looks for leases that have run out, at most."""
_SHORTEST = 0.05


class Outputs:
    """The kept outputs of a node.

    Args:
        config: of the node.
        state: the node's folder.
        clock: seconds since the epoch.

    Attributes:
        store: has them.
        linked: bytes of inputs that were taken from here, without moving one.
        served: bytes of them that were sent over HTTP.
        fetched: bytes of other nodes' kept outputs that were received.
    """

    def __init__(self, config: NodeConfig, state: Path, clock: Callable[[], float] = time.time) -> None:
        gib = config.kept.gib or config.storage_gib
        self.config = config.kept
        self.store = KeptStore(state / "kept", None if gib is None else int(gib * GIB), clock)
        self.linked = self.served = self.fetched = 0
        self._lock = threading.Lock()
        self._clock = clock
        self._changed = asyncio.Event()
        self._wakes = 0.0

    def keeper(self, live: LiveSession, stop: threading.Event | None = None) -> SessionKeeper:
        """Keeps the outputs of a session, until ``stop`` is set."""
        return SessionKeeper(self.store, self.config, live.uuid, live.owner, stop)

    def tell(self, live: LiveSession) -> None:
        """Write what is kept of a session's outputs into the session."""
        asked = [data for data in live.session.data or () if data.keep is not None and output_name(data)]
        for data in asked:
            self.keeper(live).tell(data)
            if data.kept is not None and data.kept.expires.timestamp() < self._wakes:
                self._changed.set()

    def forget(self, live: LiveSession) -> None:
        """Remove what a session that was cancelled has left. Blocks."""
        if any(data.keep is not None for data in live.session.data or ()):
            self.store.forget(live.uuid)

    def count_served(self, size: int) -> None:
        """Bytes were sent."""
        self.served += size

    def count_fetched(self, size: int) -> None:
        """Bytes came from another node."""
        self.fetched += size

    def inputs(self, live: LiveSession) -> KeptInputs:
        """The kept outputs that a session may use."""
        return KeptInputs(self.store, live.owner, live.uuid)

    def use(self, live: LiveSession) -> None:
        """Hold the kept outputs that a session has as inputs."""
        self.inputs(live).hold(live.session)

    def count_linked(self, live: LiveSession, tree: Tree) -> None:
        """Count what a session was given without moving a byte. Blocks."""
        with contextlib.suppress(OSError, ValueError):
            size = self.inputs(live).linked(tree)
            if size:
                with self._lock:
                    self.linked += size

    def let_go(self, live: LiveSession) -> None:
        """A session has ended, and needs none of them any more."""
        if self.store.let_go(live.uuid):
            self._changed.set()

    def look(self) -> None:
        """Something was released: look for what can be removed."""
        self._changed.set()

    async def free_due(self, live: Callable[[], Container[str]], freed: Callable[[], None]) -> None:
        """Free outputs as their leases run out, for ever.

        Args:
            live: the sessions that have not ended.
            freed: called when there may be more room.
        """
        trouble = Trouble(log, "kept outputs cannot be freed; trying again")
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                await loop.run_in_executor(None, self.store.sweep, live())
            except OSError as error:
                trouble.seen(error)
            else:
                trouble.over()
                freed()
            end = self.store.next_end()
            wait = _LOOK if end is None else min(_LOOK, max(_SHORTEST, end - self._clock()))
            self._wakes = self._clock() + wait
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
