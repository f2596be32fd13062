"""How much of a request our servers take, and how long they wait for it.

The figures are generous for honest clients, long polls, streams of events and slow uploads included: what
they bound is a client that never ends its request. It must not know HTTP's grammar, nor what is answered.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """What one connection may cost.

    Attributes:
        headers: header lines of a request.
        head: bytes of them and of the request line.
        target: bytes of the address that is asked for, query included.
        parts: parts of its path.
        parameters: of its query.
        first: seconds until the first byte of a new connection.
        head_time: seconds from the first byte of a request to the end of its headers.
        body_time: seconds in which ``body_least`` bytes of a body must come; the last ones may be fewer.
        body_least: see there.
        unread: seconds for which a client may take nothing of its answer.
        queued: requests that may be sent ahead of an answer.
        connections: connections of a server in all.
        per_address: connections of one address that is not this machine's own.
    """

    headers: int = 100
    head: int = 64 * 1024
    target: int = 16 * 1024
    parts: int = 256
    parameters: int = 100
    first: float = 30.0
    head_time: float = 20.0
    body_time: float = 30.0
    body_least: int = 8 * 1024
    unread: float = 120.0
    queued: int = 32
    connections: int = 32_768
    per_address: int = 4096
