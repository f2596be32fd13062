"""POST /runs: all the ways clients send it, and all the ways it can be wrong."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text
from wes_server import BASE, GOOD, is_error, start

from tests.postgresql import Cluster
from wes_bridge.config import ServiceConfig
from wes_bridge.data import attachments
from wes_bridge.data.attachments import find_attachment, without_dots
from wes_bridge.data.workspace import UnsafeNameError, safe_relative
from wes_bridge.wes.multipart import disposition
from wes_bridge.wes.submission import workflow_name


def post_form(server, *parts: tuple[str, Any], **fields: str) -> requests.Response:
    return server.post("/runs", files=[(k, (None, v)) for k, v in fields.items()] + list(parts))


def request_of(server, answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    echoed: dict[str, Any] = server.get(f"/runs/{answer.json()['run_id']}").json()["request"]
    return echoed


def raw_post(server, body: bytes, content_type: str | None, **headers: str) -> tuple[int, dict[str, Any]]:
    """A request as bytes, with no library's help."""
    host = server.root.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.putrequest("POST", f"{BASE}/runs")
    if content_type is not None:
        connection.putheader("Content-Type", content_type)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def left_behind(server) -> list[str]:
    """Everything in the workspace that belongs to no run."""
    known = {run["run_id"] for run in server.get("/runs?page_size=1000").json()["runs"]}
    root = server.workspace.root
    found = [path.name for path in root.iterdir() if path.name != ".incoming" and path.name not in known]
    incoming = root / ".incoming"
    return found + ([path.name for path in incoming.iterdir()] if incoming.exists() else [])


# ---- encodings


def test_multipart_with_text_fields(server):
    answer = post_form(server, **GOOD, workflow_params='{"x": 1}')
    assert request_of(server, answer)["workflow_params"] == {"x": 1}


def test_multipart_with_json_as_file_parts(server):
    parts = [
        ("workflow_params", ("params.json", b'{"x": 1}', "application/json")),
        ("tags", ("tags.json", b'{"a": "b"}', "application/json")),
        ("workflow_engine_parameters", ("p", b'{"policy": "cheapest"}')),
    ]
    echoed = request_of(server, post_form(server, *parts, **GOOD))
    assert echoed["workflow_params"] == {"x": 1}
    assert echoed["tags"] == {"a": "b"}
    assert echoed["workflow_engine_parameters"] == {"policy": "cheapest"}


def test_json_body_with_objects(server):
    echoed = request_of(
        server, server.post("/runs", json={**GOOD, "workflow_params": {"x": [1]}, "tags": {"a": "b"}})
    )
    assert (echoed["workflow_params"], echoed["tags"]) == ({"x": [1]}, {"a": "b"})


def test_json_body_with_json_strings(server):
    echoed = request_of(
        server, server.post("/runs", json={**GOOD, "workflow_params": '{"x": 1}', "tags": '{"a": "b"}'})
    )
    assert (echoed["workflow_params"], echoed["tags"]) == ({"x": 1}, {"a": "b"})


def test_json_with_a_charset(server):
    body = json.dumps({**GOOD, "tags": {"a": "é"}}, ensure_ascii=False).encode()
    answer = server.post("/runs", data=body, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert request_of(server, answer)["tags"] == {"a": "é"}


def test_urlencoded(server):
    echoed = request_of(server, server.post("/runs", data={**GOOD, "workflow_params": '{"x": "a b&c"}'}))
    assert echoed["workflow_params"] == {"x": "a b&c"}


@pytest.mark.skipif(not Path("/usr/bin/curl").exists(), reason="no curl")
def test_curl(server, tmp_path):
    (tmp_path / "p.json").write_text('{"x": 1}')
    (tmp_path / "w.cwl").write_text("cwlVersion: v1.2")
    command = [
        "curl",
        "-s",
        f"{server.url}/runs",
        "-F",
        "workflow_type=CWL",
        "-F",
        "workflow_type_version=v1.2",
    ]
    command += ["-F", "workflow_url=tools/w.cwl", "-F", f"workflow_params=@{tmp_path}/p.json"]
    command += ["-F", f"workflow_attachment=@{tmp_path}/w.cwl;filename=tools/w.cwl"]
    run_id = json.loads(subprocess.check_output(command))["run_id"]
    assert server.get(f"/runs/{run_id}").json()["request"]["workflow_params"] == {"x": 1}
    assert server.folder(run_id).attachment("tools/w.cwl").read_text() == "cwlVersion: v1.2"


def test_a_chunked_body(server):
    answer = server.post(
        "/runs",
        data=iter(
            [b'{"workflow_type":"CWL","workflow_type_', b'version":"v1.0","workflow_url":"https://e.org/a"}']
        ),
        headers={"Content-Type": "application/json"},
    )
    assert request_of(server, answer)["workflow_type_version"] == "v1.0"


def test_a_body_that_comes_byte_by_byte(server):
    host, port = server.root.removeprefix("http://").split(":")
    body = b'--b\r\nContent-Disposition: form-data; name="workflow_attachment"; filename="a/w.cwl"\r\n\r\n'
    body += b"--b\r\n\r-\n--bx\r\n--b\r\n"
    for name, value in {**GOOD, "workflow_url": "a/w.cwl"}.items():
        body += f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--b\r\n'.encode()
    body = body[: -len(b"\r\n")] + b"--\r\n"
    import socket  # noqa: PLC0415

    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(
            f"POST {BASE}/runs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        )
        for number in range(len(body)):
            connection.sendall(body[number : number + 1])
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), rest
    folder = server.folder(json.loads(rest)["run_id"])
    assert folder.attachment("a/w.cwl").read_bytes() == b"--b\r\n\r-\n--bx"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", None),
        (b"", "application/json"),
        (b"", "multipart/form-data; boundary=x"),
        (b"", "application/x-www-form-urlencoded"),
        (b"{}", None),
        (b"{}", "text/plain"),
        (b"{}", "application/xml"),
        (b"{}", "multipart/form-data"),
        (b"{}", "multipart/form-data; boundary="),
        (b"{}", "multipart/form-data; boundary=" + "x" * 5000),
        (b"{}", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n', "multipart/form-data; boundary=x"),
        (b"--x\r\nA" + b"b" * 40000 + b": 1\r\n\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 2000 + b"\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (b"null", "application/json"),
        (b"[]", "application/json"),
        (b'"x"', "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"a":' * 100_000, "application/json"),
        (b"a=%ff&b=%zz", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % n for n in range(1000)), "application/x-www-form-urlencoded"),
        (b"tags=1&tags=2", "application/x-www-form-urlencoded"),
        (b"{}", ";;;"),
        (b"{}", "\xe9"),
    ],
)
def test_bodies_that_are_none(server, body, content_type):
    status, answer = raw_post(server, body, content_type)
    assert status == 400, answer
    assert answer["status_code"] == 400
    assert answer["msg"]


# ---- fields


def test_all_missing_fields_are_named(server):
    is_error(server.post("/runs", json={}), 400, "workflow_type,", "workflow_type_version,", "workflow_url")
    is_error(post_form(server, workflow_type="CWL"), 400, "workflow_type_version, workflow_url")
    is_error(post_form(server, **{**GOOD, "workflow_url": ""}), 400, "workflow_url")


@pytest.mark.parametrize("value", ["CWL", "cwl", "Cwl"])
def test_the_type_in_any_case(server, value):
    assert post_form(server, **{**GOOD, "workflow_type": value}).status_code == 200


@pytest.mark.parametrize("value", ["v1.0", "v1.1", "v1.2", "1.0", "1.2"])
def test_versions(server, value):
    assert post_form(server, **{**GOOD, "workflow_type_version": value}).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("workflow_type", "WDL", ["WDL", "CWL"]),
        ("workflow_type", "NFL", ["CWL"]),
        ("workflow_type_version", "v1.3", ["v1.0, v1.1, v1.2"]),
        ("workflow_type_version", "vv1.2", ["v1.2"]),
        ("workflow_type_version", "draft-3", ["draft-3"]),
        ("workflow_engine", "toil", ["toil", "cwltool"]),
        ("workflow_engine_version", "3", ["workflow_engine"]),
        ("tags", "[]", ["tags", "object", "array"]),
        ("tags", "1", ["tags", "number"]),
        ("tags", "{", ["tags", "JSON"]),
        ("tags", '{"a": 1}', ["tags", "'a'", "string"]),
        ("tags", '{"a": null}', ["tags", "'a'"]),
        ("tags", '{"": "x"}', ["tags"]),
        ("tags", '{"a\\u0000": "x"}', ["tags", "NUL"]),
        ("tags", '{"a": "\\ud800"}', ["tags", "Unicode"]),
        ("tags", json.dumps({"k" * 256: ""}), ["255"]),
        ("workflow_params", "[]", ["workflow_params", "object"]),
        ("workflow_params", "true", ["workflow_params", "boolean"]),
        ("workflow_params", "x: 1", ["workflow_params", "JSON"]),
        ("workflow_params", '{"x": NaN}', ["workflow_params", "NaN"]),
        ("workflow_params", '{"x": 1e999}', ["workflow_params"]),
        ("workflow_params", "[" * 10_000, ["workflow_params"]),
        ("workflow_engine_parameters", "[]", ["workflow_engine_parameters"]),
        ("workflow_engine_parameters", '"x"', ["workflow_engine_parameters", "string"]),
    ],
)
def test_bad_fields(server, field, value, words):
    is_error(post_form(server, **{**GOOD, field: value}), 400, *words)


@pytest.mark.parametrize(
    "change",
    [
        {"workflow_type": 1},
        {"workflow_type": ["CWL"]},
        {"workflow_type_version": 1.2},
        {"workflow_url": {}},
        {"workflow_url": "a\0b"},
        {"workflow_params": 3},
        {"workflow_params": [1]},
        {"tags": ["a"]},
        {"tags": {"a": {}}},
        {"workflow_engine": 7},
        {"workflow_engine_parameters": 1},
    ],
)
def test_bad_types_in_a_json_body(server, change):
    is_error(server.post("/runs", json={**GOOD, **change}), 400, next(iter(change)))


def test_the_engine_by_name_and_version(server):
    (version,) = server.get("/service-info").json()["workflow_engine_versions"]["cwltool"][
        "workflow_engine_version"
    ]
    echoed = request_of(
        server, post_form(server, **GOOD, workflow_engine="cwltool", workflow_engine_version=version)
    )
    assert (echoed["workflow_engine"], echoed["workflow_engine_version"]) == ("cwltool", version)
    is_error(post_form(server, **GOOD, workflow_engine="cwltool", workflow_engine_version="0"), 400, version)


def test_engine_parameters_become_strings(server):
    given_values = {"--a": None, "b": 1.5, "c": True, "d": [1], "e": "x"}
    echoed = request_of(
        server, post_form(server, **GOOD, workflow_engine_parameters=json.dumps(given_values))
    )
    assert echoed["workflow_engine_parameters"] == {"--a": "", "b": "1.5", "c": "true", "d": "[1]", "e": "x"}


def test_empty_optional_fields_are_as_good_as_none(server):
    echoed = request_of(
        server,
        post_form(
            server, **GOOD, tags="", workflow_params="", workflow_engine="", workflow_engine_parameters=" "
        ),
    )
    assert (echoed["tags"], echoed["workflow_params"]) == ({}, {})
    assert request_of(server, server.post("/runs", json={**GOOD, "tags": None}))["tags"] == {}


def test_unknown_fields_are_passed_over_and_told_in_the_runs_log(server):
    for answer in (
        post_form(server, **GOOD, workflow_parms="{}"),
        server.post("/runs", json={**GOOD, "workflow_parms": {}}),
    ):
        assert answer.status_code == 200
        (line,) = server.folder(answer.json()["run_id"]).stderr.read_text().splitlines()
        assert " WARNING " in line
        assert "'workflow_parms' means nothing here" in line
        assert line.endswith("did you mean 'workflow_params'?")


def test_known_fields_need_no_words(server):
    answer = post_form(server, **GOOD, tags="{}")
    assert not server.folder(answer.json()["run_id"]).stderr.exists()


def test_a_field_twice(server):
    is_error(post_form(server, ("tags", (None, "{}")), ("tags", (None, "{}")), **GOOD), 400, "tags")


# ---- attachments


def test_attachments_keep_their_folders(server):
    files = {"w.cwl": b"a", "tools/one/t.cwl": b"b", "tools/two/t.cwl": b"", "data/grün ß.txt": b"\0\xff"}
    run_id = server.submit(files, workflow_url="w.cwl")
    folder = server.folder(run_id)
    for name, content in files.items():
        assert folder.attachment(name).read_bytes() == content
    assert left_behind(server) == []


def test_an_attachment_that_begins_here(server):
    """Browsers and scripts send names as the documents have them: ``./types/x``."""
    files = {"./w.cwl": b"a", "./types/./x.yml": b"b"}
    run_id = server.submit(files, workflow_url="./w.cwl")
    folder = server.folder(run_id)
    assert folder.attachment("w.cwl").read_bytes() == b"a"
    assert folder.attachment("types/x.yml").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("w.cwl", "w.cwl"),
        ("w.cwl#main", "w.cwl"),
        ("a/b/w.cwl#x/y", "a/b/w.cwl"),
        ("my%20w.cwl", "my w.cwl"),
        ("my w.cwl", "my w.cwl"),
        ("my%20w.cwl", "my%20w.cwl"),
        ("a#b.cwl", "a#b.cwl"),
        ("a%23b.cwl", "a#b.cwl"),
        ("./w.cwl", "w.cwl"),
        ("a/./w.cwl", "a/w.cwl"),
        ("data:w.cwl", "data:w.cwl"),
    ],
)
def test_workflow_urls_that_name_an_attachment(server, url, name):
    run_id = server.submit({name: b"x"}, workflow_url=url)
    assert server.get(f"/runs/{run_id}").json()["request"]["workflow_url"] == url
    assert server.folder(run_id).attachment(name).exists()


@pytest.mark.parametrize(
    "url", ["w.cwl", "a/w.cwl", "W.CWL", "../w.cwl", "w.cwl/", "x/../b/w.cwl", "#main", "/b/w.cwl"]
)
def test_workflow_urls_that_name_no_attachment(server, url):
    parts = [("workflow_attachment", ("b/w.cwl", b"x"))]
    is_error(post_form(server, *parts, **{**GOOD, "workflow_url": url}), 400, "workflow_url", "attachment")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://e.org/w.cwl",
        "s3://b/w.cwl",
        "trs://e.org/w",
        "javascript:1",
        "C:\\w.cwl",
        "http://",
        "http:///w.cwl",
        "http://[::1",
        "http://e.org:99999/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/w.cwl",
        "http://0.0.0.0/w.cwl",
        "file:///etc/passwd",
        "file://elsewhere/etc/passwd",
        "file:///../etc/passwd",
    ],
)
def test_workflow_urls_that_lead_nowhere_good(server, url):
    is_error(post_form(server, **{**GOOD, "workflow_url": url}), 400, "workflow_url")


def test_absolute_workflow_urls(server):
    shared = server.config.fetch.files[0]
    (shared / "w.cwl").write_text("x")
    for url in ("https://e.org/w.cwl?x=1#main", "HTTP://e.org/w", "data:,x", f"file://{shared}/w.cwl#main"):
        assert post_form(server, **{**GOOD, "workflow_url": url}).status_code == 200, url


def test_a_link_does_not_lead_out_of_the_shared_folder(server, tmp_path):
    shared = server.config.fetch.files[0]
    (tmp_path / "secret.cwl").write_text("x")
    (shared / "link.cwl").symlink_to(tmp_path / "secret.cwl")
    is_error(post_form(server, **{**GOOD, "workflow_url": f"file://{shared}/link.cwl"}), 400, "workflow_url")
    is_error(
        post_form(server, **{**GOOD, "workflow_url": f"file://{shared}-evil/w.cwl"}), 400, "workflow_url"
    )


BAD_NAMES = [
    "../w",
    "a/../../w",
    "/etc/w",
    "a//b",
    "a/",
    "./../a",
    ".",
    "..",
    "a/.",
    "a\\b",
    "C:\\w",
    "C:/w",
    "a\tb",
    "x" * 256,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_attachment_names(server, name):
    before = left_behind(server)
    parts = [("workflow_attachment", ("ok.txt", b"x")), ("workflow_attachment", (name, b"evil"))]
    is_error(post_form(server, *parts, **GOOD), 400, "workflow_attachment")
    assert left_behind(server) == before == []


def test_attachments_sent_twice(server):
    """The same content twice is what wes-client sends; anything else under one name cannot be kept."""
    twice = [("workflow_attachment", ("a/w", b"1"))] * 2
    answer = post_form(server, *twice, **{**GOOD, "workflow_url": "a/w"})
    assert answer.status_code == 200
    folder = server.folder(answer.json()["run_id"])
    assert [path.name for path in folder.root.rglob("*")] == ["attachments", "a", "w"]
    for other in (b"2", b"", b"11"):
        parts = [twice[0], ("workflow_attachment", ("a/w", other))]
        is_error(post_form(server, *parts, **GOOD), 400, "a/w", "twice")
    for first, second in (("a", "a/b"), ("a/b", "a")):
        parts = [("workflow_attachment", (first, b"")), ("workflow_attachment", (second, b""))]
        is_error(post_form(server, *parts, **GOOD), 400, "workflow_attachment", second)
    assert left_behind(server) == []


def test_an_attachment_without_a_name(server):
    is_error(
        post_form(server, ("workflow_attachment", (None, b"x")), **GOOD),
        400,
        "workflow_attachment",
        "file name",
    )


def test_a_browsers_empty_file_field(server):
    body = b'--x\r\nContent-Disposition: form-data; name="workflow_attachment"; filename=""\r\n\r\n%s\r\n'
    for name, value in GOOD.items():
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    body += b"--x--\r\n"
    assert raw_post(server, body % b"", "multipart/form-data; boundary=x")[0] == 200
    assert raw_post(server, body % b"content", "multipart/form-data; boundary=x")[0] == 400


def test_a_rejected_submission_leaves_nothing(server):
    parts = [("workflow_attachment", (f"d{n}/f", b"x" * 1000)) for n in range(20)]
    is_error(post_form(server, *parts, **{**GOOD, "workflow_type": "WDL"}), 400)
    assert left_behind(server) == []


def test_a_client_that_goes_away_leaves_nothing(server):
    host, port = server.root.removeprefix("http://").split(":")
    import socket  # noqa: PLC0415

    head = '--x\r\nContent-Disposition: form-data; name="workflow_attachment"; filename="a"\r\n\r\n'
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST {BASE}/runs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: 9000000\r\n\r\n{head}".encode()
            + b"y" * 3_000_000
        )
        time.sleep(0.3)
        assert left_behind(server)
    deadline = time.time() + 10
    while left_behind(server) and time.time() < deadline:
        time.sleep(0.05)
    assert left_behind(server) == []


# ---- limits


def test_a_body_over_the_limit_is_refused_by_its_length(own_server):
    begun = time.perf_counter()
    status, answer = raw_post(
        own_server, b"", "application/json", **{"Content-Length": str(10**12), "Connection": "close"}
    )
    assert (status, answer["status_code"]) == (413, 413)
    assert "2000000" in answer["msg"]
    assert time.perf_counter() - begun < 30


def test_a_body_over_the_limit_is_refused_while_it_comes(own_server):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="workflow_attachment"; filename="a"\r\n\r\n'
        for _ in range(50):
            yield b"y" * 100_000

    answer = own_server.post(
        "/runs", data=body(), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    is_error(answer, 413, "2000000")
    assert left_behind(own_server) == []


def test_a_large_body_gets_its_answer(own_server):
    """The whole body may be on its way before the client reads: it must still see the 413."""
    is_error(post_form(own_server, ("workflow_attachment", ("a", b"x" * 30_000_000)), **GOOD), 413)
    assert own_server.get("/service-info").status_code == 200


def test_too_many_attachments(own_server):
    files = [("workflow_attachment", (f"f{n}", b"x")) for n in range(6)]
    is_error(post_form(own_server, *files, **GOOD), 413, "5 attachments")
    assert post_form(own_server, *files[:5], **GOOD).status_code == 200
    assert len(left_behind(own_server)) == 0


def test_too_many_fields(own_server):
    is_error(post_form(own_server, **{f"f{n}": "x" for n in range(200)}), 413, "fields")


def test_a_full_disk(own_server, monkeypatch):
    written = []

    def write(descriptor: int, data: Any) -> int:
        written.append(len(data))
        if sum(written) > 500_000:
            raise OSError(28, "No space left on device")
        return os.write(descriptor, data)

    class FullDisk:
        def __getattr__(self, name: str) -> Any:
            return write if name == "write" else getattr(os, name)

    monkeypatch.setattr(attachments, "os", FullDisk())
    parts = [("workflow_attachment", (f"d/f{n}", b"x" * 300_000)) for n in range(3)]
    is_error(post_form(own_server, *parts, **GOOD), 500, "no space left")
    assert left_behind(own_server) == []
    assert own_server.get("/runs").json()["runs"] == []
    monkeypatch.undo()
    assert post_form(own_server, *parts, **GOOD).status_code == 200


def test_a_database_that_fails_leaves_nothing(own_server, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("wes_bridge.store.runs.create_run", fail)
    answer = post_form(own_server, ("workflow_attachment", ("a", b"x")), **GOOD)
    is_error(answer, 500, "log")
    assert "secret" not in answer.text
    assert left_behind(own_server) == []
    assert own_server.woken == []


def test_a_submission_is_quick(server):
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        assert server.post("/runs", json=GOOD).status_code == 200
        times.append(time.perf_counter() - begun)
    assert sorted(times)[len(times) // 2] < 0.1  # a few ms on an idle machine


@pytest.mark.slow
def test_memory_stays_flat_during_a_large_upload(tmp_path):
    """300 MB in one attachment: the server grows by less than 40 MB."""
    size = 300 * 1024**2
    code = (
        "import sys, uvicorn; from pathlib import Path; from wes_bridge.config import ServiceConfig;"
        "from wes_bridge.store.database import Database; from wes_bridge.store.tables import SERVICE;"
        "from wes_bridge.wes.app import create_app; c = ServiceConfig(state_dir=Path(sys.argv[1]));"
        "uvicorn.run(create_app(c, Database(c.database_url, SERVICE), lambda: None), port=int(sys.argv[2]),"
        "log_level='warning', access_log=False)"
    )
    import psutil  # noqa: PLC0415
    from wes_server import free_port  # noqa: PLC0415

    port = free_port()
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "s"), str(port)])
    try:
        url = f"http://127.0.0.1:{port}{BASE}"
        wait_for(f"{url}/service-info")
        requests.post(
            f"{url}/runs", files=[(k, (None, v)) for k, v in GOOD.items()], timeout=30
        ).raise_for_status()
        watched = psutil.Process(process.pid)
        before = watched.memory_info().rss
        peak = [before]
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.01):
                peak.append(watched.memory_info().rss)

        thread = threading.Thread(target=watch)
        thread.start()
        answer = requests.post(
            f"{url}/runs",
            data=large_form(size),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
            timeout=120,
        )
        stop.set()
        thread.join()
        assert answer.status_code == 200, answer.text
        print(f"memory: {before >> 20} MiB before, {max(peak) >> 20} MiB at most")
        assert max(peak) - before < 40 * 1024**2
        stored = tmp_path / "s" / "workspace" / answer.json()["run_id"] / "attachments" / "big.bin"
        assert stored.stat().st_size == size
    finally:
        process.terminate()
        process.wait(timeout=60)


def large_form(size: int):
    for name, value in GOOD.items():
        yield f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    yield b'--x\r\nContent-Disposition: form-data; name="workflow_attachment"; filename="big.bin"\r\n\r\n'
    block = os.urandom(1024**2)
    for _ in range(size // len(block)):
        yield block
    yield b"\r\n--x--\r\n"


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            requests.get(url, timeout=60)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not come up")


# ---- properties


SEGMENT = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60))
@example("..")
@example("a/..")
@example("%2e%2e/x")
@example('q"uote')
@example("x\r\ny")
def test_any_attachment_name_is_kept_exactly_or_refused(server, name):
    """Whatever the name: stored under exactly that name inside the folder, or 400 and nothing stored."""
    encoded = name.encode().replace(b'"', b"%22").replace(b"\r", b"%0D").replace(b"\n", b"%0A")
    body = (
        b'--x\r\nContent-Disposition: form-data; name="workflow_attachment"; filename="%s"\r\n\r\nhi\r\n'
        % encoded
    )
    for field, value in GOOD.items():
        body += f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    status, answer = raw_post(server, body + b"--x--\r\n", "multipart/form-data; boundary=x")
    assert status in (200, 400)
    if status == 200:
        folder = server.folder(answer["run_id"])
        stored = [path for path in folder.attachments.rglob("*") if path.is_file()]
        assert len(stored) == 1
        assert stored[0].read_bytes() == b"hi"
        kept = stored[0].relative_to(folder.attachments).as_posix()
        assert kept == without_dots(disposition(f'form-data; filename="{encoded.decode()}"')["filename"])
    assert left_behind_quick(server) == []


def left_behind_quick(server) -> list[str]:
    incoming = server.workspace.root / ".incoming"
    return [path.name for path in incoming.iterdir()] if incoming.exists() else []


@given(st.text(max_size=60))
@example("a/../b")
@example("a\x85b")
def test_safe_names_stay_inside(name):
    try:
        relative = safe_relative(name)
    except UnsafeNameError:
        return
    root = Path("/base")
    assert (root / relative).is_relative_to(root)
    assert ".." not in relative.parts
    assert relative.as_posix() == name


@given(st.lists(SEGMENT.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4))
def test_an_attachment_is_found_by_its_own_name(parts):
    name = "/".join(parts)
    try:
        safe_relative(name)
    except UnsafeNameError:
        return
    assert find_attachment(name, {name}.__contains__) == (name, "")


@given(st.text(max_size=300))
@example("a/b/%FF.cwl?x#y")
@example("data:,x")
def test_workflow_names_can_be_shown_and_stored(url):
    name = workflow_name(url)
    assert len(name) <= 255
    assert name.isprintable()


def test_a_run_that_may_have_been_stored_keeps_its_files(postgresql: Cluster, tmp_path: Path) -> None:
    """The connection breaks during the commit: nobody can know, so the caller is told what to look for."""
    serving = start(ServiceConfig(state_dir=tmp_path / "state", database=postgresql.new_database()))
    server = next(serving)
    cut: list[int] = []

    def cut_off(connection: Connection) -> None:
        if cut:
            return
        cut.append(1)
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with server.database.write() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    event.listen(server.database.engine, "commit", cut_off)
    try:
        parts = [(name, (None, value)) for name, value in {**GOOD, "workflow_url": "w.cwl"}.items()]
        answer = server.post("/runs", files=[*parts, ("workflow_attachment", ("w.cwl", b"{}"))])
        assert answer.status_code == 503
        assert "Retry-After" not in answer.headers
        told = answer.json()["msg"]
        assert "may have been done or not" in told
        assert (server.folder(told.split()[-1]).root / "attachments" / "w.cwl").read_bytes() == b"{}"
    finally:
        serving.close()
