"""A browser runs nothing that a run, a node or a broker made: types, dispositions and policies."""

from __future__ import annotations

import pytest

from tests.security.hostile_web import hostile_web, redirect, text

PAGE = b"<html><script>alert(document.cookie)</script></html>"
INERT = "default-src 'none'; sandbox"
ACTIVE = ("html", "svg", "xml", "script")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/service-info",
        "/runs",
        "/runs/none",
        "/runs/none/status",
        "/nothing",
        "/openapi.json",
        "/ui/",
        "/%00",
    ],
)
def test_all_answers_say_what_browsers_must_not_do(server, path):
    answer = server.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"]
    policy = answer.headers["content-security-policy"]
    is_page = answer.headers.get("content-type", "").startswith("text/html")
    assert ("frame-ancestors 'none'" in policy) if is_page else policy == INERT


@pytest.fixture
def run(server):
    return server.submit(workflow_attachment=None)


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        ("x.html", "application/octet-stream", "attachment"),
        ("x.xhtml", "application/octet-stream", "attachment"),
        ("x.svg", "application/octet-stream", "attachment"),
        ("x.xml", "application/octet-stream", "attachment"),
        ("x.js", "application/octet-stream", "attachment"),
        ("x.pdf", "application/pdf", "attachment"),
        ("x.unknown", "application/octet-stream", "attachment"),
        ("x.txt", "text/plain; charset=utf-8", "inline"),
        ("x.json", "application/json", "inline"),
        ("x.png", "image/png", "inline"),
    ],
)
def test_files_of_runs_are_no_pages(server, run, name, kind, how):
    outputs = server.folder(run).outputs
    outputs.mkdir(parents=True, exist_ok=True)
    (outputs / name).write_bytes(PAGE)
    answer = server.get(f"/runs/{run}/files/outputs/{name}")
    assert answer.content == PAGE
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"].startswith(how)
    assert answer.headers["content-security-policy"] == INERT
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "multipart/x-mixed-replace"]
)
def test_what_a_node_calls_its_logs_does_not_matter(server, engine, run, kind):
    more = f"Content-Type: {kind}\r\nSet-Cookie: a=b\r\nRefresh: 0;url=http://evil/\r\n"
    with hostile_web({"/log": text(PAGE, more)}) as node:
        engine.task(run, 1, stdout=f"{node.url}/log")
        answer = server.get(f"/runs/{run}/tasks/t1/stdout")
    assert answer.content == PAGE
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-security-policy"] == INERT
    assert not {"set-cookie", "refresh"} & {name.lower() for name in answer.headers}


@pytest.mark.parametrize("location", ["http://127.0.0.1:{}/canary", "file:///etc/passwd"])
def test_a_node_cannot_send_the_service_elsewhere(server, engine, run, location):
    with hostile_web({"/canary": text(b"canary")}) as internal:
        with hostile_web({"/log": redirect(location.format(internal.port))}) as node:
            engine.task(run, 1, stdout=f"{node.url}/log")
            answer = server.get(f"/runs/{run}/tasks/t1/stdout")
        assert answer.status_code == 502
        assert internal.heads == []
