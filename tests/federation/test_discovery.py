"""Brokers that a listing names: found at start, followed when it changes, never given our secrets."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wes_bridge.config import BrokerConfig, ListingConfig
from wes_bridge.federation.brokers import make_broker
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.federation.discovery import Directory
from wes_bridge.federation.listing import ListingError, parse_listing

ALPHA = {"name": "alpha", "url": "http://alpha.example.org:8082", "labels": {"site": "uk"}, "future": 1}
BETA = {"name": "beta", "url": "http://beta.example.org"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"brokers: [", "neither YAML nor JSON"),
        (b"- just\n- a list", "is not one"),
        (b"brokers: [{name: a b, url: http://x}]", "brokers.0.name"),
        (b"brokers: [{name: a, url: 'http://me:secret@x'}]", "must not hold a password"),
        (b"brokers: [{name: a}]", "brokers.0.url"),
        (b"\x80\x81\x00", "neither YAML nor JSON"),
        (b"", "is not one"),
        (b"!!python/object/apply:os.system [echo]", "neither YAML nor JSON"),
        (b"[" * 5000, "neither YAML nor JSON"),
    ],
)
def test_what_is_wrong_with_a_listing_is_told(text: bytes, said: str) -> None:
    with pytest.raises(ListingError, match=said):
        parse_listing(text, "here")


class Site:
    """A web server with one page."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, b"")
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = site.answer
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/brokers"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


def follow(listing: dict[str, Any], change: Any, rounds: int = 1) -> list[list[Broker]]:
    """What brokers there were, at start and after each change."""
    seen: list[list[Broker]] = []

    async def run() -> None:
        async with http_session() as http:
            fixed = [make_broker(BrokerConfig.model_validate(BETA | {"url": "http://own.example.org"}), http)]
            changed = asyncio.Event()

            def on_change(brokers: list[Broker]) -> None:
                seen.append(brokers)
                changed.set()

            config = ListingConfig.model_validate(listing | {"refresh": 0.05})
            directory = Directory(fixed, [config], http, on_change)
            await directory.start()
            try:
                for number in range(rounds):
                    changed.clear()
                    change(number)
                    await asyncio.wait_for(changed.wait(), 20)
            finally:
                await directory.stop()

    asyncio.run(run())
    return seen


def test_a_file_is_followed_and_health_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "brokers.yaml"
    path.write_text(json.dumps({"brokers": [ALPHA, BETA]}))
    seen = follow({"file": str(path)}, lambda _n: path.write_text("brokers: []"))
    assert [(b.name, b.url) for b in seen[0]] == [
        ("beta", "http://own.example.org"),  # the configuration's, not the listing's
        ("alpha", "http://alpha.example.org:8082"),
    ]
    assert seen[0][1].profile.labels == {"site": "uk"}
    assert len(seen[-1]) in (1, 2)


def test_a_url_is_followed_and_a_broken_listing_changes_nothing(site: Site) -> None:
    site.answer = (200, json.dumps({"brokers": [ALPHA]}).encode())

    def change(number: int) -> None:
        site.answer = [(500, b"oops"), (302, b""), (200, b"<html>")][number]
        threading.Timer(
            0.4, setattr, (site, "answer", (200, json.dumps({"brokers": [ALPHA]}).encode()))
        ).start()

    seen = follow({"url": site.url}, change, rounds=3)
    assert all([b.name for b in brokers] == ["beta", "alpha"] for brokers in seen)
    assert len({id(brokers[1]) for brokers in seen}) == 1  # the same broker, with what is known of its health


def test_secrets_go_to_trusted_hosts_only(site: Site) -> None:
    site.answer = (
        200,
        json.dumps({"brokers": [ALPHA, BETA | {"name": "gamma", "url": "http://evil.test"}]}).encode(),
    )
    listing = {"url": site.url, "credentials": {"env": "X"}, "trusted_hosts": ["*.example.org"]}
    brokers = {b.name: b for b in follow(listing, lambda _n: None)[0]}
    assert brokers["alpha"]._credentials is not None
    assert brokers["gamma"]._credentials is None
