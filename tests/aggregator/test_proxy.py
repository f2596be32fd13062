"""An aggregator behind a reverse proxy: a path prefix, headers that are believed or not, a public URL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import aiohttp
import pytest
from aiohttp import web

from tests.aggregator.conftest import AggregatorProcess, AggregatorStarter, check_urls
from tests.node.conftest import NodeProcess, Request, shell

PREFIX = "/edge/broker"
Make = Callable[[str, dict[str, str], bool], str]


class ReverseProxy:
    """A little reverse proxy on a loopback socket.

    Args:
        target: where requests go.
        headers: added to them; ``{host}`` is its own address.
        strips: whether it takes the prefix away.
    """

    def __init__(self, target: str, headers: dict[str, str], strips: bool) -> None:
        self._target, self._headers, self._strips = target, headers, strips
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(60)

    def _run(self, ready: threading.Event) -> None:
        self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop())

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", PREFIX + "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"http://{self.host}{PREFIX}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    async def _pass_on(self, request: web.Request) -> web.Response:
        path = "/" + request.match_info["path"] if self._strips else request.path
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        headers |= {name: value.format(host=self.host) for name, value in self._headers.items()}
        body = await request.read()
        async with self._client.request(
            request.method, self._target + path, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "date")}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


@pytest.fixture
def make() -> Iterator[Make]:
    """Starts reverse proxies; gives their URLs."""
    started: list[ReverseProxy] = []

    def start(target: str, headers: dict[str, str], strips: bool = True) -> str:
        started.append(ReverseProxy(target, headers, strips))
        return started[-1].url

    yield start
    for proxy in started:
        proxy.close()


def use(site: AggregatorProcess, nodes: list[NodeProcess], url: str) -> None:
    """Run a session at ``url``: no other may appear in any answer."""
    direct, site.url = site.url, url
    try:
        behind = [*nodes]
        answer = site.http.post(f"{url}/requests", json=Request(shell("echo behind")).body)
        assert answer.status_code == 303
        offers = answer.json()
        assert (
            answer.headers["location"] == offers["meta"]["url"] == f"{url}/offersets/{offers['meta']['uuid']}"
        )
        assert check_urls(site, offers, behind) >= 3
        assert direct not in answer.text
        session = site.end(site.update(offers["offers"][0], "ACCEPTED"))
        assert session["phase"] == "COMPLETED"
        assert check_urls(site, session, behind) >= 3
        (stdout,) = session["executable"]["streams"]["stdout"]["locations"]
        assert stdout.startswith(f"{url}/streams/")
        assert site.http.get(stdout, headers={"Range": "bytes=2-"}).text == "hind\n"
    finally:
        site.url = direct


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "{host}", "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": PREFIX},
        {"Forwarded": 'for=10.1.2.3;proto=http;host="{host}"', "X-Forwarded-Prefix": PREFIX + "/"},
    ],
    ids=["x-forwarded", "forwarded"],
)
def test_headers_of_a_trusted_proxy(
    site: AggregatorProcess, nodes: list[NodeProcess], make: Make, headers: dict[str, str]
) -> None:
    """A proxy's client is not taken for the proxy's user: it needs the token."""
    url = make(site.url, headers, True)
    assert site.http.get(f"{url}/links/x").status_code == 401
    site.http.headers["Authorization"] = token_of(site)
    use(site, nodes, url)
    del site.http.headers["Authorization"]


def token_of(site: AggregatorProcess) -> str:
    return f"Bearer {(site.state / 'token').read_text().strip()}"


def test_headers_of_somebody_else(start_aggregator: AggregatorStarter, nodes: list[NodeProcess]) -> None:
    site = start_aggregator(*nodes, trusted_proxies=["10.0.0.0/8"])
    headers = {"X-Forwarded-Host": "evil.example.org", "Forwarded": "host=evil.example.org"}
    headers["Authorization"] = token_of(site)
    offers = site.http.post(f"{site.url}/requests", json=Request(shell("true")).body, headers=headers).json()
    assert offers["meta"]["url"].startswith(f"{site.url}/offersets/")


def test_a_public_url(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], make: Make, tmp_path: object
) -> None:
    """Whether the proxy takes the prefix away or leaves it."""
    from wes_bridge.cli.ports import free_port  # noqa: PLC0415

    port = free_port("127.0.0.1")
    for strips in (True, False):
        url = make(f"http://127.0.0.1:{port}", {}, strips)
        site = start_aggregator(*nodes, public_url=url, port=port)
        use(site, nodes, url)
        site.kill()
