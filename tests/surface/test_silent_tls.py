"""Over TLS a silent client has no longer than without it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from tests.auth.test_outside import Authority
from tests.surface.conftest import Address
from tests.waiting import until
from wes_bridge.model.access import TlsConfig
from wes_bridge.surface.patience import Patience
from wes_bridge.surface.patient import PatientProtocol
from wes_bridge.surface.tls import TlsServer, encrypt

HASTE = 0.5
"""Seconds for the beginning of TLS."""


async def _app(scope: dict[str, object], _receive: object, send: object) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"well"})  # type: ignore[operator]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    authority = Authority(tmp_path_factory.mktemp("ca"))
    config = uvicorn.Config(
        _app, http=PatientProtocol, loop=request.param, log_level="critical", lifespan="off"
    )
    encrypt(config, TlsConfig.model_validate(authority.make("server")))
    server = TlsServer(config)
    server.handshake = HASTE
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def _hello() -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("part", ["nothing", "a byte", "half"])
def test_a_client_that_does_not_finish_its_hello_is_dropped(place: Address, part: str) -> None:
    hello = _hello()
    sent = {"nothing": b"", "a byte": hello[:1], "half": hello[: len(hello) // 2]}[part]
    with socket.create_connection(place, 10) as connection:
        begun = time.monotonic()
        connection.sendall(sent)
        assert _end(connection)
        assert HASTE * 0.8 < time.monotonic() - begun < 8


def test_others_are_answered(place: Address) -> None:
    with httpx.Client(verify=False) as client:
        assert client.get(f"https://127.0.0.1:{place[1]}/").text == "well"
        time.sleep(HASTE * 1.5)  # keys are agreed upon: the connection stays
        assert client.get(f"https://127.0.0.1:{place[1]}/").text == "well"


def test_the_time_is_that_of_a_first_byte() -> None:
    assert TlsServer.handshake == Patience().first


def _end(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
