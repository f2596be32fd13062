"""What a broker says of addresses is followed on its own host only, and what it echoes is not passed on."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.federation.conftest import PLAN
from tests.federation.fake_broker import FakeBroker
from tests.security.hostile_web import HostileWeb, hostile_web, text
from wes_bridge.config import CredentialsConfig, ServiceConfig
from wes_bridge.engine.tasks import show_progress
from wes_bridge.federation.client import Broker, BrokerError, http_session
from wes_bridge.federation.credentials import Credentials
from wes_bridge.federation.discovery import Directory
from wes_bridge.federation.placement import Progress
from wes_bridge.federation.placing import Federation
from wes_bridge.federation.profile import Profile
from wes_bridge.federation.strangers import Strangers
from wes_bridge.model.states import State
from wes_bridge.model.step_plan import StepOutcome
from wes_bridge.store.runs import TaskRow

SECRET = 'tok3n/with"signs+of_many'


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    fake = FakeBroker()
    yield fake
    fake.close()


@pytest.fixture
def elsewhere() -> Iterator[HostileWeb]:
    with hostile_web({"/canary": text(b"canary")}) as web:
        yield web


def place(
    fake: FakeBroker,
    tmp_path: Path,
    user: str | None = None,
    profile: Profile = Profile(),  # noqa: B008
) -> tuple[StepOutcome, list[Progress]]:
    """Run a step on a broker that wants our secret."""
    (tmp_path / "secret").write_text(SECRET)
    credentials = Credentials(CredentialsConfig(file=tmp_path / "secret", username=user))
    seen: list[Progress] = []

    async def report(progress: Progress) -> None:
        seen.append(progress)

    async def run() -> StepOutcome:
        async with http_session() as http:
            known = Broker("site", fake.url, http, profile, credentials)
            federation = Federation([known], 5.0, 0.0, 1.0, 5.0)
            try:
                return await asyncio.wait_for(federation.run(PLAN, report), 30)
            finally:
                await federation.close(5.0)

    return asyncio.run(run()), seen


def told(outcome: StepOutcome, seen: list[Progress]) -> str:
    """All that a run's log, its placement and its tasks get of it."""
    return " ".join([repr(outcome), *(json.dumps(one.placement.to_json()) for one in seen), repr(seen)])


def _echo(status: int, how: str) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        sent = handler.headers["Authorization"]
        said = {
            "headers": f"bad headers: Authorization: {sent}",
            "json": json.dumps({"message": f"who is {sent}?", "headers": {"Authorization": sent}}),
            "slashes": json.dumps({"message": sent}).replace("/", "\\/"),
            "offer": json.dumps(
                {
                    "kind": "x",
                    "result": "NO",
                    "meta": {"messages": [{"kind": "x", "level": "ERROR", "message": sent}]},
                }
            ),
        }[how].encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {len(said)}\r\n\r\n"
        handler.wfile.write(head.encode() + said)

    return answer


@pytest.mark.parametrize("user", [None, "me"])
@pytest.mark.parametrize(
    ("status", "how"),
    [(400, "headers"), (401, "json"), (403, "headers"), (500, "slashes"), (502, "json"), (200, "offer")],
)
def test_a_broker_that_echoes_our_secret_does_not_tell_it_to_users(
    broker: FakeBroker, tmp_path: Path, status: int, how: str, user: str | None
) -> None:
    broker.misbehave = _echo(status, how)
    text_of_all = told(*place(broker, tmp_path, user))
    basic = base64.b64encode(f"{user}:{SECRET}".encode()).decode()
    assert "***" in text_of_all
    for form in (
        SECRET,
        json.dumps(SECRET)[1:-1],
        "tok3n",
        "signs+of_many",
        basic,
        basic.replace("/", "\\/"),
    ):
        assert form not in text_of_all


@pytest.mark.parametrize(
    "form", ["{}/sessions/1", "http://127.0.0.1:{port}/x", "file:///etc/passwd", "//127.0.0.1:{port}/"]
)
def test_an_offer_at_another_host_is_not_followed(
    broker: FakeBroker, elsewhere: HostileWeb, tmp_path: Path, form: str
) -> None:
    broker.session_url = form.format(elsewhere.url, port=elsewhere.port)
    outcome, _ = place(broker, tmp_path)
    assert "another host, which is not followed" in str(outcome.problem)
    assert elsewhere.heads == []


@pytest.mark.parametrize(
    "form",
    [
        "{own}@127.0.0.1:{port}/",
        "{own}:@127.0.0.1:{port}/x",
        "{own}.evil.example/x",
        "{own}\\@127.0.0.1:{port}/",
    ],
)
def test_what_only_begins_like_its_own_host_is_another(
    broker: FakeBroker, elsewhere: HostileWeb, tmp_path: Path, form: str
) -> None:
    broker.session_url = form.format(own=broker.url, port=elsewhere.port)
    outcome, _ = place(broker, tmp_path)
    assert "another host" in str(outcome.problem)
    assert elsewhere.heads == []


def test_our_secret_is_not_sent_to_other_hosts_of_its_sessions(broker: FakeBroker, tmp_path: Path) -> None:
    other = FakeBroker()
    try:
        broker.session_url = f"{other.url}/sessions/1"
        sent: list[str | None] = []
        other.misbehave = None
        host = other.url.partition("://")[2]
        handler = other._server.RequestHandlerClass
        plain = handler.do_GET  # type: ignore[attr-defined]

        def look(self: BaseHTTPRequestHandler) -> None:
            sent.append(self.headers.get("Authorization"))
            plain(self)

        handler.do_GET = look  # type: ignore[attr-defined]
        outcome, _ = place(broker, tmp_path, profile=Profile(hosts=frozenset({host})))
        assert outcome.exit_code == 0
        assert sent
        assert set(sent) == {None}
    finally:
        other.close()


def test_a_redirect_to_another_host_is_not_followed(
    broker: FakeBroker, elsewhere: HostileWeb, tmp_path: Path
) -> None:
    def away(handler: BaseHTTPRequestHandler) -> None:
        location = f"{elsewhere.url}/canary"
        handler.wfile.write(f"HTTP/1.1 303 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    broker.misbehave = away
    outcome, _ = place(broker, tmp_path)
    assert "another host, which is not followed" in str(outcome.problem)
    assert elsewhere.heads == []


@pytest.mark.parametrize(
    "form",
    ["http://127.0.0.1:{port}/canary", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd"],
)
def test_streams_at_other_hosts_are_not_shown(
    broker: FakeBroker, elsewhere: HostileWeb, tmp_path: Path, form: str
) -> None:
    """The service would fetch them for its users, from where only it can."""
    url = form.format(port=elsewhere.port)
    streams = {"stdout": {"locations": [url]}, "stderr": {"locations": [f"{broker.url}/streams/1/stderr"]}}
    broker.more = {
        "executable": {"kind": "urn:wes-bridge:kind:executable:process", "streams": streams, "exitCode": 0}
    }
    _, seen = place(broker, tmp_path)
    task = TaskRow("run", "task", "step", 0, State.QUEUED, time.time())
    for progress in seen:
        show_progress(task, progress)
    assert task.stdout is None
    assert task.stderr == f"{broker.url}/streams/1/stderr"


def test_ten_megabytes_of_headers_cost_the_broker_only_itself(broker: FakeBroker, tmp_path: Path) -> None:
    def headers(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            handler.wfile.write(b"X-%d: " % number + b"y" * 1000 + b"\r\n")

    broker.misbehave = headers
    started = time.monotonic()
    outcome, _ = place(broker, tmp_path)
    assert "cannot be reached" in str(outcome.problem)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("allowed", [[], ["127.0.0.0/8"]])
def test_a_listing_of_somebody_else_leads_to_no_private_address(
    elsewhere: HostileWeb, allowed: list[str]
) -> None:
    """Its own host aside, and what the site allows."""
    port = elsewhere.port
    listed = {
        "own": {"url": f"http://127.0.0.1:{port}/"},
        "literal": {"url": f"http://127.0.0.2:{port}/"},
        "metadata": {"url": "http://169.254.169.254/"},
        "mapped": {"url": f"http://[::ffff:127.0.0.2]:{port}/"},
        "hosts": {"url": "http://broker.invalid/", "hosts": [f"127.0.0.2:{port}"]},
        "name": {"url": f"http://localhost:{port}/"},
    }
    listing = {"brokers": [{"name": name, **what} for name, what in listed.items()]}
    elsewhere.ways["/brokers"] = text(json.dumps(listing).encode())
    config = ServiceConfig.model_validate(
        {"listings": [{"url": f"{elsewhere.url}/brokers"}], "fetch": {"private_hosts": allowed}}
    )
    strangers, seen = Strangers(config), []

    async def run() -> str:
        async with http_session(strangers.resolver()) as http:
            directory = Directory([], config.listings, http, seen.extend, strangers)
            await directory.start()
            try:
                named = next(broker for broker in seen if broker.name == "name")
                await named.poll(f"{named.url}/sessions/1", None, 0)
            except BrokerError as error:
                return str(error)
            finally:
                await directory.stop()
        return ""

    said = asyncio.run(run())
    kept = {broker.name for broker in seen}
    if allowed:
        assert kept == set(listed) - {"metadata"}
        assert "/sessions/1" in elsewhere.paths
    else:
        assert kept == {"own", "name"}
        assert "private address" in said
        assert "/sessions/1" not in elsewhere.paths


def test_a_broker_of_the_configuration_may_be_anywhere(elsewhere: HostileWeb) -> None:
    url = f"http://localhost:{elsewhere.port}"
    config = ServiceConfig.model_validate({"brokers": [{"name": "own", "url": url}]})

    async def run() -> None:
        async with http_session(Strangers(config).resolver()) as http:
            with pytest.raises(BrokerError, match="does not know"):
                await Broker("own", url, http).poll(f"{url}/sessions/1", None, 0)

    asyncio.run(run())
    assert elsewhere.paths == ["/sessions/1"]
