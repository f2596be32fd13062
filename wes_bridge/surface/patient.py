"""uvicorn's HTTP/1.1 protocol with limits: of headers, of the time a request takes to come, of connections.

uvicorn with ``httptools`` has none of its own: a header line may have any length, and a client that sends
half of a request keeps its connection for ever. Bytes are counted before the request is complete, as they
come, and a connection has one timer while something is awaited of it. It must not know what is answered.
"""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import logging
import math
import resource
from collections import Counter
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wes_bridge.auth.guard import CONNECTION
from wes_bridge.auth.peers import Connection
from wes_bridge.surface.one_write import Gathering
from wes_bridge.surface.patience import Patience
from wes_bridge.surface.refusing import RefusedError, raw_answer
from wes_bridge.surface.strangers import Strangers

_SPARE_FILES = 256
"""Descriptors that connections leave to everything else."""
_LINE = 4
"""Bytes of a header line beside its name and value."""


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line is for the log: strangers must not be able to fill it."""
    return record.levelno > logging.WARNING or not record.getMessage().startswith(
        ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
    )


logging.getLogger("uvicorn.error").addFilter(_is_news)


class _Awaited(enum.Enum):
    """What is to come of the request that is being read."""

    FIRST = "its first byte"
    HEAD = "the rest of its headers"
    BODY = "the rest of its body"
    NOTHING = "nothing"


class PatientProtocol(HttpToolsProtocol):
    """For ``uvicorn.Config(http=...)``."""

    patience = Patience()
    strangers = Strangers()
    _addresses: ClassVar[Counter[str]] = Counter()
    """Connections by address: one server is one process."""

    _timer: asyncio.TimerHandle | None = None
    _timed = _Awaited.NOTHING
    _unread: asyncio.TimerHandle | None = None
    _awaited = _Awaited.FIRST
    _head = 0
    _unparsed = 0
    _lines = 0
    _target = 0
    _body = 0
    _address: str | None = None
    _refused: RefusedError | None = None
    _connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        gathering = Gathering(cast("asyncio.Transport", transport), self.loop)
        super().connection_made(cast("asyncio.Transport", gathering))
        if self.server is not None and self.client is not None and self.server[1] is not None:
            self._connection = Connection((self.server[0], self.server[1]), self.client)
        self._address = _counted(self.client[0] if self.client else "")
        if self._address is not None:
            self._addresses[self._address] += 1
            self.app = self.strangers.counting(self.app, self._address)
        refused = self._crowd()
        if refused is not None:
            self._refuse(refused)
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._disarm()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if self._address is not None:
            self._addresses[self._address] -= 1
            if self._addresses[self._address] <= 0:
                del self._addresses[self._address]
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._refused is not None or self.parser is None:
            return
        if self._awaited is _Awaited.HEAD:
            self._unparsed += len(data)
        elif self._awaited is _Awaited.BODY:
            self._body += len(data)
        super().data_received(data)
        if self._refused is not None:
            return
        if self._awaited is _Awaited.HEAD and self._unparsed > self.patience.head:
            self._refuse(self._long_head())
        elif self._awaited is not self._timed:
            self._watch()

    # ---- what httptools calls ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins; it is told which connection it comes over."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[CONNECTION] = self._connection
        self._head = self._unparsed = self._target = self._body = self._lines = 0
        self._awaited = _Awaited.HEAD
        if self._timer is not None:
            self._disarm()

    def on_url(self, url: bytes) -> None:
        """Some of its address."""
        self._target += len(url)
        if self._target > self.patience.target:
            text = f"the address has more than the {self.patience.target} bytes that are taken"
            raise self._stop(RefusedError(400, text))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers; those that come after the body are dropped, since others were checked."""
        self._head += len(name) + len(value) + _LINE
        self._lines += 1
        if self._lines > self.patience.headers or self._head > self.patience.head:
            raise self._stop(self._long_head())
        if self._awaited is _Awaited.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there."""
        if len(self.pipeline) >= self.patience.queued:
            text = f"more than {self.patience.queued} requests were sent ahead of an answer"
            raise self._stop(RefusedError(400, text))
        if len(self.url) > self.patience.parameters and (refused := self._many_parts()) is not None:
            raise self._stop(refused)
        if any(name == b"content-encoding" and value.strip() != b"identity" for name, value in self.headers):
            text = "compressed bodies are not taken; send it without Content-Encoding"
            raise self._stop(RefusedError(415, text))
        if self._address is not None and (wait := self.strangers.wait(self._address, self.headers)):
            text = f"too many wrong credentials came from your address; wait {math.ceil(wait)} s"
            raise self._stop(RefusedError(429, text, math.ceil(wait)))
        super().on_headers_complete()
        self._awaited = _Awaited.BODY

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._awaited = _Awaited.NOTHING
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP, or to what was stopped above; in our shape."""
        text = "this is not a request that HTTP/1.1 allows: " + msg.removesuffix(".").lower()
        self._refuse(self._refused or RefusedError(400, text))

    # ---- slow readers --------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.patience.unread, self._abort)

    def resume_writing(self) -> None:
        """It has taken some."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # ---- refusing ------------------------------------------------------------------------------------

    def _crowd(self) -> RefusedError | None:
        """Why one more connection is too many; None when it is not."""
        most = min(self.patience.connections, _room())
        if len(self.connections) > most:
            return RefusedError(503, f"this server has {most} connections already; try again in a moment", 5)
        if self._address is not None and self._addresses[self._address] > self.patience.per_address:
            return RefusedError(
                503,
                f"your address has {self.patience.per_address} connections already; close some of them",
                5,
            )
        return None

    def _many_parts(self) -> RefusedError | None:
        """Why the address is too much for what looks at its parts one by one; None when it is not."""
        path, _, query = self.url.partition(b"?")
        if path.count(b"/") + path.lower().count(b"%2f") > self.patience.parts:
            return RefusedError(400, f"the path has more than the {self.patience.parts} parts that are taken")
        if query.count(b"&") >= self.patience.parameters:
            most = self.patience.parameters
            return RefusedError(400, f"the query has more than the {most} parameters that are taken")
        return None

    def _long_head(self) -> RefusedError:
        if self._lines > self.patience.headers:
            text = f"the request has more than the {self.patience.headers} header lines that are taken"
            return RefusedError(431, text)
        text = f"the request's headers have more than the {self.patience.head} bytes that are taken"
        return RefusedError(431, text)

    def _stop(self, refused: RefusedError) -> RefusedError:
        """Have the parser stop: it calls back with :meth:`send_400_response`."""
        self._refused = refused
        return refused

    def _refuse(self, refused: RefusedError) -> None:
        """Answer, unless another answer has begun, and close; for the application the client has gone."""
        self._refused = refused
        self._disarm()
        if self._owes_answer():
            self.transport.write(raw_answer(refused))
        for cycle in (self.cycle, *(item[0] for item in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self.transport.close()

    def _owes_answer(self) -> bool:
        """Whether what the client would read next is the answer to the request that is refused."""
        if self.cycle is None:
            return True
        if self.cycle.scope is self.scope:  # its head was complete
            return not self.cycle.response_started and not self.pipeline
        return self.cycle.response_complete

    # ---- time ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Give what is awaited its time, unless it has that already."""
        self._disarm()
        seconds = {
            _Awaited.FIRST: self.patience.first,
            _Awaited.HEAD: self.patience.head_time,
            _Awaited.BODY: self.patience.body_time,
        }.get(self._awaited)
        if seconds is not None:
            self._timed = self._awaited
            self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = _Awaited.NOTHING

    def _late(self) -> None:
        """What is awaited has not come in time."""
        self._disarm()
        if self.transport is None or self.transport.is_closing():
            return
        if self._awaited is _Awaited.FIRST:
            self.transport.close()
        elif self._awaited is _Awaited.HEAD:
            text = f"the request's headers did not come within {self.patience.head_time:g} s"
            self._refuse(RefusedError(408, text))
        elif self._awaited is _Awaited.BODY:
            self._late_body()

    def _late_body(self) -> None:
        is_waiting_for_us = self.flow.read_paused
        if is_waiting_for_us or self._body >= self.patience.body_least:
            self._body = 0
            self._watch()
            return
        least, seconds = self.patience.body_least, self.patience.body_time
        text = f"the request's body comes too slowly: less than {least} bytes in {seconds:g} s"
        self._refuse(RefusedError(408, text))

    def _abort(self) -> None:
        """Nothing of the answer was taken for long: what is left of it is dropped."""
        self._unread = None
        if self.transport is not None:
            self.transport.abort()


def _counted(address: str) -> str | None:
    """An address whose connections are counted; this machine's own are many users', or a proxy's."""
    try:
        return None if ipaddress.ip_address(address).is_loopback else address
    except ValueError:
        return None


def _room() -> int:
    """Connections for which there are descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else max(soft // 2, soft - _SPARE_FILES)
