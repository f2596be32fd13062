"""A private service answers nobody but the command that started it."""

import contextlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wes_bridge.cli.embedded import EmbeddedService
from wes_bridge.client import WESClient, WESError

TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, "echo out; echo err >&2; env"]
inputs: []
outputs: {o: stdout}
stdout: o.txt
"""


def status(url: str, method: str = "GET", token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(
        url, method=method, headers=headers, data=b"{}" if method == "POST" else None
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def command_lines() -> bytes:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return b"".join(found)


def read_from_the_node(client: WESClient, run_id: str) -> None:
    """The log of a step that has not ended is still on the node."""
    deadline = time.monotonic() + 120
    while not any(client.log_tail(run_id, "stdout", task["id"]) == b"out\n" for task in client.tasks(run_id)):
        assert time.monotonic() < deadline, client.run(run_id)
        time.sleep(0.05)
    client.cancel(run_id)


@pytest.mark.slow
def test_others_are_refused_by_api_and_node(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    class Foreign(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers.get("authorization"))
            self.send_error(500)

        def log_message(self, *_arguments: object) -> None:
            pass

    (tmp_path / "t.cwl").write_text(TOOL)
    waits = TOOL.replace('env"', 'sleep 600"').replace("{o: stdout}", "[]").replace("stdout: o.txt", "")
    (tmp_path / "waits.cwl").write_text(waits)
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as foreign:
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        brokers = [{"name": "foreign", "url": f"http://127.0.0.1:{foreign.server_port}"}]
        for name, text in (environment | {"WES_BRIDGE_BROKERS": json.dumps(brokers)}).items():
            monkeypatch.setenv(name, text)
        with EmbeddedService(tmp_path / "state") as service:
            url = service.url()
            assert "WES_BRIDGE_PRIVATE_TOKEN" not in os.environ
            [(_, port)] = json.loads((tmp_path / "state/node-ports.json").read_text()).items()
            node = f"http://127.0.0.1:{port}"
            api = f"{url}/ga4gh/wes/v1"
            for token in ("", "wrong", service.token + "x"):
                for where in (f"{api}/service-info", f"{api}/runs", f"{url}/", f"{node}/health"):
                    assert status(where, token=token) == 401
                for where in (f"{api}/runs", f"{node}/requests", f"{node}/direct"):
                    assert status(where, "POST", token) == 401
            assert status(f"{node}/health", token=service.token) == 200
            with pytest.raises(WESError, match="private") as caught:
                WESClient(url).service_info()
            assert caught.value.status_code == 401
            with WESClient(url, token=service.token) as client:
                run = client.submit(tmp_path / "t.cwl")
                assert client.wait(run, timeout=60) == "COMPLETE"
                [task] = client.tasks(run)
                assert b"".join(client.log(run, "stderr", task["id"])) == b"err\n"
                read_from_the_node(client, client.submit(tmp_path / "waits.cwl"))
                output = Path(client.download(run, tmp_path / "out")["o"]["path"]).read_text()
            assert service.token not in output
            assert service.token.encode() not in command_lines()
        foreign.shutdown()
    assert seen
    assert set(seen) == {None}


def test_each_service_has_a_token_of_its_own() -> None:
    first, second = EmbeddedService(), EmbeddedService()
    assert first.token != second.token
    assert len(first.token) >= 32
