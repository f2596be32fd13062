"""Inputs from web servers that misbehave: each ends in the right file, or in a clear reason."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.node import misbehaving
from tests.node.conftest import ROOT, NodeProcess, Request, Starter, session_kinds, shell, texts
from tests.node.misbehaving import Site, part

BODY = bytes(range(256)) * 8192
"""2 MiB."""
F = f"{ROOT}/in/f"


@pytest.fixture(scope="module")
def pages() -> Iterator[Site]:
    yield from misbehaving.site()


@pytest.fixture(scope="module")
def quick(start_node: Starter) -> NodeProcess:
    """A node that gives silent servers up after a second."""
    return start_node(fetch={"private_hosts": ["127.0.0.1"], "timeout": 1, "least_rate": 1000})


def wants(url: str, **more: Any) -> Request:
    return Request(shell(f"md5sum < {F}; wc -c < {F}")).data(F, url, **more)


def failed(node: NodeProcess, request: Request) -> str:
    """The reasons of a session that fails while it is staged."""
    session = node.run(request)
    assert session["phase"] == "FAILED", session["phase"]
    assert "urn:wes-bridge:staging-failed" in session_kinds(session)
    assert "exitCode" not in session["executable"]
    left = [path for path in (node.state / "incoming").rglob("*") if path.is_file()]
    assert left == [], "something half written is left"
    return texts(session)


def came(node: NodeProcess, request: Request, body: bytes = BODY) -> None:
    words = node.stream(node.completed(request)).split()
    assert words == [hashlib.md5(body).hexdigest(), "-", str(len(body))]


def test_an_interrupted_download_goes_on_where_it_was(quick: NodeProcess, pages: Site) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        begin = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if begin == 0:
            return await part(request, BODY, len(BODY) // 2, ETag='"one"')
        rest = BODY[begin:]
        where = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
        return web.Response(status=206, body=rest, headers={"Content-Range": where, "ETag": '"one"'})

    pages.pages["/cut"] = page
    checksum = {"type": "sha256", "value": hashlib.sha256(BODY).hexdigest()}
    came(quick, wants(f"{pages.url}/cut", size=len(BODY), checksum=checksum))
    first, second = pages.headers("/cut")
    assert "Range" not in first
    assert second["Range"].startswith("bytes=")
    assert second["If-Range"] == '"one"'


def test_a_download_of_what_has_changed_begins_again(quick: NodeProcess, pages: Site) -> None:
    new = BODY[::-1]

    async def page(request: web.Request) -> web.StreamResponse:
        if "Range" in request.headers:  # it is another file now: the range is not for it
            return web.Response(body=new, headers={"ETag": '"two"'})
        return await part(request, BODY, 1_500_000, ETag='"one"')

    pages.pages["/changed"] = page
    came(quick, wants(f"{pages.url}/changed"), new)


def test_a_server_that_sends_another_part_than_asked_for_is_not_believed(
    quick: NodeProcess, pages: Site
) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        if "Range" in request.headers:
            return web.Response(
                status=206,
                body=BODY[10:],
                headers={"Content-Range": f"bytes 10-{len(BODY) - 1}/{len(BODY)}", "ETag": '"one"'},
            )
        if len(pages.headers("/shifted")) > 2:
            return web.Response(body=BODY)
        return await part(request, BODY, 1_500_000, ETag='"one"')

    pages.pages["/shifted"] = page
    came(quick, wants(f"{pages.url}/shifted"))


def test_a_truncated_file_fails_when_it_stays_so(quick: NodeProcess, pages: Site) -> None:
    pages.pages["/short"] = lambda request: part(request, BODY, 1000)
    assert "/short" in failed(quick, wants(f"{pages.url}/short"))
    assert pages.count("/short") == 4


def test_a_server_that_stalls_is_given_up(quick: NodeProcess, pages: Site) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 5000)
        await asyncio.sleep(30)
        return response

    pages.pages["/stall"] = page
    assert "only 0 bytes came or went in 1 s" in failed(quick, wants(f"{pages.url}/stall"))


def test_a_busy_server_is_asked_again_when_it_says(quick: NodeProcess, pages: Site) -> None:
    def page(_: web.Request) -> web.Response:
        if pages.count("/busy") == 1:
            return web.Response(status=503, headers={"Retry-After": "2"})
        return web.Response(body=BODY)

    pages.pages["/busy"] = page
    begun = time.monotonic()
    came(quick, wants(f"{pages.url}/busy"))
    assert time.monotonic() - begun >= 2


def test_a_server_that_is_busy_for_long_is_a_reason(quick: NodeProcess, pages: Site) -> None:
    pages.pages["/later"] = lambda _: web.Response(status=503, headers={"Retry-After": "7200"})
    reason = failed(quick, wants(f"{pages.url}/later"))
    assert "HTTP 503, and the server wants to be asked again in 7200 s" in reason
    assert pages.count("/later") == 1


CHECKSUMS = {
    "sha256": hashlib.sha256(BODY).hexdigest(),
    "md5": hashlib.md5(BODY).hexdigest(),
    "adler32": f"{zlib.adler32(BODY):08x}",
}


@pytest.mark.parametrize("kind", sorted(CHECKSUMS))
def test_a_checksum_is_checked(quick: NodeProcess, pages: Site, kind: str) -> None:
    pages.pages["/body"] = lambda _: web.Response(body=BODY)
    right = CHECKSUMS[kind]
    came(quick, wants(f"{pages.url}/body", checksum={"type": kind, "value": right}))
    wrong = "0" * len(right)
    reason = failed(quick, wants(f"{pages.url}/body", checksum={"type": kind, "value": wrong}))
    assert f"{kind} {wrong} was expected" in reason
    assert f"has {kind} {right}" in reason


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_a_size_is_checked(quick: NodeProcess, pages: Site, size: int) -> None:
    pages.pages["/body"] = lambda _: web.Response(body=BODY)
    reason = failed(quick, wants(f"{pages.url}/body", size=size))
    assert f"{size} bytes were expected" in reason
    assert ("more have come" if size < len(BODY) else f"{len(BODY)} bytes have come") in reason


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"checksum": {"type": "sha3000", "value": "00"}}, "'sha3000' are not checked here"),
        ({"checksum": {"type": "md5", "value": "xyz"}}, "32 lower-case hex digits, not 'xyz'"),
        ({"size": -1}, "its size must be 0 or more, not -1"),
        ({"directory": True}, "a folder cannot be fetched over HTTP"),
    ],
)
def test_what_cannot_be_is_a_no(quick: NodeProcess, more: dict[str, Any], says: str) -> None:
    messages = quick.refused(wants("https://example.org/f", **more))
    assert says in messages[0]["message"]


def test_a_redirect_to_a_private_host_is_refused(start_node: Starter, pages: Site) -> None:
    port = pages.url.rpartition(":")[2]
    node = start_node(fetch={"private_hosts": [f"127.0.0.1:{port}"]})
    pages.pages["/away"] = lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.2:1/x"})
    reason = failed(node, wants(f"{pages.url}/away"))
    assert "127.0.0.2 is a private address of this site" in reason
    assert pages.count("/away") == 1


def test_a_disk_that_gets_full_while_receiving(start_node: Starter, pages: Site, tmp_path: Path) -> None:
    """The node's folder is on a small disk of its own, in a mount namespace."""
    unshare = shutil.which("unshare")
    script = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", script], check=False).returncode:
        pytest.skip("no mount namespaces here")

    async def page(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(BODY)
        return response

    pages.pages["/large"] = page
    body = f"""
import json, os, pathlib, threading
from wes_bridge.config import NodeConfig
from wes_bridge.node.staging import default_schemes
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.schemes import Wanted
config = NodeConfig.model_validate({{"fetch": {{"private_hosts": ["127.0.0.1"]}}}})
url = {pages.url!r} + "/large"
scheme = default_schemes(config).get(url)
top = pathlib.Path({str(tmp_path)!r})
try:
    Incoming(top / "incoming").bring(scheme, Wanted(url), threading.Event(), lambda *_: print("placed"))
except OSError as error:
    print(error.strerror, [str(path) for path in (top / "incoming").iterdir()])
"""
    found = subprocess.run(
        [unshare, "-Urm", "sh", "-c", f'{script} && exec "$@"', "sh", sys.executable, "-c", body],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert found.stdout.strip() == "No space left on device []", found.stderr
