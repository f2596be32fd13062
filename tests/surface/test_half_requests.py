"""A client that sends half of a request loses its connection; one that is only slow or waits does not."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import Request, shell
from tests.surface.conftest import Raw, everything, impatient_node
from wes_bridge.surface.patience import Patience

SHORT = Patience(first=0.5, head_time=0.5, body_time=0.5, body_least=1000)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raw]:
    state: Path = tmp_path_factory.mktemp("impatient") / "state"
    with impatient_node(state, SHORT) as made:
        yield made


def refusal(answer: bytes, status: int) -> str:
    """The message of an error that has the shape of both APIs."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"connection: close" in head.lower()
    told = json.loads(body)
    assert told["msg"] == told["message"]
    assert told["status_code"] == status
    return str(told["message"])


def test_nothing_at_all(node: Raw) -> None:
    with node.connect() as connection:
        connection.settimeout(10)
        assert connection.recv(1) == b""


def test_half_of_the_headers(node: Raw) -> None:
    with node.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-More: ")
        assert "headers did not come within 0.5 s" in refusal(everything(connection), 408)


def test_headers_a_byte_at_a_time(node: Raw) -> None:
    """New bytes buy no time."""
    with node.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        begun = time.monotonic()
        answer = dripped(connection, b"X: y\r\n" * 100, 0.05)
        assert time.monotonic() - begun < 4
        assert b"408" in answer[:20]


def test_half_of_the_headers_after_an_answer(node: Raw) -> None:
    with node.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1") == 2
        refusal(answer[answer.rindex(b"HTTP/1.1") :], 408)


@pytest.mark.parametrize("head", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
def test_a_body_a_byte_at_a_time(node: Raw, head: bytes) -> None:
    with node.connect() as connection:
        connection.sendall(b"POST /requests HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
        answer = dripped(connection, b"1\r\n \r\n" * 100, 0.05)
        assert "comes too slowly: less than 1000 bytes in 0.5 s" in refusal(answer, 408)


def test_the_rest_of_a_body_that_was_refused(node: Raw) -> None:
    """The answer was sent long ago: there is no second one."""
    with node.connect() as connection:
        connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        answer = dripped(connection, b" " * 100, 0.05)
        assert answer.count(b"HTTP/1.1") == 1


def test_300_halves_are_gone_soon_and_others_are_answered(node: Raw) -> None:
    halves = [node.connect() for _ in range(300)]
    for number, connection in enumerate(halves):
        connection.sendall(
            (b"GET /health HTTP/1.1\r\n", b"POST /requests HTTP/1.1\r\nHost: localhost\r\n")[number % 2]
        )
    assert node.health() == 200
    for connection in halves:
        assert b"408" in everything(connection)[:20]
        connection.close()


def test_a_slow_upload_goes_on(node: Raw) -> None:
    """It takes three times as long as a body may be silent, or longer."""
    body = json.dumps(Request(shell("true")).body).encode().ljust(36_000)
    with node.connect() as connection:
        connection.sendall(b"POST /requests HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
        connection.sendall(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 1200):
            connection.sendall(body[start : start + 1200])
            time.sleep(0.05)  # at most 24,000 bytes a second where 2,000 are the least
        assert everything(connection).startswith(b"HTTP/1.1 303 ")


def test_a_long_poll_goes_on(node: Raw) -> None:
    body = json.dumps(Request(shell("sleep 2")).body).encode()
    head = b"POST /direct HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with node.connect() as connection:
        connection.sendall(head % len(body) + body)
        answer = connection.recv(65536)
        session = json.loads(answer.partition(b"\r\n\r\n")[2])["meta"]["uuid"]
        etag = answer.lower().partition(b"etag: ")[2].partition(b"\r\n")[0]
        begun = time.monotonic()
        for _ in range(8):  # it changes a few times before it runs
            connection.sendall(
                b"GET /sessions/%b HTTP/1.1\r\nHost: x\r\nPrefer: wait=20\r\nIf-None-Match: %b\r\n\r\n"
                % (session.encode(), etag)
            )
            answer = connection.recv(65536)
            etag = answer.lower().partition(b"etag: ")[2].partition(b"\r\n")[0]
            if b"COMPLETED" in answer:
                break
        assert b"COMPLETED" in answer
        assert time.monotonic() - begun > 1


def test_a_client_that_reads_nothing_is_let_go(tmp_path: Path) -> None:
    patience = Patience(unread=0.5)
    with impatient_node(tmp_path / "state", patience) as node, node.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        begun = time.monotonic()
        with pytest.raises(OSError):  # reset, or a broken pipe
            while time.monotonic() < begun + 15:
                connection.sendall(ask * 20)
                time.sleep(0.05)
        assert time.monotonic() < begun + 15


@pytest.mark.parametrize("lines", [101, 5000])
def test_too_many_headers(raw: Raw, lines: int) -> None:
    answer = raw.say(b"GET /health HTTP/1.1\r\n" + b"X-%d: y\r\n" % 1 * lines + b"\r\n")
    assert "more than the 100 header lines" in refusal(answer, 431)


def test_an_endless_header(raw: Raw) -> None:
    with raw.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Endless: ")
        sent = 0
        begun = time.monotonic()
        try:
            while sent < 64 * 1024**2:
                sent += connection.send(b"a" * 65536)
        except OSError:
            pass
        assert sent < 16 * 1024**2
        assert time.monotonic() - begun < 5
    assert raw.health() == 200


def test_large_headers_that_are_taken(raw: Raw) -> None:
    """A bearer token may be long."""
    answer = raw.say(
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Token: "
        + b"a" * 30000
        + b"\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]


def test_a_long_address(raw: Raw) -> None:
    answer = raw.say(b"GET /health?" + b"a=b&" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert "the address has more than the 16384 bytes" in refusal(answer, 400)


def test_too_many_requests_ahead(raw: Raw) -> None:
    with raw.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000)
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 200 ") < 5000
    assert raw.health() == 200


def dripped(connection: socket.socket, data: bytes, pause: float) -> bytes:
    """What is answered while bytes are sent one by one."""
    connection.settimeout(pause)
    found = b""
    for number in range(len(data)):
        try:
            connection.send(data[number : number + 1])
            piece = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            break
        if not piece:
            break
        found += piece
    return found
