"""The client against a scripted server: what real services do wrong now and then."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wes_bridge.client import DownloadError, WaitTimeoutError, WESClient, WESConnectionError, WESError
from wes_bridge.client.api import poll_delay
from wes_bridge.client_host import SHARED_FILES_TAG, host_id

BASE = "/ga4gh/wes/v1"
INFO = {"workflow_type_versions": {}, "supported_wes_versions": ["1.1.0"], "tags": {}}
Answer = tuple[int, Any]


class Script:
    """Answers by method and path; a list is used up one by one, its last stays."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {f"GET {BASE}/service-info": (200, INFO)}
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    def answer(self, request: str) -> Answer:
        found = self.answers.get(request, self.answers.get(request.partition("?")[0], (404, {"msg": "gone"})))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            script.seen.append((f"{self.command} {self.path}", dict(self.headers), body))
            status, content = script.answer(f"{self.command} {self.path}")
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    server.server_close()


def requests_to(script: Script, path: str) -> list[str]:
    return [line for line, _, _ in script.seen if path in line]


def test_base_path_is_found(script: Script) -> None:
    for url in (script.url, script.url + "/", script.url + BASE, script.url + BASE + "/"):
        client = WESClient(url)
        assert client.service_info() == INFO
        assert client.url == script.url + BASE
    script.answers["GET /own/service-info"] = (200, INFO)
    client = WESClient(script.url + "/own")
    client.service_info()
    assert client.url == script.url + "/own"


def test_what_is_no_wes(script: Script) -> None:
    script.answers[f"GET {BASE}/service-info"] = (200, b"<html>")
    with pytest.raises(WESError, match="no WES at"):
        WESClient(script.url).service_info()
    with pytest.raises(WESConnectionError, match="cannot reach"):
        WESClient("http://127.0.0.1:9").service_info()
    with pytest.raises(WESError, match="not an http"):
        WESClient("ftp://x")


def test_errors_are_typed(script: Script) -> None:
    script.answers[f"GET {BASE}/runs/x"] = (403, {"msg": "not yours", "status_code": 403})
    with pytest.raises(WESError) as caught:
        WESClient(script.url).run("x")
    assert (caught.value.msg, caught.value.status_code) == ("not yours", 403)


def test_busy_service_is_asked_again(script: Script) -> None:
    script.answers[f"GET {BASE}/runs/x/status"] = [(503, {}), (503, {}), (200, {"state": "RUNNING"})]
    script.answers[f"POST {BASE}/runs/x/cancel"] = [(503, {}), (200, {"run_id": "x"})]
    script.answers[f"POST {BASE}/runs"] = (503, {"msg": "full"})
    client = WESClient(script.url)
    assert client.status("x") == "RUNNING"
    client.cancel("x")
    with pytest.raises(WESError, match="full"):
        client.submit("https://example.org/x.cwl")
    assert len(requests_to(script, "POST /ga4gh/wes/v1/runs")) == 3  # submit is not repeated


def test_credentials_stay_at_home(script: Script, tmp_path: Path) -> None:
    host = script.url.replace("127.0.0.1", "localhost")
    script.answers["GET /file"] = (200, b"x")
    client = WESClient(script.url, token="secret")
    client.service_info()
    outputs = {"a": {"class": "File", "location": host + "/file", "basename": "f"}}
    client.download("x", tmp_path, outputs=outputs)
    (_, first, _), (_, second, _) = script.seen
    assert first["Authorization"] == "Bearer secret"
    assert "Authorization" not in second


def test_submission(script: Script, tmp_path: Path) -> None:
    (tmp_path / "t.cwl").write_text("cwlVersion: v1.1\nclass: CommandLineTool\n")
    script.answers[f"POST {BASE}/runs"] = (200, {"run_id": "r1"})
    client = WESClient(script.url)
    assert client.submit(tmp_path / "t.cwl", {"a": 1}, tags={"k": "v"}) == "r1"
    body = script.seen[-1][2]
    for part in (b'{"a": 1}', b"v1.1", b't.cwl"\r\n', b'{"k": "v"}', b"CommandLineTool"):
        assert part in body


def test_shared_files_and_the_way_back(script: Script, tmp_path: Path) -> None:
    tags = {SHARED_FILES_TAG: host_id()}
    info = INFO | {"tags": tags, "supported_filesystem_protocols": ["file", "http"]}
    script.answers[f"GET {BASE}/service-info"] = (200, info)
    script.answers[f"POST {BASE}/runs"] = [(400, {"msg": "not that folder"}), (200, {"run_id": "r"})]
    (tmp_path / "t.cwl").write_text("class: CommandLineTool\n")
    assert WESClient(script.url).submit(tmp_path / "t.cwl") == "r"
    shared, uploaded = script.seen[-2][2], script.seen[-1][2]
    assert b"file:///" in shared
    assert b"CommandLineTool" not in shared
    assert b"CommandLineTool" in uploaded
    assert not WESClient(script.url, upload=True).shares_files()


def test_paging_and_other_servers_keys(script: Script) -> None:
    path = f"GET {BASE}/runs"
    script.answers[path] = (200, {"workflows": [{"run_id": "1"}], "next_page_token": "t"})
    script.answers[path + "?page_token=t"] = (200, {"runs": [{"run_id": "2"}], "next_page_token": ""})
    client = WESClient(script.url)
    assert [run["run_id"] for run in client.runs()] == ["1", "2"]
    script.answers[path] = (200, {"runs": []})
    list(client.runs(limit=1, state=["RUNNING", "QUEUED"], tag={"a": "b c"}, workflow_name=None))
    assert script.seen[-1][0].endswith("?state=RUNNING&state=QUEUED&tag=a%3Db+c&page_size=1")


def test_endless_pages_end(script: Script) -> None:
    page = {"runs": [{"run_id": "1"}], "next_page_token": "same"}
    script.answers[f"GET {BASE}/runs"] = (200, page)
    assert len(list(WESClient(script.url).runs())) == 2


def test_wait(script: Script) -> None:
    script.answers[f"GET {BASE}/runs/x/status"] = [(200, {"state": "RUNNING"})] * 3 + [
        (200, {"state": "COMPLETE"})
    ]
    seen: list[str] = []
    client = WESClient(script.url)
    assert client.wait("x", on_progress=lambda now: seen.append(now["state"])) == "COMPLETE"
    assert seen == ["RUNNING", "RUNNING", "RUNNING", "COMPLETE"]
    script.answers[f"GET {BASE}/runs/x/status"] = (200, {"state": "RUNNING"})
    with pytest.raises(WaitTimeoutError, match="still RUNNING"):
        client.wait("x", timeout=0.05)


def test_poll_delays() -> None:
    assert poll_delay(0) == 0.005
    assert poll_delay(1) == pytest.approx(0.1)
    assert poll_delay(1000) == 2.0
    assert poll_delay(10, 10.3) == pytest.approx(0.3)


def run_log(script: Script, log: dict[str, str]) -> None:
    script.answers[f"GET {BASE}/runs/x"] = (200, {"run_log": log})


def test_logs_by_url_or_inline(script: Script) -> None:
    client = WESClient(script.url)
    run_log(script, {"stderr": "the words\nthemselves"})
    assert b"".join(client.log("x")) == b"the words\nthemselves"
    assert client.log_tail("x", size=4) == b"lves"
    run_log(script, {"stderr": script.url + "/log"})
    script.answers["GET /log"] = (200, b"0123456789")
    assert b"".join(client.log("x")) == b"0123456789"
    assert client.log_tail("x", size=4) == b"6789"  # a server without ranges
    script.answers["GET /log"] = (416, {})
    assert b"".join(client.log("x")) == b""


def file_entry(script: Script, name: str, content: bytes, path: str = "", **more: Any) -> dict[str, Any]:
    path = path or f"/files/{name}"
    script.answers[f"GET {path}"] = (200, content)
    checksum = "sha1$" + hashlib.sha1(content).hexdigest()
    entry = {"class": "File", "basename": name, "location": script.url + path, "size": len(content)}
    return entry | {"checksum": checksum} | more


def test_download_names_and_structures(script: Script, tmp_path: Path) -> None:
    one, two = file_entry(script, "a.txt", b"1", "/1/a.txt"), file_entry(script, "a.txt", b"22", "/2/a.txt")
    bam = file_entry(script, "x.bam", b"bam", secondaryFiles=[file_entry(script, "x.bam.bai", b"bai")])
    script.answers["GET /d"] = (
        200,
        {
            "entries": [
                {"name": "f", "type": "file", "size": 1, "url": script.url + "/d/f"},
                {"name": "sub", "type": "folder", "url": script.url + "/d/sub"},
            ]
        },
    )
    script.answers["GET /d/f"], script.answers["GET /d/sub"] = (200, b"f"), (200, {"entries": []})
    outputs = {
        "list": [one, two, dict(one)],
        "bam": bam,
        "d": {"class": "Directory", "basename": "d", "location": script.url + "/d"},
        "lit": {"class": "Directory", "basename": "lit", "listing": [dict(one)]},
        "text": {"class": "File", "basename": "t", "contents": "ü"},
        "record": {"n": 1, "nothing": None},
    }
    result = WESClient(script.url).download("x", tmp_path / "out", outputs=outputs)
    out = tmp_path / "out"
    found = {str(path.relative_to(out)) for path in out.rglob("*")}
    twice, sets = {"a.txt", "2", "2/a.txt"}, {"d", "d/f", "d/sub", "lit", "lit/a.txt"}
    assert found == twice | sets | {"x.bam", "x.bam.bai", "t"}
    assert (out / "2" / "a.txt").read_bytes() == b"22"
    assert [item["basename"] for item in result["list"]] == ["a.txt"] * 3
    assert [item["path"] for item in result["list"]] == [f"{out}/a.txt", f"{out}/2/a.txt", f"{out}/a.txt"]
    assert result["bam"]["secondaryFiles"][0]["location"] == f"file://{out}/x.bam.bai"
    assert result["text"]["size"] == 2
    assert result["d"]["listing"][0]["checksum"].startswith("sha1$")
    assert result["record"] == {"n": 1, "nothing": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 5}, "3 bytes instead of 5"),
        ({"checksum": "sha1$00"}, r"instead of sha1\$00"),
        ({"basename": "../evil"}, "outside"),
        ({"basename": ".."}, "outside"),
    ],
)
def test_bad_downloads(script: Script, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    entry = file_entry(script, "f", b"abc") | change
    with pytest.raises(DownloadError, match=message):
        WESClient(script.url).download("x", tmp_path / "out", outputs={"a": [entry, dict(entry)]})
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_missing_download(script: Script, tmp_path: Path) -> None:
    entry = {"class": "File", "basename": "f", "location": script.url + "/gone"}
    with pytest.raises(WESError, match="gone"):
        WESClient(script.url).download("x", tmp_path, outputs={"a": entry})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", BASE])
def test_a_service_that_cannot_answer_now_is_told_as_that(script: Script, below: str) -> None:
    """Its address is right: nobody should look for another."""
    problem = "the service's database does not answer; try again in a moment"
    script.answers[f"GET {BASE}/service-info"] = (503, {"msg": problem, "status_code": 503})
    with pytest.raises(WESError) as caught:
        WESClient(script.url + below).service_info()
    assert caught.value.msg == f"{script.url}{below} cannot answer now (HTTP 503): {problem}"
    assert caught.value.status_code == 503
