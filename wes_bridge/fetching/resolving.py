"""Finding the addresses of a host name, with an eye on the time that it takes.

The system's resolver cannot be told to stop, and a name server that does not answer keeps a thread for half a
minute and more. So each name is looked for in a thread of its own that nobody waits for at the end.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

from wes_bridge.fetching.errors import UnknownHostError

MOST = 256
"""Names looked for at a time; beyond that something is wrong with more than a few of them."""
Found = list[tuple[Any, ...]]
Resolver = Callable[[str, int, socket.AddressFamily], Found]
"""Host, port and family to what ``socket.getaddrinfo`` gives."""
_looking = threading.BoundedSemaphore(MOST)


def look_up(host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> Found:
    """What the system knows of a host name; blocks as long as the system likes.

    Raises:
        UnknownHostError: nothing.
    """
    try:
        return list(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        )
    except UnicodeError as error:
        raise UnknownHostError(f"{host} is no host name") from error
    except OSError as error:
        raise UnknownHostError(f"host {host} is not known ({error})") from error


def resolve(host: str, port: int, seconds: float, resolver: Resolver = look_up) -> list[str]:
    """The addresses of a host.

    Args:
        host: a name, or an address.
        port: the port that is asked for.
        seconds: that it may take.
        resolver: finds them.

    Raises:
        UnknownHostError: there are none, or the name servers are too slow.
    """
    if not _looking.acquire(blocking=False):
        raise UnknownHostError(f"the name servers do not answer: {MOST} host names are being looked for")
    found: queue.SimpleQueue[Found | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(resolver(host, port, socket.AF_UNSPEC))
        except Exception as error:  # told to who waits
            found.put(error)
        finally:
            _looking.release()

    threading.Thread(target=look, name=f"resolver {host}", daemon=True).start()
    try:
        answer = found.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise UnknownHostError(f"the name servers do not answer for host {host}") from None
    if isinstance(answer, Exception):
        raise answer
    addresses = [shown_address(one) for one in answer]
    if not addresses:
        raise UnknownHostError(f"host {host} has no address")
    return list(dict.fromkeys(addresses))


def shown_address(found: tuple[Any, ...]) -> str:
    """The address of one finding, with its interface where that belongs to it."""
    family, *_, address = found
    shown = str(address[0])
    if family == socket.AF_INET6 and len(address) > 3 and address[3] and "%" not in shown:
        shown = f"{shown}%{address[3]}"  # link-local: of one interface only
    return shown
