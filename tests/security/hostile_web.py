"""Web servers that misbehave, as raw as they need to be: each path is one way to do so."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket, bytes], None]
"""Given the connection and the head of the request."""


class HostileWeb:
    """A server on loopback.

    Args:
        ways: answers by path; what comes after ``?`` is no part of it.

    Attributes:
        heads: of all requests, as they came.
    """

    def __init__(self, ways: dict[str, Answer], host: str = "127.0.0.1") -> None:
        self.ways = ways
        self.heads: list[bytes] = []
        self.closing = threading.Event()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65536)
                if not part:
                    return
                head += part
            self.heads.append(head)
            path = head.split(b" ")[1].decode().partition("?")[0]
            self.ways.get(path, missing)(connection, head)

    @property
    def paths(self) -> list[str]:
        return [head.split(b" ")[1].decode() for head in self.heads]


def missing(connection: socket.socket, _head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def text(body: bytes, headers: str = "") -> Answer:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n".encode()
    return lambda connection, _head: connection.sendall(head + body)


def redirect(location: str, status: int = 302) -> Answer:
    head = (
        f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    return lambda connection, _head: connection.sendall(head.encode())


def drip(start: bytes, piece: bytes, every: float = 0.05, most: float = 30.0) -> Answer:
    """``start`` at once, then ``piece`` again and again."""

    def answer(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(start)
        end = time.monotonic() + most
        while time.monotonic() < end:
            connection.sendall(piece)
            threading.Event().wait(every)

    return answer


def pour(start: bytes, piece: bytes) -> Answer:
    """``start``, then ``piece`` as fast as it is taken, for as long as it is."""

    def answer(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return answer


def bomb(megabytes: int, encoding: str = "gzip") -> Answer:
    """Zeros, packed."""
    zeros = bytes(1024**2)
    if encoding == "gzip":
        packed = gzip.compress(zeros * megabytes, 9)
    else:
        packed = zlib.compress(zeros * megabytes, 9)
    return text(packed, f"Content-Encoding: {encoding}\r\n")


@contextlib.contextmanager
def hostile_web(ways: dict[str, Answer]) -> Iterator[HostileWeb]:
    web = HostileWeb(ways)
    try:
        yield web
    finally:
        web.close()
