"""Events and webhooks of a whole service: real workers change the runs, processes die in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service, Starter
from wes_bridge.client import WESError

pytestmark = pytest.mark.database

SECRET = "between the two of us"
SETTINGS: dict[str, Any] = {
    "nodes": [{"name": "here", "platforms": ["process"], "sandbox": "none"}],
    "engine": {"lease": 3.0},
    "fetch": {"private_hosts": ["127.0.0.0/8"]},
}


def waiting(gate: Path) -> str:
    """A tool that waits for a file."""
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    return json.dumps(
        {
            "cwlVersion": "v1.2",
            "class": "CommandLineTool",
            "baseCommand": ["sh", "-c", script],
            "inputs": {},
            "outputs": {"said": "stdout"},
        }
    )


class Receiver:
    """Fails as often as told, then takes what comes."""

    def __init__(self, failures: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.failed = threading.Event()
        self.told_the_end = threading.Event()
        this = self

        class Handler(BaseHTTPRequestHandler):
            failures_left = failures

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if Handler.failures_left:
                    Handler.failures_left -= 1
                    this.failed.set()
                    self.send_response(500)
                else:
                    this.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                    self.send_response(204)
                    if json.loads(body)["state"] == "COMPLETE":
                        this.told_the_end.set()
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/runs"

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(failures=1)
    yield made
    made.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    yield path
    path.touch()


def submit(service: Service, folder: Path, gate: Path, **parameters: str) -> str:
    workflow = folder / "waiting.cwl"
    workflow.write_text(waiting(gate))
    return service.client.submit(workflow, {}, engine_parameters=parameters)


def test_a_run_is_followed_across_a_dying_service(start_service: Starter, tmp_path: Path, gate: Path) -> None:
    service = start_service(**SETTINGS)
    run_id = submit(service, tmp_path, gate)
    seen: list[dict[str, Any]] = []
    for event in service.client.events(run_id):
        seen.append(event)
        if event["event"] == "task" and event["state"] == "RUNNING":
            break
    assert seen[0]["event"] == "run"
    port = service.url.rpartition(":")[2]
    service.die()
    again = Service(service.state, SETTINGS)
    try:
        assert port != again.url
        gate.touch()
        events = list(again.client.events(run_id))
    finally:
        again.stop()
    assert events[-1]["event"] == "run"
    assert events[-1]["state"] == "COMPLETE"
    tasks = [event for event in events if event["event"] == "task"]
    assert (tasks[-1]["state"], tasks[-1]["exit_code"], tasks[-1]["node"]) == ("COMPLETE", 0, "here")


def test_streams_end_when_the_service_stops(start_service: Starter, tmp_path: Path, gate: Path) -> None:
    service = start_service(**SETTINGS)
    run_id = submit(service, tmp_path, gate)
    url = f"{service.url}/ga4gh/wes/v1/runs/{run_id}/events"
    with requests.get(url, stream=True, timeout=60) as stream:
        pieces = stream.iter_content(None)
        next(pieces)
        service.process.send_signal(signal.SIGTERM)
        list(pieces)  # it ends, and not by a broken connection
    service.process.wait(timeout=60)


def test_a_webhook_is_told_after_failures_and_a_restart(
    start_service: Starter, tmp_path: Path, gate: Path, receiver: Receiver
) -> None:
    service = start_service(**SETTINGS)
    parameters = {"webhook": receiver.url, "webhook_secret": SECRET}
    gate.touch()
    run_id = submit(service, tmp_path, gate, **parameters)
    assert receiver.failed.wait(60)
    service.die()
    again = Service(service.state, SETTINGS)
    try:
        assert receiver.told_the_end.wait(120)
        run = again.client.run(run_id)
        log = b"".join(again.client.log(run_id)).decode()
        body = json.loads(receiver.got[-1][1])
        # the link was made for the service's address before it came back at another
        link = body["outputs"]["said"]["location"].replace(service.url, again.url)
        assert requests.get(link, timeout=60).text == "done\n"
    finally:
        again.stop()
    assert run["request"]["workflow_engine_parameters"] == parameters | {"webhook_secret": "***"}
    assert SECRET not in json.dumps(run) + log
    for path in (service.state / "workspace" / run_id).rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    headers, content = receiver.got[-1]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_states_of_a_run_come_in_order(start_service: Starter, tmp_path: Path, gate: Path) -> None:
    service = start_service(**SETTINGS)
    receiver = Receiver(failures=0)
    run_id = submit(service, tmp_path, gate, webhook=receiver.url, webhook_states="RUNNING")
    gate.touch()
    assert receiver.told_the_end.wait(60)
    receiver.close()
    bodies = [json.loads(body) for _, body in receiver.got]
    assert [(body["run_id"], body["state"]) for body in bodies] == [(run_id, "RUNNING"), (run_id, "COMPLETE")]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"webhook": "http://10.0.0.1/"}, "private_hosts"),
        ({"webhook": "nonsense"}, "http"),
        ({"webhook": "https://example.org/", "webhook_secret": "x" * 100_000}, "16 to 256"),
        ({"webhook_secret": SECRET}, "webhook"),
    ],
)
def test_bad_webhooks_are_refused(
    service: Service, tmp_path: Path, gate: Path, parameters: dict[str, str], words: str
) -> None:
    with pytest.raises(WESError, match=words) as refused:
        submit(service, tmp_path, gate, **parameters)
    assert refused.value.status_code == 400
    assert SECRET not in refused.value.msg


def test_a_rerun_tells_the_same_receiver_signed_with_the_same_secret(
    start_service: Starter, tmp_path: Path, gate: Path
) -> None:
    service = start_service(**SETTINGS)
    receiver = Receiver(failures=0)
    gate.touch()
    first = submit(service, tmp_path, gate, webhook=receiver.url, webhook_secret=SECRET)
    assert receiver.told_the_end.wait(60)
    receiver.told_the_end.clear()
    second = service.client.rerun(first)
    assert receiver.told_the_end.wait(60)
    receiver.close()
    headers, content = receiver.got[-1]
    assert json.loads(content)["run_id"] == second
    assert json.loads(content)["run_url"].endswith(second)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert SECRET not in json.dumps(service.client.run(second))
