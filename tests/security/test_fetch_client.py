"""The fetcher against servers, name servers and redirects that misbehave; all end in words."""

from __future__ import annotations

import asyncio
import base64
import gzip
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.security.hostile_web import HostileWeb, bomb, drip, hostile_web, pour, redirect, text
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import FetchError, RefusedError, TooLargeError, TooSlowError, UnknownHostError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.fetching.proxies import Proxies
from wes_bridge.fetching.resolving import look_up
from wes_bridge.notify.sending import DeliveryError, Sender

LOOPBACK = ("127.0.0.0/8",)
HEAD = b"HTTP/1.1 200 OK\r\n"


def fetcher(
    *hosts: str, resolver: Any = look_up, proxies: dict[str, str] | None = None, **limits: Any
) -> Fetcher:
    return Fetcher(
        Guard(PrivateHosts(hosts), resolver),
        Limits(**{"timeout": 5.0} | limits),
        proxies=Proxies(proxies or {}),
    )


def answers(*addresses: str) -> Any:
    """A resolver that gives one address after another, as a name server of an attacker does."""
    left = list(addresses)

    def resolver(_host: str, port: int, _family: int) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolver


@pytest.fixture
def web() -> Iterator[HostileWeb]:
    with hostile_web({"/ok": text(b"here"), "/secret": text(b"the canary")}) as site:
        yield site


def test_loopback_is_refused_and_never_connected_to(web: HostileWeb) -> None:
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        with pytest.raises(RefusedError, match=r"private.*fetch\.private_hosts"):
            fetcher().get(f"http://{host}:{web.port}/secret")
    assert web.heads == []


def test_loopback_is_fetched_where_it_is_allowed(web: HostileWeb) -> None:
    for allowed in ("127.0.0.0/8", "any", f"127.0.0.1:{web.port}"):
        assert fetcher(allowed).get(f"{web.url}/ok") == b"here"


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(web: HostileWeb) -> None:
    """DNS rebinding: a second question would be answered 127.0.0.1, so there is none."""
    asked = []
    attacker = answers("192.0.0.8", "127.0.0.1")

    def resolver(host: str, port: int, family: int) -> Any:
        asked.append(host)
        return attacker(host, port, family)

    url = f"http://rebinding.example:{web.port}/secret"
    with pytest.raises(FetchError):
        fetcher("192.0.0.8", resolver=resolver, timeout=0.3).get(url)
    assert asked == ["rebinding.example"]
    with pytest.raises(RefusedError, match=r"rebinding\.example.*127\.0\.0\.1"):
        fetcher("192.0.0.8", resolver=resolver).get(url)
    assert web.heads == []


def test_a_name_that_leads_to_a_private_address_among_others_is_refused(web: HostileWeb) -> None:
    def resolver(_host: str, port: int, _family: int) -> Any:
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("1.1.1.1", "127.0.0.1")]

    with pytest.raises(RefusedError):
        fetcher(resolver=resolver).get(f"http://both.example:{web.port}/secret")
    assert web.heads == []


def test_a_name_server_that_is_silent_ends(web: HostileWeb) -> None:
    silence = threading.Event()

    def resolver(*_: Any) -> Any:
        silence.wait(20)
        return []

    started = time.monotonic()
    with pytest.raises(UnknownHostError, match="name servers"):
        fetcher(resolver=resolver, timeout=0.2).get("http://slow.example/")
    silence.set()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "//10.0.0.1/x",
        "http://127.0.0.2:1\\@127.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "data:,x",
        "http://user:pw@10.0.0.1/",
        "https:/\\10.0.0.1/",
    ],
)
def test_redirects_are_checked_as_the_first_address(location: str) -> None:
    with hostile_web({"/away": redirect(location)}) as site, pytest.raises(RefusedError):
        fetcher(f"127.0.0.1:{site.port}").get(f"{site.url}/away")


def test_redirects_end(web: HostileWeb) -> None:
    web.ways |= {"/loop": redirect("/loop"), "/one": redirect("two"), "/two": redirect("/ok", 307)}
    with pytest.raises(FetchError, match="5 redirects"):
        fetcher(*LOOPBACK).get(f"{web.url}/loop")
    assert len(web.heads) == 6
    assert fetcher(*LOOPBACK).get(f"{web.url}/one") == b"here"


def test_credentials_stay_with_their_origin(web: HostileWeb) -> None:
    with hostile_web({"/ok": text(b"other")}) as other:
        web.ways |= {"/away": redirect(f"{other.url}/ok"), "/here": redirect("/ok")}
        named = web.url.replace("://", "://user:s%40cret@")
        assert fetcher(*LOOPBACK).get(f"{named}/away") == b"other"
        assert fetcher(*LOOPBACK).get(f"{named}/here") == b"here"
    sent = b"Authorization: Basic " + base64.b64encode(b"user:s@cret")
    assert all(sent in head for head in web.heads)
    assert len(web.heads) == 3
    assert b"uthorization" not in other.heads[0]


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b""),
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 100 Continue\r\n", b"\r\nHTTP/1.1 100 Continue\r\n"),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"z"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1", b";x"),
    ],
    ids=["silent", "status", "header", "informational", "body", "chunks", "chunk-extension"],
)
def test_what_drips_is_given_up(start: bytes, piece: bytes) -> None:
    with hostile_web({"/drip": drip(start, piece)}) as site:
        started = time.monotonic()
        with pytest.raises(TooSlowError, match="least_rate"):
            fetcher(*LOOPBACK, timeout=0.5, least_rate=1000.0).get(f"{site.url}/drip")
        assert time.monotonic() - started < 3


def test_what_goes_on_fast_enough_has_an_end_too() -> None:
    endless = pour(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + bytes(0x4000) + b"\r\n")
    with hostile_web({"/endless": endless}) as site:
        started = time.monotonic()
        with pytest.raises(TooSlowError, match=r"fetch\.deadline"):
            fetcher(*LOOPBACK, deadline=0.7).get(f"{site.url}/endless")
        with pytest.raises(TooLargeError, match=r"fetch\.max_bytes"):
            fetcher(*LOOPBACK, max_bytes=10**6).get(f"{site.url}/endless")
        assert time.monotonic() - started < 5


def test_a_slow_start_and_a_quick_rest_are_no_drip(web: HostileWeb) -> None:
    def late(connection: socket.socket, _head: bytes) -> None:
        threading.Event().wait(0.3)
        connection.sendall(HEAD + b"Content-Length: 400000\r\n\r\n" + bytes(300_000))
        threading.Event().wait(0.6)
        connection.sendall(bytes(100_000))

    web.ways["/late"] = late
    assert len(fetcher(*LOOPBACK, timeout=0.5).get(f"{web.url}/late")) == 400_000


def test_the_time_of_redirects_counts(web: HostileWeb) -> None:
    def slow(connection: socket.socket, _head: bytes) -> None:
        threading.Event().wait(0.3)
        redirect("/slow")(connection, _head)

    web.ways["/slow"] = slow
    started = time.monotonic()
    with pytest.raises(TooSlowError, match=r"fetch\.deadline"):
        fetcher(*LOOPBACK, deadline=0.5).get(f"{web.url}/slow")
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_does_not_go_off(encoding: str) -> None:
    with hostile_web({"/bomb": bomb(50, encoding)}) as site:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = 0
        with (
            pytest.raises(TooLargeError, match="200 times"),
            fetcher(*LOOPBACK).open("GET", f"{site.url}/bomb") as it,
        ):
            for chunk in it.chunks():
                size += len(chunk)
        assert size < 64 * 1024**2
        with pytest.raises(TooLargeError, match="max_bytes"):
            fetcher(*LOOPBACK, max_bytes=1000_000).get(f"{site.url}/bomb")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


def test_what_is_packed_is_unpacked(web: HostileWeb) -> None:
    content = bytes(range(256)) * 5000
    packed = gzip.compress(content[:700_000]) + gzip.compress(content[700_000:])
    web.ways["/packed"] = text(packed, "Content-Encoding: gzip\r\n")
    web.ways["/cut"] = text(packed[:-9], "Content-Encoding: gzip\r\n")
    web.ways["/odd"] = text(packed, "Content-Encoding: br\r\n")
    assert fetcher(*LOOPBACK).get(f"{web.url}/packed") == content
    for path in ("/cut", "/odd"):
        with pytest.raises(FetchError, match="pack"):
            fetcher(*LOOPBACK).get(f"{web.url}{path}")


def test_headers_have_an_end(web: HostileWeb) -> None:
    web.ways["/headers"] = pour(HEAD, b"X-Header: " + b"y" * 1000 + b"\r\n")
    web.ways["/line"] = pour(HEAD + b"X: ", b"y" * 65536)
    for path in ("/headers", "/line"):
        started = time.monotonic()
        with pytest.raises(FetchError):
            fetcher(*LOOPBACK).get(f"{web.url}{path}")
        assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 10\r\n\r\nshort",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"220 ftp.example.org\r\n",
        b"",
    ],
)
def test_what_is_no_answer_is_an_error_in_words(web: HostileWeb, answer: bytes) -> None:
    web.ways["/odd"] = lambda connection, _head: connection.sendall(answer)
    with pytest.raises(FetchError) as caught:
        fetcher(*LOOPBACK).get(f"{web.url}/odd")
    assert str(caught.value)


def test_who_does_not_take_what_is_sent_is_given_up() -> None:
    def deaf(_connection: socket.socket, _head: bytes) -> None:
        threading.Event().wait(10)

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1024**2)

    with hostile_web({"/put": deaf}) as site:
        started = time.monotonic()
        with (
            pytest.raises(TooSlowError),
            fetcher(*LOOPBACK, timeout=0.5).open(
                "PUT", f"{site.url}/put", content=pieces, length=100 * 1024**2
            ),
        ):
            pass
        assert time.monotonic() - started < 5


def test_a_put_is_sent_again_only_where_the_method_stays(web: HostileWeb) -> None:
    web.ways |= {"/307": redirect("/ok", 307), "/302": redirect("/ok", 302)}
    put = {"content": lambda: iter([b"abc"]), "length": 3}
    with fetcher(*LOOPBACK).open("PUT", f"{web.url}/307", **put) as answer:  # type: ignore[arg-type]
        assert answer.status == 200
    moved = fetcher(*LOOPBACK).open("PUT", f"{web.url}/302", **put)  # type: ignore[arg-type]
    with pytest.raises(FetchError, match="not followed"), moved:
        pass


def test_with_a_proxy_private_addresses_are_refused_all_the_same() -> None:
    with hostile_web({"http://example.invalid/x": text(b"by proxy")}) as proxy:
        known = {"http": proxy.url, "no": "direct.example"}
        assert fetcher(proxies=known).get("http://example.invalid/x") == b"by proxy"
        for url in (f"http://127.0.0.1:{proxy.port}/x", "http://localhost/x", "http://169.254.169.254/"):
            with pytest.raises(RefusedError):
                fetcher(proxies=known).get(url)
        with pytest.raises(RefusedError):
            fetcher(proxies=known, resolver=answers("10.0.0.1")).get("http://direct.example/x")
    assert proxy.paths == ["http://example.invalid/x"]


def test_webhooks_are_sent_to_the_address_that_was_checked(web: HostileWeb) -> None:
    asked = []

    def resolver(host: str, port: int, _family: int) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def send(url: str, *allowed: str) -> None:
        sender = Sender(Guard(PrivateHosts(allowed), resolver), 5.0)
        try:
            await sender.send(url, b"{}", {})
        finally:
            await sender.close()

    url = f"http://hook.example:{web.port}/ok"
    with pytest.raises(DeliveryError, match="private") as caught:
        asyncio.run(send(url))
    assert caught.value.is_lasting
    assert web.heads == []
    asyncio.run(send(url, *LOOPBACK))
    assert asked == ["hook.example"] * 2
    for form in ("127.1", "[::ffff:127.0.0.1]", "127.0.0.1\\@1.1.1.1"):
        with pytest.raises(DeliveryError):
            asyncio.run(send(f"http://{form}:{web.port}/ok"))
    assert len(web.heads) == 1
