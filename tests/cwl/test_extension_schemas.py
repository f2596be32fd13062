"""``$schemas`` of other sites: one that cannot be had is asked for once, and not at all when that is said."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.cwl.walking import Folder

ONTOLOGY = """
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
<http://formats.example/child> rdfs:subClassOf <http://formats.example/parent> .
"""


class Site(http.server.ThreadingHTTPServer):
    """Answers for what it has, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200 if self.path == "/known.ttl" else 503)
        self.end_headers()
        self.wfile.write(ONTOLOGY.encode())

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def documents(folder: Folder, site: Site, name: str) -> None:
    schemas = f'$schemas: ["{site.url}/{name}"]\n$namespaces: {{f: "http://formats.example/"}}\n'
    steps = "".join(f"  s{i}: {{run: t{i}.cwl, in: {{a: a}}, out: []}}\n" for i in range(5))
    folder.write(
        "w.cwl",
        f"cwlVersion: v1.2\nclass: Workflow\n{schemas}inputs: {{a: File}}\noutputs: {{}}\nsteps:\n{steps}",
    )
    for i in range(5):
        inputs = "inputs: {a: {type: File, format: f:parent}}"
        folder.write(
            f"t{i}.cwl",
            f"cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: r\n{schemas}{inputs}\noutputs: {{}}\n",
        )


def test_a_schema_that_cannot_be_had_is_asked_for_once_and_told_once(folder: Folder, site: Site) -> None:
    documents(folder, site, "gone.ttl")
    assert folder.validate("w.cwl") == []
    assert site.asked.count("/gone.ttl") == 1
    told = [text for text in folder.heard.warnings if "gone.ttl" in text]
    assert (
        len(told) == len(set(told)) == 2
    )  # that it cannot be loaded, and that the reference is one to nothing
    assert "503" in told[0]


def test_the_next_run_asks_again(folder: Folder, site: Site) -> None:
    documents(folder, site, "gone.ttl")
    folder.validate("w.cwl")
    folder.validate("w.cwl")
    assert site.asked.count("/gone.ttl") == 2


def test_schemas_are_skipped_when_that_is_said(folder: Folder, site: Site) -> None:
    documents(folder, site, "known.ttl")
    assert folder.validate("w.cwl", skip_schemas=True) == []
    assert site.asked == []


def test_a_schema_that_is_there_is_used(folder: Folder, site: Site) -> None:
    documents(folder, site, "known.ttl")
    file = folder.file("a.bin") | {"format": "http://formats.example/child"}
    assert sorted(folder.walk("w.cwl", {"a": file}).commands) == [f"s{i}" for i in range(5)]
