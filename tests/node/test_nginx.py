"""Inputs from a real web server."""

from __future__ import annotations

import hashlib
import os
from urllib.parse import quote

import pytest

from tests.nginx import Nginx, nginx
from tests.node.conftest import ROOT, NodeProcess, Request, Starter, shell, texts
from tests.waiting import until

__all__ = ["nginx"]
F = f"{ROOT}/in/f"


@pytest.fixture(scope="module")
def keeping(start_node: Starter) -> NodeProcess:
    return start_node(fetch={"private_hosts": ["127.0.0.1"], "timeout": 5}, cache_gib=1)


def wants(url: str, body: bytes) -> Request:
    checksum = {"type": "sha256", "value": hashlib.sha256(body).hexdigest()}
    return Request(shell(f"md5sum < {F}")).data(F, url, size=len(body), checksum=checksum)


@pytest.mark.parametrize("name", ["a.fits", "a b", "a#b", "a%20b", "a?b", "ä", "a+b", "a;b=c"])
def test_files_of_any_name(keeping: NodeProcess, nginx: Nginx, name: str) -> None:
    body = os.urandom(1000)
    (nginx.files / name).write_bytes(body)
    keeping.completed(wants(f"{nginx.url}/{quote(name)}", body))


def test_a_download_goes_on_after_the_server_has_crashed(keeping: NodeProcess, nginx: Nginx) -> None:
    body = os.urandom(12 * 1024**2)
    (nginx.files / "large").write_bytes(body)
    session = keeping.begin(wants(f"{nginx.url}/large", body))
    incoming = keeping.state / "incoming"
    until(lambda: any(path.stat().st_size > 2**20 for path in incoming.rglob("*") if path.is_file()))
    nginx.kill_workers()
    ended = keeping.end(session)
    assert ended["phase"] == "COMPLETED", texts(ended)
    assert keeping.stream(ended).split()[0] == hashlib.md5(body).hexdigest()
    until(lambda: any(line.startswith("206 GET /large") for line in nginx.said()))
    assert not any(line.startswith("200 ") for line in nginx.said()), "it began anew"


def test_what_has_not_changed_is_not_sent_again(keeping: NodeProcess, nginx: Nginx) -> None:
    (nginx.files / "same").write_bytes(b"content")
    request = Request(shell(f"cat {F}")).data(F, f"{nginx.url}/same")
    for _ in range(2):
        assert keeping.stream(keeping.completed(request)) == "content"
    until(lambda: nginx.said() == ["200 GET /same", "304 GET /same"])


def test_what_is_not_there_or_not_to_be_read(keeping: NodeProcess, nginx: Nginx) -> None:
    (nginx.files / "folder").mkdir()
    for name, says in (("none", "HTTP 404"), ("folder/", "HTTP 403")):
        session = keeping.run(Request(shell("true")).data(F, f"{nginx.url}/{name}"))
        assert session["phase"] == "FAILED"
        assert says in texts(session)
        assert f"{nginx.url}/{name}" in texts(session)
