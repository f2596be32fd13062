"""Kept outputs as inputs: linked at the node that made them, fetched by their manifest at any other."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, Starter, shell, texts
from tests.node.test_data_api import keeping, output, signed
from tests.waiting import until
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.manifest import EntryKind, ManifestEntry, write_manifest

UUID = "11111111-1111-4111-8111-111111111111"


def moved(node: NodeProcess) -> dict[str, int]:
    """What the node's counters say of kept outputs."""
    return node.http.get(f"{node.url}/status").json()["kept"]


@pytest.fixture(params=["node", "plain"])
def both(request: pytest.FixtureRequest) -> NodeProcess:
    """With and without a sandbox."""
    return request.getfixturevalue(request.param)


# ---- at the node that made them --------------------------------------------------------------------


def test_a_chain_of_steps_at_one_node_moves_nothing(both: NodeProcess) -> None:
    """Three steps on the same bytes: what the second and third read is linked, and nothing is sent."""
    before = moved(both)
    first = both.completed(keeping("mkdir d; head -c 1000000 /dev/zero > d/a; echo 1 > b"))
    base = output(first)["location"]
    second = keeping("cat ../in/whole/d/a > c; wc -c < c")
    second = both.completed(second.data(f"{ROOT}/in/whole", base))
    third = Request(shell(f"cat {ROOT}/in/c | wc -c; cat {ROOT}/in/b; ls {ROOT}/in/d"))
    third.data(f"{ROOT}/in/c", output(second)["location"] + "c").data(f"{ROOT}/in/b", base + "b")
    third.data(f"{ROOT}/in/d", base + "d/")
    assert both.stream(both.completed(third)).split() == ["1000000", "1", "a"]
    after = moved(both)
    assert after["served"] == before["served"]
    assert after["fetched"] == before["fetched"] == 0
    assert after["linked"] - before["linked"] == 1_000_002 + 1_000_000 + 2 + 1_000_000


def test_what_is_linked_is_not_changed_by_a_sandboxed_step(node: NodeProcess) -> None:
    first = node.completed(keeping("echo 1 > a"))
    url = output(first)["location"] + "a"
    second = Request(shell(f"echo 2 > {ROOT}/in/a || echo refused")).data(f"{ROOT}/in/a", url)
    assert node.stream(node.completed(second)) == "refused\n"
    assert node.http.get(url).text == "1\n"


def test_a_copy_may_be_changed_and_the_output_not(both: NodeProcess) -> None:
    url = output(both.completed(keeping("echo 1 > a")))["location"] + "a"
    request = Request(shell("echo 2 >> a; cat a")).data(f"{ROOT}/out/a", url, "READWRITE", copy=True)
    assert both.stream(both.completed(request)) == "1\n2\n"
    assert both.http.get(url).text == "1\n"
    refused = both.refused(Request(shell("true")).data(f"{ROOT}/in/a", url, "READWRITE"))
    assert any("is not changed in place" in message["message"] for message in refused)


def test_it_may_be_used_where_the_node_takes_no_web_addresses(start_node: Starter, tmp_path: Path) -> None:
    node = start_node(sandbox="none", data=[tmp_path.as_uri() + "/"])
    url = output(node.completed(keeping("echo 1 > a")))["location"]
    request = Request(shell(f"cat {ROOT}/in/a")).data(f"{ROOT}/in", url)
    assert node.stream(node.completed(request)) == "1\n"


def test_an_input_that_the_output_has_not_fails_the_session(plain: NodeProcess) -> None:
    url = output(plain.completed(keeping("ln -s /etc/passwd away")))["location"]
    for name, reason in (("nothing", "no such file"), ("away", "leads out of the output")):
        session = plain.run(Request(shell("true")).data(f"{ROOT}/in/a", url + name))
        assert session["phase"] == "FAILED"
        assert reason in texts(session)


def test_a_lease_holds_while_a_session_uses_the_output(plain: NodeProcess) -> None:
    first = plain.completed(keeping("echo 1 > a"))
    wait = f"cat {ROOT}/in/a; while [ ! -e go ]; do sleep 0.02; done; cat {ROOT}/in/a"
    second = plain.begin(Request(shell(wait)).data(f"{ROOT}/in", output(first)["location"]))
    plain.until(second, lambda now: now["phase"] == "RUNNING")
    uuid = first["meta"]["uuid"]
    assert plain.http.delete(f"{plain.url}/data/{uuid}/out").status_code == 204
    assert plain.http.get(output(first)["location"]).status_code == 404
    (plain.state / "sessions" / second["meta"]["uuid"] / "fs/out/go").touch()
    assert plain.stream(plain.end(second)) == "1\n1\n"
    until(lambda: not (plain.state / "kept" / uuid).exists(), 20)


def test_a_restarted_node_still_holds_what_its_sessions_use(start_node: Starter) -> None:
    node = start_node("--log-level=warning", sandbox="none")
    first = node.completed(keeping("echo 1 > a", "PT3S"))
    wait = f"while [ ! -e go ]; do sleep 0.02; done; cat {ROOT}/in/a"
    second = node.begin(Request(shell(wait)).data(f"{ROOT}/in", output(first)["location"]))
    node.until(second, lambda now: now["phase"] == "RUNNING")
    node.kill(signal.SIGKILL)
    node.start()
    uuid = first["meta"]["uuid"]
    until(lambda: node.http.get(f"{node.url}/data/{uuid}/out").status_code == 404, 20)
    (node.state / "sessions" / second["meta"]["uuid"] / "fs/out/go").touch()
    assert node.stream(node.end(second)) == "1\n"


def test_kept_bytes_are_taken_from_the_storage_that_is_handed_out(start_node: Starter) -> None:
    node = start_node(sandbox="none", storage_gib=1)
    first = node.completed(keeping("head -c 1000000 /dev/zero > a"))
    request = Request(shell("true"))
    size = {"minBytes": (1 << 30) - 1000}
    request.body["storage"] = [{"kind": eb.SIMPLE_STORAGE, "meta": {"name": "s"}, "size": size}]
    refused = node.refused(request)
    assert any("not taken by kept outputs" in message["message"] for message in refused)
    node.http.delete(f"{node.url}/data/{first['meta']['uuid']}/out")
    node.completed(request)


# ---- at another ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(start_node: Starter) -> tuple[NodeProcess, NodeProcess]:
    """Two nodes that want credentials of everybody, and do not know each other's."""
    found = []
    for name in ("n1", "n2"):
        node = start_node(name=name, sandbox="none", authentication={"same_user": False})
        node.http.headers["Authorization"] = f"Bearer {(node.state / 'token').read_text().strip()}"
        found.append(node)
    return found[0], found[1]


def test_another_node_fetches_a_whole_output_by_a_signed_url(
    others: tuple[NodeProcess, NodeProcess],
) -> None:
    here, there = others
    script = (
        "mkdir -p d/e; printf content > d/a; chmod 755 d/a; ln -s d/a link; ln -s /etc/passwd away; mkfifo p"
    )
    more = "; : > 'sp ace#%'; i=0; while [ $i -lt 200 ]; do echo $i > d/e/$i; i=$((i+1)); done"
    first = here.completed(keeping(script + more))
    url = signed(here, first)["url"]
    look = f"cd {ROOT}/in/x; ls; cat link; cat d/e/* | sort -n | tail -1; test -x d/a && echo x"
    request = Request(shell(look))
    second = there.completed(request.data(f"{ROOT}/in/x", url))
    names = ["away", "d", "link", "p", "sp ace#%"]  # away and p lead nowhere: they are not kept
    assert there.stream(second).splitlines() == [*names, "content199", "x"]
    assert moved(there)["fetched"] == moved(here)["served"] == output(first)["kept"]["bytes"]
    assert moved(there)["linked"] == 0


def test_another_node_fetches_a_file_and_a_folder(others: tuple[NodeProcess, NodeProcess]) -> None:
    here, there = others
    first = here.completed(keeping("mkdir d; printf content > d/a; printf x > b; chmod 755 b"))
    request = Request(shell(f"ls {ROOT}/in/d; cat {ROOT}/in/b; test -x {ROOT}/in/b && echo x"))
    request.data(f"{ROOT}/in/d", signed(here, first, path="d/")["url"])
    request.data(f"{ROOT}/in/b", signed(here, first, path="b")["url"])
    assert there.stream(there.completed(request)) == "a\nxx\n"


def test_a_url_that_is_not_good_fails_the_session_and_says_why(
    others: tuple[NodeProcess, NodeProcess],
) -> None:
    here, there = others
    first = here.completed(keeping("echo x > b"))
    url = signed(here, first, path="b")["url"]
    broken = url.replace("signature=", "signature=0")
    session = there.run(Request(shell("true")).data(f"{ROOT}/in/b", broken))
    assert session["phase"] == "FAILED"
    assert "the signature is not that of this URL" in texts(session)
    assert url.rpartition("signature=")[2] not in json.dumps(session["meta"])


class Bad:
    """Another node, so to speak, that does what a test says."""

    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/data/{UUID}/out/"


@pytest.fixture
def bad() -> Iterator[Callable[..., Bad]]:
    started: list[Bad] = []

    def start(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Bad:
        started.append(Bad(answer))
        return started[-1]

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()


def _send(handler: http.server.BaseHTTPRequestHandler, content: bytes, **headers: str) -> None:
    handler.send_response(int(headers.pop("status", "200")))
    headers.setdefault("Content_Length", str(len(content)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def _manifest(*entries: ManifestEntry) -> bytes:
    return b"".join(write_manifest(entries))


def _file(path: str, content: bytes) -> ManifestEntry:
    checksum = f"sha1${hashlib.sha1(content).hexdigest()}"
    return ManifestEntry(path, EntryKind.FILE, size=len(content), mode=0o644, checksum=checksum)


def _failed(node: NodeProcess, url: str) -> str:
    session = node.run(Request(shell(f"find {ROOT}/in")).data(f"{ROOT}/in/x", url))
    assert session["phase"] == "FAILED"
    fs = node.state / "sessions" / session["meta"]["uuid"] / "fs"
    left = [*fs.rglob("x"), *fs.rglob("*.part")]
    assert not left, "something half-written was left"
    return texts(session)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b'{"path":"../../x","kind":"directory"}\n', "a part that is no name"),
        (b'{"path":"/etc/x","kind":"directory"}\n', "no relative path"),
        (_manifest(_file("a", b""))[:-1], "cut off"),
        (_manifest(_file("a", b""), _file("a", b"")), "twice"),
        (b"x" * 100_000, "more than 65536 bytes"),
        (_manifest(ManifestEntry("l", EntryKind.LINK, target="/e"), _file("l/a", b"")), "not listed"),
        (b"<html>", "line 1 of the manifest"),
    ],
)
def test_a_manifest_that_cannot_be_trusted_fails_the_session(
    plain: NodeProcess, bad: Callable[..., Bad], lines: bytes, reason: str
) -> None:
    other = bad(lambda handler: _send(handler, lines, Content_Type="application/x-ndjson"))
    assert reason in _failed(plain, other.url)


def test_a_page_in_place_of_a_manifest_fails_the_session(plain: NodeProcess, bad: Callable[..., Bad]) -> None:
    other = bad(lambda handler: _send(handler, b"<p>log in", Content_Type="text/html"))
    assert "what came is no manifest" in _failed(plain, other.url)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"CONTENT", "has the checksum sha1$"),
        (b"conten", "has 6 bytes and not the 7 of its manifest"),
        (b"contents", "more than the 7 bytes come"),
    ],
)
def test_a_wrong_checksum_fails_the_session_with_both_values(
    plain: NodeProcess, bad: Callable[..., Bad], content: bytes, reason: str
) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.path.endswith("/out/"):
            _send(handler, _manifest(_file("a", b"content")), Content_Type="application/x-ndjson")
        else:
            _send(handler, content)

    text = _failed(plain, bad(answer).url)
    assert reason in text
    assert "bytes" in reason or hashlib.sha1(b"content").hexdigest() in text


def test_a_file_that_never_ends_fails_the_session(plain: NodeProcess, bad: Callable[..., Bad]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.path.endswith("/out/"):
            _send(handler, _manifest(_file("a", b"content")), Content_Type="application/x-ndjson")
            return
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(bytes(1 << 16))
        handler.close_connection = True

    assert "more than the 7 bytes come" in _failed(plain, bad(answer).url)


def test_a_file_alone_is_compared_with_the_version_that_its_node_gives(
    plain: NodeProcess, bad: Callable[..., Bad]
) -> None:
    etag = f'"sha1${hashlib.sha1(b"content").hexdigest()}"'
    other = bad(lambda handler: _send(handler, b"CONTENT", ETag=etag))
    assert hashlib.sha1(b"content").hexdigest() in _failed(plain, other.url + "a")


def test_a_transfer_that_breaks_off_goes_on_where_it_ended(
    plain: NodeProcess, bad: Callable[..., Bad]
) -> None:
    content = os.urandom(300_000)
    etag = f'"sha1${hashlib.sha1(content).hexdigest()}"'
    asked: list[str | None] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Range"])
        if len(asked) == 1:  # half of it, and the line is cut
            _send(handler, content[:150_000], ETag=etag, Content_Length="300000")
            handler.close_connection = True
            return
        start = int(str(asked[-1]).removeprefix("bytes=").removesuffix("-"))
        more = {"Content_Range": f"bytes {start}-299999/300000", "status": "206"}
        _send(handler, content[start:], ETag=etag, **more)

    request = Request(shell(f"sha1sum < {ROOT}/in/x")).data(f"{ROOT}/in/x", bad(answer).url + "a")
    assert plain.stream(plain.completed(request)).split()[0] == hashlib.sha1(content).hexdigest()
    assert asked[0] is None
    assert 0 < int(str(asked[1]).removeprefix("bytes=").removesuffix("-")) <= 150_000


def test_a_transfer_that_is_always_cut_fails_the_session(plain: NodeProcess, bad: Callable[..., Bad]) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        _send(handler, b"x", Content_Length="10")
        handler.close_connection = True

    assert "cannot stage" in _failed(plain, bad(answer).url + "a")
