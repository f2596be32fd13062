"""Sockets on which a machine that has vanished is noticed, also while nothing is to be sent.

A held poll is silent for most of a minute, and a machine that loses its power or its network closes no
connection. So the operating system asks the other side's, which answers however busy its server is.
"""

from __future__ import annotations

import socket
from typing import Any

IDLE, BETWEEN, PROBES = 10, 5, 3
"""Seconds of silence before the other side is asked, seconds from one question to the next, and questions."""
UNNOTICED = float(IDLE + BETWEEN * PROBES)
"""Seconds for which a machine may be gone before its connections break."""
_IDLE_OPTION = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))


def watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for a connection to an address, as ``getaddrinfo`` tells it."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    try:
        if family in (socket.AF_INET, socket.AF_INET6):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (_IDLE_OPTION, IDLE),
                (getattr(socket, "TCP_KEEPINTVL", None), BETWEEN),
                (getattr(socket, "TCP_KEEPCNT", None), PROBES),
                (getattr(socket, "TCP_USER_TIMEOUT", None), int(UNNOTICED * 1000)),
            ):
                if option is not None:
                    made.setsockopt(socket.IPPROTO_TCP, option, value)
    except BaseException:
        made.close()
        raise
    return made
