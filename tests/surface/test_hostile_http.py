"""Requests that are no HTTP, or that two servers could read in two ways: each gets one answer, and no 5xx."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.surface.conftest import Raw

_SEED = 20261127
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_BODY = b'{"executable":{"kind":"x"}}'
_SMUGGLED = b"GET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n"
"""What stands where the first request ends for one reader, and goes on for the other."""


def post(raw: Raw, headers: bytes, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head % raw.operation.encode() + headers + b"\r\n\r\n" + body


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY)
FORMS = {
    "both lengths": (b"Content-Length: 4\r\nTransfer-Encoding: chunked", CHUNKED),
    "both lengths, turned round": (b"Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNKED),
    "two lengths": (b"Content-Length: 4\r\nContent-Length: 27", _BODY),
    "two equal lengths": (b"Content-Length: 27\r\nContent-Length: 27", _BODY),
    "a list of lengths": (b"Content-Length: 27, 4", _BODY),
    "a negative length": (b"Content-Length: -1", _BODY),
    "a length with a plus": (b"Content-Length: +27", _BODY),
    "a hexadecimal length": (b"Content-Length: 0x1b", _BODY),
    "an endless length": (b"Content-Length: " + b"9" * 60, _BODY),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunked, then identity": (b"Transfer-Encoding: chunked, identity", CHUNKED),
    "identity, then chunked": (b"Transfer-Encoding: identity, chunked", CHUNKED),
    "almost chunked": (b"Transfer-Encoding: xchunked", CHUNKED),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked", CHUNKED),
    "a space before the colon": (b"Transfer-Encoding : chunked", CHUNKED),
    "a space before the name": (b" Transfer-Encoding: chunked", CHUNKED),
    "a folded line": (b"X-Fold: a\r\n Transfer-Encoding: chunked", CHUNKED),
    "a folded encoding": (b"Transfer-Encoding:\r\n chunked", CHUNKED),
    "a bare line feed": (b"X-A: b\nTransfer-Encoding: chunked", CHUNKED),
    "a bare carriage return": (b"X-A: b\rTransfer-Encoding: chunked", CHUNKED),
    "a NUL in a value": (b"X-A: b\x00Transfer-Encoding: chunked", CHUNKED),
    "a NUL in a name": (b"X\x00A: b", b""),
    "an extension of a chunk": (b"Transfer-Encoding: chunked", CHUNKED.replace(b"\r\n", b";x=y\r\n", 1)),
    "a long extension": (
        b"Transfer-Encoding: chunked",
        CHUNKED.replace(b"\r\n", b";" + b"x" * 70000 + b"\r\n", 1),
    ),
    "a line feed in an extension": (
        b"Transfer-Encoding: chunked",
        CHUNKED.replace(b"\r\n", b";x\nxx\r\n", 1),
    ),
    "a huge chunk": (b"Transfer-Encoding: chunked", b"ffffffffffffffffffff\r\n" + _BODY),
    "a negative chunk": (b"Transfer-Encoding: chunked", b"-1\r\n" + _BODY),
    "a chunk without its end": (b"Transfer-Encoding: chunked", CHUNKED.replace(_BODY + b"\r\n", _BODY)),
    "trailers": (b"Transfer-Encoding: chunked", CHUNKED[:-2] + b"Authorization: Bearer x\r\n\r\n"),
    "many trailers": (b"Transfer-Encoding: chunked", CHUNKED[:-2] + b"X: y\r\n" * 5000 + b"\r\n"),
    "a chunked body without an end": (b"Transfer-Encoding: chunked", CHUNKED[:-5]),
    "a body that is too short": (b"Content-Length: 100", _BODY),
    "an upgrade": (b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 27", _BODY),
    "an upgrade to HTTP/2": (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA",
        b"",
    ),
    "an expectation": (b"Expect: 100-continue\r\nContent-Length: 27", _BODY),
    "an odd expectation": (b"Expect: a miracle\r\nContent-Length: 27", _BODY),
}


def test_a_form_has_no_second_reading(raw: Raw) -> None:
    for form, answer in zip(FORMS, all_said(raw, [post(raw, *form) for form in FORMS.values()]), strict=True):
        check(answer, form)
    assert raw.health() == 200


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5",
        b"Transfer-Encoding : chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 47",
        b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5",
    ],
)
def test_nothing_is_smuggled(raw: Raw, headers: bytes) -> None:
    """A request that is in doubt is refused, and nothing after it is answered."""
    answer = raw.say(post(raw, headers, b"0\r\n\r\n" + _SMUGGLED))
    assert _STATUS.findall(answer) == [b"400"], answer[:500]


def test_a_trailer_is_no_header(raw: Raw) -> None:
    """What comes after the body was looked at by nobody."""
    body = CHUNKED[:-2] + b"Accept: application/yaml\r\n\r\n"
    answer = raw.say(post(raw, b"Connection: close\r\nTransfer-Encoding: chunked", body))
    check(answer)
    assert b"content-type: application/json" in answer.lower()


def test_garbage(raw: Raw) -> None:
    """Requests with bytes changed, taken out and doubled, each on a connection of its own."""
    chance = random.Random(_SEED)
    good = [
        post(raw, b"Content-Length: %d" % len(_BODY), _BODY),
        post(raw, b"Transfer-Encoding: chunked", CHUNKED),
        b"GET /sessions/../../etc?a=b;c HTTP/1.1\r\nHost: x\r\nAccept: a/b\r\nRange: bytes=0-1\r\n\r\n",
        b"GET /ga4gh/wes/v1/runs?page_size=1&tag=a%3Db HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\n",
    ]
    bad = [bytearray(chance.choice(good)) for _ in range(400)]
    for data in bad:
        for _ in range(chance.randint(1, 6)):
            change(chance, data)
    answers = all_said(raw, [bytes(data) for data in bad])
    assert sum(bool(answer) for answer in answers) > 200
    for data, answer in zip(bad, answers, strict=True):
        check(answer, data)
    assert raw.health() == 200


def all_said(raw: Raw, requests: list[bytes]) -> list[bytes]:
    """The answers, of many at a time: half of a request is answered by silence."""
    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(lambda data: raw.say(data, quiet=1.0), requests))


def change(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    odd = [
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"\xff",
        b"%",
        b"%00",
        b"/",
        b"\r\n",
        b"\r\n\r\n",
        b"\x7f",
        b"{",
    ]
    match chance.randrange(4):
        case 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        case 1:
            del data[at : at + chance.randint(1, 5)]
        case 2:
            data[at:at] = chance.choice(odd) * chance.choice([1, 1, 2, 50])
        case _:
            data[at:at] = data[at : at + chance.randint(1, 40)]
    if not data:
        data += b"x"


def check(answer: bytes, sent: object = "") -> None:
    """No 5xx, and nothing of our insides."""
    for status in _STATUS.findall(answer):
        assert int(status) < 500, (answer[:1000], sent)
    for inside in (b"Traceback", b"site-packages", b'File "', b"httptools", b"uvicorn"):
        assert inside not in answer, (answer[:1000], sent)
