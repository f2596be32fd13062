"""How data gets in and out."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, session_kinds, shell, texts
from wes_bridge.model import execution_broker as eb


@pytest.fixture(params=["node", "plain"])
def both(request: pytest.FixtureRequest) -> NodeProcess:
    """With and without a sandbox."""
    return request.getfixturevalue(request.param)


def literal(text: str) -> str:
    return "data:;base64," + base64.b64encode(text.encode()).decode()


def test_file_read_only(both: NodeProcess, tmp_path: Path) -> None:
    source = tmp_path / "with space & ä.txt"
    source.write_text("content")
    request = Request(shell(f"cat {ROOT}/in/name.txt")).data(f"{ROOT}/in/name.txt", source.as_uri())
    assert both.stream(both.completed(request)) == "content"
    assert source.read_text() == "content"


def test_sandbox_keeps_inputs_safe(node: NodeProcess, tmp_path: Path, need_bwrap: None) -> None:
    source = tmp_path / "a"
    source.write_text("content")
    request = Request(shell(f"echo x > {ROOT}/in/a || echo refused"))
    session = node.completed(request.data(f"{ROOT}/in/a", source.as_uri()))
    assert node.stream(session) == "refused\n"
    assert source.read_text() == "content"


def test_file_in_place(both: NodeProcess, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("1\n")
    request = Request(shell(f"echo 2 >> {ROOT}/in/a")).data(f"{ROOT}/in/a", source.as_uri(), "READWRITE")
    both.completed(request)
    assert source.read_text() == "1\n2\n"


def test_private_copies(both: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/f").write_text("1\n")
    (tmp_path / "d/sub/f").chmod(0o444)
    (tmp_path / "a").write_text("1\n")
    request = Request(shell("echo 2 >> a; echo 2 >> d/sub/f; touch d/new; cat a d/sub/f"))
    request.data(f"{ROOT}/out/a", (tmp_path / "a").as_uri(), "READWRITE", copy=True)
    request.data(f"{ROOT}/out/d", (tmp_path / "d").as_uri(), "READWRITE", copy=True)
    assert both.stream(both.completed(request)) == "1\n2\n1\n2\n"
    assert (tmp_path / "a").read_text() == "1\n"
    assert (tmp_path / "d/sub/f").read_text() == "1\n"
    assert not (tmp_path / "d/new").exists()


def test_directory_and_what_is_inside_it(both: NodeProcess, tmp_path: Path) -> None:
    """Things placed inside a linked directory appear there, and not in its source."""
    source = tmp_path / "d"
    (source / "sub").mkdir(parents=True)
    (source / "one").write_text("1\n")
    (source / "sub/two").write_text("2\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "five").write_text("5\n")
    request = Request(shell(f"cd {ROOT}/d; cat one sub/two sub/three four sub/deep/er/six e/five"))
    request.data(f"{ROOT}/d/sub/deep/er/six", literal("6\n"))
    request.data(f"{ROOT}/d", source.as_uri())
    request.data(f"{ROOT}/d/sub/three", literal("3\n"))
    request.data(f"{ROOT}/d/four", literal("4\n"))
    request.data(f"{ROOT}/d/e", other.as_uri())
    request.data(f"{ROOT}/d/one", literal("one\n"))
    assert both.stream(both.completed(request)) == "one\n2\n3\n4\n6\n5\n"
    assert sorted(path.name for path in source.rglob("*")) == ["one", "sub", "two"]
    assert (source / "one").read_text() == "1\n"


def test_directories_merge(both: NodeProcess, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / name).write_text(name)
    request = Request(shell(f"ls {ROOT}/d/sub {ROOT}/d"))
    request.data(f"{ROOT}/d", (tmp_path / "a").as_uri()).data(f"{ROOT}/d", (tmp_path / "b").as_uri())
    words = both.stream(both.completed(request)).split()
    assert [word for word in words if not word.endswith(":")] == ["sub", "a", "b"]
    assert not (tmp_path / "a/sub/b").exists()


def test_empty_directory_and_literals(both: NodeProcess) -> None:
    request = Request(shell(f"ls -A {ROOT}/empty; touch {ROOT}/empty/x; cat {ROOT}/a {ROOT}/b; pwd"))
    request.data(f"{ROOT}/empty", None, "READWRITE", directory=True)
    request.data(f"{ROOT}/a", "data:text/plain,percent%20%C3%A4%0A")
    request.data(f"{ROOT}/b", literal(f"see {ROOT}/a, not {ROOT}x\n"))
    lines = both.stream(both.completed(request)).splitlines()
    real = lines[2].removesuffix("/out")
    assert lines == ["percent ä", f"see {real}/a, not {ROOT}x", f"{real}/out"]


def test_scratch_storage(both: NodeProcess) -> None:
    request = Request(shell(f"echo x > {ROOT}/scratch/a; cat {ROOT}/scratch/a"))
    request.body["storage"] = [
        {"kind": eb.SIMPLE_STORAGE, "meta": {"name": "s"}, "size": {"min": 0, "max": 1}}
    ]
    request.body["compute"]["volumes"].append(
        {"kind": eb.SIMPLE_VOLUME, "path": f"{ROOT}/scratch", "mode": "READWRITE", "resource": "s"}
    )
    assert both.stream(both.completed(request)) == "x\n"
    request.body["storage"][0]["size"] = {"min": 10_000_000}
    assert both.ask(request)["result"] == "NO"


def test_missing_input_fails_and_is_named(both: NodeProcess, tmp_path: Path) -> None:
    request = Request(shell("true")).data(f"{ROOT}/in/a", (tmp_path / "not-there").as_uri())
    session = both.run(request)
    assert session["phase"] == "FAILED"
    assert "urn:wes-bridge:staging-failed" in session_kinds(session)
    assert "not-there" in texts(session)
    assert "exitCode" not in session["executable"]
    assert session["data"][0]["phase"] == "FAILED"


def test_rewrite(both: NodeProcess, tmp_path: Path) -> None:
    script = 'printf \'{"f": "%s/x", "g": "%s"}\' "$PWD" "$PWD" > cwl.output.json; cp cwl.output.json other'
    request = Request(shell(script, rewrite=["cwl.output.json", "not-there.json"]))
    both.completed(request.output(tmp_path / "out"))
    assert json.loads((tmp_path / "out/cwl.output.json").read_text()) == {
        "f": f"{ROOT}/out/x",
        "g": f"{ROOT}/out",
    }
    assert ROOT not in (tmp_path / "out/other").read_text()


def test_output_is_moved_into_place(both: NodeProcess, tmp_path: Path) -> None:
    target = tmp_path / "deep/er/out"
    both.completed(Request(shell("mkdir d; echo x > d/x; echo y > y")).output(target))
    assert (target / "d/x").read_text() == "x\n"
    assert (target / "y").read_text() == "y\n"


def test_output_onto_what_is_there(both: NodeProcess, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "d").mkdir(parents=True)
    (target / "d/old").write_text("old")
    (target / "y").write_text("old")
    both.completed(Request(shell("mkdir d; echo x > d/x; echo new > y")).output(target))
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "d",
        "d/old",
        "d/x",
        "y",
    ]
    assert (target / "y").read_text() == "new\n"


def test_output_to_another_file_system(both: NodeProcess) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == both.state.stat().st_dev:
        pytest.skip("no second file system")
    target = shared / f"wb-test-{os.getpid()}" / "out"
    try:
        both.completed(Request(shell("mkdir d; echo x > d/x")).output(target))
        assert (target / "d/x").read_text() == "x\n"
        assert [path.name for path in target.parent.iterdir()] == ["out"]
    finally:
        shutil.rmtree(target.parent, ignore_errors=True)


def test_outputs_of_a_failed_command_are_transferred_too(both: NodeProcess, tmp_path: Path) -> None:
    session = both.run(Request(shell("echo x > x; exit 3")).output(tmp_path / "out"))
    assert session["phase"] == "FAILED"
    assert (tmp_path / "out/x").exists()


def test_output_that_cannot_be_written(both: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    session = both.run(Request(shell("echo x > x")).output(tmp_path / "file/out"))
    assert session["phase"] == "FAILED"
    assert "urn:wes-bridge:releasing-failed" in session_kinds(session)
    assert str(tmp_path / "file") in texts(session)
    assert session["executable"]["exitCode"] == 0


def test_links_in_outputs_stay_good(both: NodeProcess, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("source")
    script = (
        f"ln -s {ROOT}/in/a to-input; ln -s {ROOT}/in/b to-literal; echo x > real; ln -s real relative;"
        f' ln -s "$PWD/real" absolute; ln -s /etc/hostname outside; mkdir d; ln -s ../real d/up;'
        " ln -s none dangling"
    )
    request = Request(shell(script))
    request.data(f"{ROOT}/in/a", source.as_uri()).data(f"{ROOT}/in/b", literal("literal"))
    request.data(f"{ROOT}/out/staged", source.as_uri())
    out = tmp_path / "out"
    both.completed(request.output(out))
    assert (out / "to-input").readlink() == source
    assert (out / "staged").readlink() == source
    assert (out / "to-literal").read_text() == "literal"
    assert not (out / "to-literal").is_symlink()
    assert (out / "relative").readlink() == Path("real")
    assert (out / "absolute").read_text() == "x\n"
    assert (out / "d/up").read_text() == "x\n"
    assert (out / "outside").readlink() == Path("/etc/hostname")
    assert (out / "dangling").readlink() == Path("none")


class Site(http.server.BaseHTTPRequestHandler):
    """A web server that fails now and then, and takes what is PUT."""

    failures = 0
    stored: dict[str, bytes] = {}

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        if self.path == "/flaky" and Site.failures > 0:
            Site.failures -= 1
            self.send_error(503)
            return
        if self.path == "/cut" and Site.failures > 0:
            Site.failures -= 1
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            return
        if self.path not in ("/file", "/flaky", "/cut"):
            self.send_error(404)
            return
        body = b"from the web\n" * 1000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/no/"):
            self.send_error(403)
            return
        Site.stored[self.path] = body
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize("path", ["file", "moved", "flaky", "cut"])
def test_http_input(node: NodeProcess, site: str, path: str) -> None:
    Site.failures = 2 if path in ("flaky", "cut") else 0
    request = Request(shell(f"wc -l < {ROOT}/in/f")).data(f"{ROOT}/in/f", f"{site}/{path}")
    assert node.stream(node.completed(request)).strip() == "1000"


def test_http_inputs_at_once(node: NodeProcess, site: str) -> None:
    request = Request(shell(f"cat {ROOT}/in/* | wc -l"))
    for number in range(10):
        request.data(f"{ROOT}/in/{number}", f"{site}/file")
    assert node.stream(node.completed(request)).strip() == "10000"


@pytest.mark.parametrize(("url", "says"), [("{}/nothing", "404"), ("http://127.0.0.1:1/x", "127.0.0.1:1")])
def test_http_input_that_fails(node: NodeProcess, site: str, url: str, says: str) -> None:
    session = node.run(Request(shell("true")).data(f"{ROOT}/in/f", url.format(site)))
    assert session["phase"] == "FAILED"
    assert says in texts(session)


def test_http_output(node: NodeProcess, site: str) -> None:
    script = "mkdir d; echo x > 'd/a b'; echo y > y"
    node.completed(Request(shell(script)).output(f"{site}/put/"))
    assert Site.stored["/put/d/a%20b"] == b"x\n"
    assert Site.stored["/put/y"] == b"y\n"
    session = node.run(Request(shell(script)).output(f"{site}/no/"))
    assert session["phase"] == "FAILED"
    assert "403" in texts(session)


def test_cancel_while_downloading(node: NodeProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        silent.settimeout(30)
        session = node.begin(Request(shell("true")).data(f"{ROOT}/in/f", url))
        connection, _ = silent.accept()
        node.update(session, "CANCELLED")
        connection.close()
        assert node.end(session)["phase"] == "CANCELLED"
