"""Pages of other sites, and names that were made to point here, get nowhere: on every server."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.auth.conftest import API, Starter, raw, urls_of
from tests.service.conftest import Service
from wes_bridge.auth.origins import Names

PATHS = {"service": f"{API}/runs", "here": "/bookings", "all": "/health"}
FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")


def _host(url: str) -> str:
    return urlsplit(url).netloc


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "127.0.0.1.evil.example.org",
        "localhost.evil.example.org",
        "evil.example.org:{port}",
        "203.0.113.5",
        "[::2]",
        "127.0.0.1@evil.example.org",
        "localhost/evil",
        "localhost:x",
        "[::1",
        "",
        "xn--localhost-",
    ],
)
def test_a_name_that_is_not_ours_is_not_answered(service: Service, host: str) -> None:
    for name, url in urls_of(service).items():
        port = urlsplit(url).port
        status, text = raw(url, f"Host: {host.format(port=port)}", path=PATHS[name])
        assert status == 421, (name, text)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1", "[::1]:{port}", "a.localhost."]
)
def test_names_of_this_machine_are_ours(service: Service, host: str) -> None:
    for name, url in urls_of(service).items():
        status, text = raw(url, f"Host: {host.format(port=urlsplit(url).port)}", path=PATHS[name])
        assert status == 200, (name, text)


def test_two_names_or_none_are_one_too_many(service: Service) -> None:
    for name, url in urls_of(service).items():
        assert raw(url, "Host: localhost", "Host: evil.org", path=PATHS[name])[0] == 400
        assert raw(url, path=PATHS[name])[0] == 400


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "http://localhost:1", "http://127.0.0.1"]
)
def test_a_page_elsewhere_runs_nothing(service: Service, tmp_path: Path, origin: str, kind: str) -> None:
    canary = tmp_path / "canary"
    body = json.dumps({"executable": {"kind": "x", "command": ["touch", str(canary)]}, "data": []})
    before = httpx.get(f"{service.url}{API}/runs").json()
    urls = urls_of(service)
    for name, path in (
        ("here", "/direct"),
        ("here", "/requests"),
        ("all", "/direct"),
        ("service", f"{API}/runs"),
    ):
        lines = (f"Host: {_host(urls[name])}", f"Origin: {origin}", f"Content-Type: {kind}")
        status, text = raw(urls[name], *lines, method="POST", path=path, body=body)
        assert status == 403, (name, text)
        assert "access-control-allow-origin" not in text.lower()
    assert not canary.exists()
    assert httpx.get(f"{service.url}{API}/runs").json() == before


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket"])
def test_a_page_elsewhere_reads_nothing(service: Service, site: str, mode: str) -> None:
    for name, url in urls_of(service).items():
        lines = (f"Host: {_host(url)}", f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}")
        assert raw(url, *lines, path=PATHS[name])[0] == 403
    lines = (f"Host: {_host(service.url)}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
    assert raw(service.url, *lines, "Sec-Fetch-Dest: iframe", path=f"{API}/ui/")[0] == 403
    assert raw(service.url, *lines, "Sec-Fetch-Dest: document", path=f"{API}/ui/")[0] == 200  # a link
    assert raw(service.url, *lines, "Sec-Fetch-Dest: document", path=f"{API}/runs", method="POST")[0] == 403


def test_our_own_pages_may(service: Service) -> None:
    own = f"Origin: {service.url}"
    for more in ((own,), ("Sec-Fetch-Site: same-origin",), ("Sec-Fetch-Site: none",), (own, "Referer: x")):
        lines = (f"Host: {_host(service.url)}", *more)
        assert raw(service.url, *lines, path=f"{API}/runs")[0] == 200
        status, text = raw(service.url, *lines, method="POST", path=f"{API}/runs", body="x")
        assert status in (400, 415), text


@pytest.mark.parametrize("kind", FORMS)
def test_brokers_take_no_forms(service: Service, kind: str) -> None:
    """What a page may send without asking is never what a broker takes."""
    for name in ("here", "all"):
        url = urls_of(service)[name]
        for path in ("/direct", "/requests"):
            lines = (f"Host: {_host(url)}", f"Content-Type: {kind}")
            status, text = raw(url, *lines, method="POST", path=path, body='{"data": []}')
            assert status == 415, text


def test_origins_of_the_configuration_may(start_service: Starter) -> None:
    portal = "https://portal.example.org"
    made = start_service(authentication={"cors_origins": [portal], "hosts": ["wes.example.org"]})
    runs = f"{made.url}{API}/runs"
    answer = httpx.get(
        runs, headers={"Origin": portal, "Sec-Fetch-Site": "cross-site", "Host": "wes.example.org"}
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == portal
    asked = {"Origin": portal, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    answer = httpx.options(runs, headers=asked)
    assert answer.status_code == 200
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    evil = {"Origin": "https://evil.example.org", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(runs, headers=evil)
    assert answer.status_code >= 400 and "access-control-allow-origin" not in answer.headers
    made.stop()


def test_names_of_the_configuration() -> None:
    names = Names(["wes.example.org", "*.site.example", "192.0.2.7"], public="https://wes.example.org/base")
    for host in (
        "wes.example.org",
        "WES.example.org:443",
        "a.site.example",
        "a.b.site.example",
        "192.0.2.7:80",
    ):
        assert names.is_ours(host, "10.0.0.1"), host
    for host in (
        "site.example",
        "evilsite.example",
        "xwes.example.org",
        "wes.example.org.",
        "10.0.0.2",
        "a b",
    ):
        assert names.is_ours(host, "10.0.0.1") is (host == "wes.example.org."), host
    assert names.is_ours("10.0.0.1:8080", "10.0.0.1")
    assert names.is_ours("[fe80::1]", "fe80::1%eth0")
    own = {b"origin": "https://wes.example.org"}
    assert not names.is_foreign("POST", "127.0.0.1:8080", own)  # a proxy that says another Host
    assert names.is_foreign("POST", "127.0.0.1:8080", {b"origin": "http://wes.example.org"})
    assert names.is_foreign("POST", "wes.example.org", {b"origin": "https://wes.example.org:444"})
