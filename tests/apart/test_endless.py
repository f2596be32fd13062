"""A node that never ends its answer fills no disk, and can be given up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from wes_bridge.data.receiving import Receiving, WrongContentError
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.model.manifest import MEDIA_TYPE

OUTPUT = "/data/7c45c924-fbf8-43ab-9bb9-0f81e5310c84/output/"


def _folders() -> Iterator[bytes]:
    for start in itertools.count(0, 10_000):
        numbers = range(start, start + 10_000)
        yield b"".join(b'{"path":"%012d","kind":"directory"}\n' % number for number in numbers)


PIECES = {
    "one line": lambda: itertools.repeat(b" " * 65536),
    "lines": _folders,
    "empty lines": lambda: itertools.repeat(b"\n" * 65536),
}


@contextmanager
def _node(pieces: Iterator[bytes], sent: Event) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    sent.set()
            except OSError:  # the other end has had enough
                pass

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{OUTPUT}"
        server.shutdown()


def _receiving() -> Receiving:
    limits = Limits(5.0, deadline=None, max_bytes=None)
    return Receiving(Fetcher(Guard(PrivateHosts(["127.0.0.1"])), limits), pause=0)


@pytest.mark.parametrize("kind", PIECES)
def test_a_manifest_that_does_not_end(tmp_path: Path, kind: str) -> None:
    with (
        _node(iter(PIECES[kind]()), Event()) as url,
        pytest.raises(WrongContentError, match="longer than is taken"),
    ):
        _receiving().receive(url, tmp_path / "output", Event())
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_given_up(tmp_path: Path) -> None:
    """As when its run is cancelled."""
    stop, sent = Event(), Event()
    slow = (b"\n" for _ in itertools.count() if not stop.wait(0.01))
    with _node(slow, sent) as url:
        Thread(target=lambda: (sent.wait(10), stop.set()), daemon=True).start()
        with pytest.raises(InterruptedError):
            _receiving().receive(url, tmp_path / "output", stop)
