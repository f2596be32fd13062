"""Links that a command, or an earlier one, left behind: the node neither reads nor writes through any.

Each test has a folder that nobody was given, with a canary in it, and looks at it afterwards. The nodes have
no sandbox, so that nothing but the node's own care is in the way.
"""

from __future__ import annotations

import base64
import http.server
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, need_bwrap, shell, start_node, texts
from tests.security.paths import CANARY
from tests.waiting import until

__all__ = ["need_bwrap", "start_node"]


class Secret:
    """A folder that no session was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("canary.txt", "log", "new"):
            (folder / name).write_text(CANARY)
        (folder / "empty").write_text("")
        (folder / "program").write_text(CANARY)
        (folder / "program").chmod(0o4755)
        self._before = self._look()

    def _look(self) -> list[tuple[str, int, int, str]]:
        return [
            (path.name, path.lstat().st_mode, path.lstat().st_nlink, path.read_text())
            for path in sorted(self.folder.iterdir())
        ]

    def check(self) -> None:
        assert self._look() == self._before


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Secret]:
    found = Secret(tmp_path / "secret")
    yield found
    found.check()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder that the node may use."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def limited(request: pytest.FixtureRequest, shared: Path) -> NodeProcess:
    start = request.getfixturevalue("start_node")
    node: NodeProcess = start(sandbox="none", data=[f"file://{shared}/", "data:"])
    return node


@pytest.fixture(scope="module")
def plain(request: pytest.FixtureRequest) -> NodeProcess:
    start = request.getfixturevalue("start_node")
    node: NodeProcess = start(sandbox="none")
    return node


@pytest.fixture
def way(shared: Path, secret: Secret) -> Iterator[Path]:
    """A link out of the allowed folder."""
    link = shared / "way"
    link.symlink_to(secret.folder)
    yield link
    link.unlink()


def literal(text: str) -> str:
    return "data:;base64," + base64.b64encode(text.encode()).decode()


def test_a_link_in_an_allowed_folder_is_no_way_to_read(limited: NodeProcess, way: Path) -> None:
    request = Request(shell(f"cat {ROOT}/in/a")).data(f"{ROOT}/in/a", f"file://{way}/canary.txt")
    session = limited.run(request)
    assert session["phase"] == "FAILED"
    assert "this node takes only" in texts(session)
    assert CANARY not in limited.stream(session)


@pytest.mark.parametrize("mode", ["READONLY", "READWRITE"])
def test_nor_is_the_linked_folder_itself(limited: NodeProcess, way: Path, mode: str) -> None:
    request = Request(shell(f"cat {ROOT}/in/a/canary.txt; echo x >{ROOT}/in/a/new"))
    session = limited.run(request.data(f"{ROOT}/in/a", f"file://{way}", mode))
    assert session["phase"] == "FAILED"
    assert CANARY not in limited.stream(session)


def test_nor_to_write(limited: NodeProcess, way: Path) -> None:
    session = limited.run(Request(shell("echo x >new")).output(f"file://{way}/out"))
    assert session["phase"] == "FAILED"
    assert "this node takes only" in texts(session)


def test_nor_to_keep_a_stream(limited: NodeProcess, way: Path) -> None:
    streams = {"stdout": {"destination": f"file://{way}/stream"}}
    limited.run(Request(shell("echo x", streams=streams)))


def test_a_link_within_an_allowed_folder_stays_a_way(limited: NodeProcess, shared: Path) -> None:
    (shared / "real").mkdir()
    (shared / "real" / "a").write_text("content")
    (shared / "other").symlink_to("real")
    request = Request(shell(f"cat {ROOT}/in/a; echo x >new")).data(f"{ROOT}/in/a", f"file://{shared}/other/a")
    session = limited.completed(request.output(f"file://{shared}/other/out"))
    assert limited.stream(session) == "content"
    assert (shared / "real" / "out" / "new").read_text() == "x\n"


@pytest.fixture
def linked(tmp_path: Path, secret: Secret) -> Path:
    """A Directory with a link out of it."""
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "way").symlink_to(secret.folder)
    (folder / "own").write_text("own")
    return folder


def copied(request: Request, linked: Path) -> Request:
    return request.data(f"{ROOT}/out/d", linked.as_uri(), "READWRITE", copy=True)


def test_a_literal_is_not_written_through_a_copied_directory(plain: NodeProcess, linked: Path) -> None:
    request = copied(Request(shell("true")), linked).data(f"{ROOT}/out/d/way/new", literal("changed"))
    session = plain.run(request)
    assert session["phase"] == "FAILED"
    assert "is not followed" in texts(session)


def test_nor_is_a_folder_made_through_it(plain: NodeProcess, linked: Path) -> None:
    request = copied(Request(shell("true")), linked)
    request.data(f"{ROOT}/out/d/way/deep/folder", None, "READWRITE", directory=True)
    assert plain.run(request)["phase"] == "FAILED"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_nor_a_stream(plain: NodeProcess, linked: Path, name: str) -> None:
    streams = {name: {"path": "d/way/log"}}
    session = plain.run(copied(Request(shell("echo x; echo x >&2", streams=streams)), linked))
    assert session["phase"] == "FAILED"
    assert "is not followed" in texts(session)


def test_standard_input_is_not_read_through_it(plain: NodeProcess, linked: Path) -> None:
    streams = {"stdin": {"path": f"{ROOT}/out/d/way/canary.txt"}}
    session = plain.run(copied(Request(shell("cat", streams=streams)), linked))
    assert session["phase"] == "FAILED"
    assert CANARY not in plain.stream(session)


def test_standard_input_may_be_a_link_within_what_was_given(plain: NodeProcess, linked: Path) -> None:
    (linked / "again").symlink_to("own")
    streams = {"stdin": {"path": f"{ROOT}/out/d/again"}}
    session = plain.completed(copied(Request(shell("cat", streams=streams)), linked))
    assert plain.stream(session) == "own"


def test_a_stream_in_place_of_a_copied_link_replaces_it(
    plain: NodeProcess, linked: Path, secret: Secret, tmp_path: Path
) -> None:
    (linked / "log").symlink_to(secret.folder / "log")
    request = copied(Request(shell("echo x", streams={"stdout": {"path": "d/log"}})), linked)
    assert plain.stream(plain.completed(request)) == "x\n"


def test_an_output_directory_replaced_by_a_link_is_not_released(
    plain: NodeProcess, secret: Secret, tmp_path: Path
) -> None:
    script = f"cd ..; rm -r out; ln -s {secret.folder} out"
    session = plain.run(Request(shell(script)).output(tmp_path / "out"))
    assert session["phase"] == "FAILED"
    assert "the command put a link in its place" in texts(session)
    assert not os.path.lexists(tmp_path / "out")


def test_nor_is_one_in_a_folder_replaced_by_a_link(
    plain: NodeProcess, secret: Secret, tmp_path: Path
) -> None:
    (secret.folder / "deep").mkdir()
    (secret.folder / "deep" / "x").write_text(CANARY)
    script = f"cd ..; rm -r a; ln -s {secret.folder} a"
    session = plain.run(Request(shell(script)).output(tmp_path / "out", f"{ROOT}/a/deep"))
    assert session["phase"] == "FAILED"
    assert (secret.folder / "deep" / "x").read_text() == CANARY
    (secret.folder / "deep" / "x").unlink()
    (secret.folder / "deep").rmdir()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "script",
    [
        "rm sub/log; ln -s {secret}/canary.txt sub/log",
        "mv sub gone; ln -s {secret} sub",
        "rm sub/log; mkfifo sub/log",
    ],
)
def test_streams_are_served_without_following(
    plain: NodeProcess, secret: Secret, tmp_path: Path, script: str
) -> None:
    """While the command runs, when it has ended, and from where its outputs have gone."""
    go = tmp_path / "go"
    script = f"{script.format(secret=secret.folder)}; touch {tmp_path}/ready"
    script += f"; until [ -e {go} ]; do sleep .02; done"
    request = Request(shell(script, streams={"stdout": {"path": "sub/log"}})).output(tmp_path / "out")
    session = plain.begin(request)
    until((tmp_path / "ready").exists)
    assert plain.stream(session) == ""
    go.touch()
    session = plain.end(session)
    assert plain.stream(session) == ""


def test_another_session_s_files_are_not_taken_along(plain: NodeProcess, tmp_path: Path) -> None:
    """By way of two links: the first leads, as it is written, to the session's own folder."""
    script = f"mkdir -p ../tmp; echo {CANARY} >../tmp/private; touch {tmp_path}/ready; sleep 600"
    other = plain.begin(Request(shell(script)))
    until((tmp_path / "ready").exists)
    there = plain.state / "sessions" / other["meta"]["uuid"] / "fs"
    script = f"mkdir -p ../tmp; ln -s {there} ../tmp/s; ln -s ../tmp/s/tmp/private k; ln -s ../tmp/s/tmp d"
    plain.run(Request(shell(script)).output(tmp_path / "out"))
    plain.update(other, "CANCELLED")
    for name in ("k", "d", "d/private"):
        path = tmp_path / "out" / name
        assert path.is_symlink() or not path.exists()


def test_a_link_at_the_destination_is_replaced_not_written_through(
    plain: NodeProcess, secret: Secret, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "d").symlink_to(secret.folder)
    (out / "f").symlink_to(secret.folder / "canary.txt")
    plain.completed(Request(shell("mkdir d; echo x >d/new; echo x >f")).output(out))
    assert (out / "d" / "new").read_text() == (out / "f").read_text() == "x\n"


def test_a_link_is_not_uploaded(plain: NodeProcess, secret: Secret) -> None:
    """An output that goes to a web server is read by the node, outside the sandbox."""
    bodies: dict[str, bytes] = {}

    class Site(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            bodies[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script = f"echo x >own; ln -s own again; ln -s {secret.folder}/canary.txt k; ln -s {secret.folder} d"
        url = f"http://127.0.0.1:{server.server_address[1]}/out"
        plain.completed(Request(shell(script)).output(url))
        server.shutdown()
    assert bodies["/out/own"] == b"x\n"
    assert not any(CANARY.encode() in body for body in bodies.values()), bodies


def test_special_bits_do_not_survive(plain: NodeProcess, tmp_path: Path) -> None:
    script = "mkdir d; echo x >d/f; chmod 6755 d/f; cp d/f s; chmod 1777 s; chmod 3777 d"
    plain.completed(Request(shell(script)).output(tmp_path / "out"))
    modes = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in ("d", "d/f", "s")}
    assert modes == {"d": 0o777, "d/f": 0o755, "s": 0o777}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities to files")
def test_capabilities_do_not_survive(plain: NodeProcess, tmp_path: Path) -> None:
    """``cap_setuid+ep``, as setcap writes it: on an output, and in a private copy of an input."""
    rights = bytes.fromhex("0100000280000000000000000000000000000000")
    given = tmp_path / "given"
    given.write_text("x")
    given.chmod(0o755)
    try:
        os.setxattr(given, "security.capability", rights)
    except OSError as error:
        pytest.skip(f"this file system has no capabilities: {error}")
    script = "import os,sys;f=open('made','w');os.chmod('made',0o755);" + (
        f"os.setxattr('made','security.capability',bytes.fromhex('{rights.hex()}'))"
    )
    request = Request(shell(f'python3 -c "{script}"')).output(tmp_path / "out")
    request.data(f"{ROOT}/out/copy", given.as_uri(), "READWRITE", copy=True)
    plain.completed(request)
    for name in ("made", "copy"):
        assert "security.capability" not in os.listxattr(tmp_path / "out" / name)


def opened_directory(linked: Path, request: Request) -> Request:
    """A Directory in which something is placed becomes one of links: also of the link out of it?"""
    return request.data(f"{ROOT}/in/d", linked.as_uri()).data(f"{ROOT}/in/d/added", literal("added"))


def test_a_link_in_an_opened_directory_is_not_shown_by_the_sandbox(
    request: pytest.FixtureRequest, linked: Path, need_bwrap: None
) -> None:
    start = request.getfixturevalue("start_node")
    hidden = start(sandbox="bwrap", sandbox_shows=["/usr", "/bin", "/lib", "/lib64", "/etc"])
    script = f"cd {ROOT}/in/d; cat own added; cat way/canary.txt; true"
    session = hidden.completed(opened_directory(linked, Request(shell(script))))
    assert hidden.stream(session) == "ownadded"
