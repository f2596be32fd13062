"""Hints from process to process through PostgreSQL: NOTIFY and LISTEN, beside looking now and then.

On one machine datagrams do it (:mod:`wes_bridge.store.wakeup`); workers and API servers elsewhere would have
to look all the time. A hint says only that it is worth looking; one that is lost costs a poll. While the
listening connection is up polls can be rare; it counts as up once a hint of our own has come back through it,
since a connection pooler in between may take LISTEN and never pass anything on.

Hints are sent on their own, after the transaction that they are about. Inside it they would make all writers
wait for each other: PostgreSQL commits transactions that notify one at a time, their wait for the disk
included. With SQLite nothing is sent and nothing is ever up.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any

from sqlalchemy import text

from wes_bridge.store.database import Database
from wes_bridge.store.outage import Trouble

_logger = logging.getLogger("wes_bridge.store")
SPACING = 0.05
"""Seconds between hints: what happens meanwhile is in the next one."""
AGAIN = 5.0
"""Seconds until a lost connection is made anew."""
ECHO = 10.0
"""Seconds our own hint may take to come back."""
RARELY = 10.0
"""Seconds between looks while hints come."""
_GOODBYE = 2.0
_SLICE = 1.0
"""Seconds after which a listening thread looks whether it is to end."""
_NOTIFY = text("SELECT pg_notify(:channel, :said)")


class Channel(StrEnum):
    """What a hint is about."""

    WORK = "wes_bridge_work"
    """For workers: a run to be claimed, or to be cancelled."""
    CHANGES = "wes_bridge_changes"
    """For who watches runs: something of one was written."""


class Teller:
    """Sends hints, from a thread of its own.

    Args:
        database: through which.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._wanted: set[Channel] = set()
        self._is_wanted = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        if not database.is_sqlite:
            self._thread = threading.Thread(target=self._run, name="notices-out", daemon=True)
            self._thread.start()

    def tell(self, *channels: Channel) -> None:
        """Send a hint soon; never waits. For any thread."""
        with self._lock:
            self._wanted.update(channels)
        self._is_wanted.set()

    def close(self) -> None:
        """Send what is to be sent, without waiting long for it. Blocks."""
        self._closing.set()
        self._is_wanted.set()
        if self._thread is not None:
            self._thread.join(_GOODBYE)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._is_wanted.wait()
            is_last = self._closing.is_set()
            self._is_wanted.clear()
            with self._lock:
                wanted, self._wanted = self._wanted, set()
            try:
                if wanted:
                    _notify(self._database, wanted)
            except Exception as error:
                _logger.debug("a hint was not sent; others will look by themselves: %s", error)
            self._closing.wait(SPACING)


class Listener:
    """Hears hints, in a thread of its own.

    Args:
        database: through which.
        channels: what about.
        on_hint: called in that thread when it is worth looking: also when hints begin and cease to come.

    Attributes:
        is_up: hints come, so looking now and then is enough.
    """

    def __init__(
        self, database: Database, channels: Collection[Channel], on_hint: Callable[[], None]
    ) -> None:
        self.is_up = False
        self._database = database
        self._channels = sorted(channels)
        self._on_hint = on_hint
        self._closing = threading.Event()
        self._silence = Trouble(_logger, "no hints from the database, looking more often", "hints come again")
        self._thread: threading.Thread | None = None
        if not database.is_sqlite:
            self._thread = threading.Thread(target=self._run, name="notices-in", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Listen no more; the thread may need a moment longer. Blocks."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_GOODBYE)

    def _run(self) -> None:
        while not self._closing.is_set():
            problem: object = "it was closed"
            try:
                self._listen()
            except Exception as error:
                problem = error
            if self.is_up:
                self.is_up = False
                if not self._closing.is_set():
                    self._silence.seen(problem)
                    self._on_hint()
            self._closing.wait(AGAIN)

    def _listen(self) -> None:
        """Until told to stop.

        Raises:
            Exception: the connection is lost, or hints do not come through it.
        """
        engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection  # psycopg's
            connection.detach()  # a pool of few must not lack it
            for channel in self._channels:
                connection.execute(text(f'LISTEN "{channel}"'))
            token, begun = uuid.uuid4().hex, time.monotonic()
            _notify(self._database, self._channels[:1], token)
            while not self._closing.is_set():
                for notice in driver.notifies(timeout=_SLICE):
                    self._hear(notice.payload, token)
                    if self._closing.is_set():
                        return
                if not self.is_up and time.monotonic() - begun > ECHO:
                    raise ConnectionError("hints do not come back: is there a connection pooler in between?")

    def _hear(self, payload: str, token: str) -> None:
        if payload == token:
            self.is_up = True
            self._silence.over()
        if payload in ("", token):
            self._on_hint()


class Looks:
    """Whether it is worth looking: after a hint, after a while, and always while no hints come.

    Args:
        database: through which hints come.
        channels: what about.
    """

    def __init__(self, database: Database, *channels: Channel) -> None:
        self._hint = threading.Event()
        self._looked = 0.0
        self._listener = Listener(database, channels, self._hint.set)

    @property
    def is_due(self) -> bool:
        """Whether to look now; if so, the hint is used up."""
        now = time.monotonic()
        if self._listener.is_up and not self._hint.is_set() and now - self._looked < RARELY:
            return False
        self._hint.clear()
        self._looked = now
        return True

    def close(self) -> None:
        """Listen no more. Blocks for a moment."""
        self._listener.close()


def _notify(database: Database, channels: Collection[Channel], said: str = "") -> None:
    with database.write() as connection:
        for channel in channels:
            connection.execute(_NOTIFY, {"channel": channel.value, "said": said})
