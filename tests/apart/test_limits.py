"""What a run may bring from nodes that share nothing, and what a node's word is worth when it lies."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.apart.conftest import ONLY_WEB
from tests.apart.workflows import at, found, sh, workflow
from tests.node.conftest import NodeProcess
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter
from tests.waiting import until
from wes_bridge.cli.flow import reasons
from wes_bridge.federation.allowance import Allowance, TooMuchError
from wes_bridge.federation.client import Broker, BrokerError, http_session

SIZE = 3_000_000
LARGE = sh(f"head -c {SIZE} /dev/zero > large", {}, {"o": found("large")})


Nodes = dict[str, NodeProcess]


@pytest.fixture(scope="module")
def nodes(start_node: NodeStarter) -> Nodes:
    return {name: start_node(name=name, sandbox="none", **ONLY_WEB) for name in ("one", "two")}


def started(start_service: Starter, nodes: Nodes, **engine: Any) -> Service:
    brokers = [{"name": name, "url": node.url, "shares_files": False} for name, node in nodes.items()]
    return start_service(nodes=[], brokers=brokers, engine={"lost_after": 3, **engine})


def said(service: Service, run: dict[str, Any]) -> str:
    tasks = service.client.tasks(run["run_id"])
    logs = [line for task in tasks for line in task.get("system_logs") or ()]
    return " ".join([*reasons(service.client, run), *run["run_log"].get("system_logs", ()), *logs])


@pytest.mark.parametrize("at_once", [1000, 10 * SIZE])
def test_a_run_brings_no_more_than_it_may(
    start_service: Starter, nodes: Nodes, tmp_path: Path, at_once: int
) -> None:
    """Whether an output is brought with the end of its session, or later."""
    service = started(start_service, nodes, bring_gib=SIZE / 2**30 * 1.5, bring_at_once=at_once)
    document = workflow(
        {}, {"a": "File a/o", "b": "File b/o"}, {"a": at("one", LARGE, {}), "b": at("two", LARGE, {})}
    )
    (tmp_path / "w.cwl").write_text(json.dumps(document))
    run = service.run(tmp_path / "w.cwl")
    assert run["state"] != "COMPLETE"
    assert f"has {SIZE} bytes, and this run has brought {SIZE} of at most" in said(service, run)
    (tmp_path / "t.cwl").write_text(json.dumps(LARGE))  # the next run has its own
    run = service.run(tmp_path / "t.cwl")
    assert run["state"] == "COMPLETE", said(service, run)


def test_what_a_run_has_brought_counts_for_the_next_worker_too(tmp_path: Path) -> None:
    """Each place once, and each run by itself; a line that a crash has torn does not count."""
    for run in ("run", "other"):
        (tmp_path / run).mkdir()
    first = Allowance(tmp_path, 100)
    first.take(tmp_path / "run/tasks/a/out", 60)
    with (tmp_path / "run/.brought").open("ab") as note:
        note.write(b'{"place": "tasks/torn/o')
    second = Allowance(tmp_path, 100)
    second.take(tmp_path / "run/tasks/a/out", 60)
    with pytest.raises(TooMuchError, match="this run has brought 60 of at most 100"):
        second.take(tmp_path / "run/tasks/b/out", 41)
    second.take(tmp_path / "run/tasks/b/out", 40)
    second.take(tmp_path / "other/tasks/a/out", 100)
    third = Allowance(tmp_path, 100)
    with pytest.raises(TooMuchError):
        third.take(tmp_path / "run/tasks/c/out", 1)


def test_two_nodes_that_disagree_about_a_file(start_service: Starter, nodes: Nodes, tmp_path: Path) -> None:
    """What a node has kept was changed since: the next node does not take it, and it is made again."""
    service = started(start_service, nodes, bring_at_once=1000)
    wait = sh('until [ -e "$1" ]; do sleep 0.1; done', {"p": "string"}, {"o": "stdout"}, stdout="o")
    count = sh('cksum < "$1"', {"f": "File", "g": "File"}, {"o": "stdout"}, stdout="n")
    document = workflow(
        {"p": "string"},
        {"n": "File count/o"},
        {
            "make": at("one", LARGE, {}),
            "wait": at("two", wait, {"p": "p"}),
            "count": at("two", count, {"f": "make/o", "g": "wait/o"}),
        },
    )
    go = tmp_path / "go"
    (tmp_path / "w.cwl").write_text(json.dumps(document))
    run_id = service.client.submit(tmp_path / "w.cwl", {"p": str(go)})
    kept = nodes["one"].state / "kept"
    others = set(kept.rglob("large"))
    until(lambda: {t["name"]: t["state"] for t in service.client.tasks(run_id)}.get("make") == "COMPLETE")
    (large,) = set(kept.rglob("large")) - others
    changed(large)
    go.touch()
    service.client.wait(run_id, timeout=60)
    words = said(service, service.client.run(run_id))
    assert "checksum" in words or "was changed after its checksum had been computed" in words, words
    run = service.client.run(run_id)
    if run["state"] == "COMPLETE":  # it was made again
        out = service.client.download(run_id, tmp_path / "out")
        assert Path(out["n"]["path"]).read_text().split()[1] == str(SIZE)


def changed(large: Path) -> None:
    """Another content of the same size."""
    large.chmod(0o600)
    with large.open("r+b") as file:
        file.write(b"changed")


class Endless(BaseHTTPRequestHandler):
    """A stream that goes on for ever, in the parts that are asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        size = int(last) - int(first) + 1
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/*")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(bytes(size))

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def endless() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(30)


def test_a_stream_that_never_ends(endless: str, tmp_path: Path) -> None:
    """No more is written than may be."""
    most, target = 5 * 2**20, tmp_path / "stdout"

    async def ask() -> None:
        async with http_session() as http:
            broker = Broker("liar", endless, http, longest_stream=most)
            await broker.download(f"{endless}/streams/x/stdout", target)

    with pytest.raises(BrokerError, match=f"liar sends more than {most} bytes of a stream"):
        asyncio.run(ask())
    assert target.stat().st_size == most
