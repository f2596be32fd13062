"""Downloads: logs that grow, files, folders, archives, and everything one might try to read besides."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from wes_server import BASE, free_port, is_error

from wes_bridge.data.downloads import NotThereError, RangeError, entries, locate, open_file, parse_range
from wes_bridge.data.public_outputs import public_outputs
from wes_bridge.data.workspace import RunFolder, file_url
from wes_bridge.wes.links import Links


@pytest.fixture
def run(server):
    return server.submit()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- logs


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_log_that_is_not_there_yet_is_empty(server, engine, run, name):
    engine.task(run, 1)
    for path in (f"/runs/{run}/logs/{name}", f"/runs/{run}/tasks/t1/{name}"):
        answer = server.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/plain")
        asked = server.get(path, headers={"Range": "bytes=0-"})
        is_error(asked, 416)
        assert asked.headers["content-range"] == "bytes */0"


def test_following_a_log_that_grows(server, run):
    path = write(server.folder(run).stdout, b"one\n")
    url = f"/runs/{run}/logs/stdout"
    seen = server.get(url).content
    is_error(server.get(url, headers={"Range": f"bytes={len(seen)}-"}), 416)
    with path.open("ab") as log:
        for line in (b"two\n", b"three\n"):
            log.write(line)
            log.flush()
            answer = server.get(url, headers={"Range": f"bytes={len(seen)}-"})
            assert (answer.status_code, answer.content) == (206, line)
            end = len(seen) + len(line)
            assert answer.headers["content-range"] == f"bytes {len(seen)}-{end - 1}/{end}"
            seen += answer.content
    assert seen == b"one\ntwo\nthree\n"


def test_a_tasks_streams(server, engine, run):
    folder = server.folder(run)
    write(folder.task_stream("t1", "stdout"), b"out")
    elsewhere = write(folder.tasks / "t1" / "other.err", b"err")
    engine.task(run, 1, stderr=file_url(elsewhere))
    assert server.get(f"/runs/{run}/tasks/t1/stdout").text == "out"
    assert server.get(f"/runs/{run}/tasks/t1/stderr").text == "err"


def test_a_tasks_stream_is_not_read_outside_its_run(server, engine, run, tmp_path):
    secret = write(tmp_path / "secret", b"secret")
    engine.task(run, 1, stdout=file_url(secret), stderr="ftp://e.org/x")
    assert server.get(f"/runs/{run}/tasks/t1/stdout").text == ""
    assert server.get(f"/runs/{run}/tasks/t1/stderr").text == ""


@pytest.fixture
def node() -> Iterator[str]:
    """A node that serves ``/log`` (with ranges) and fails at ``/broken``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text, asked = b"0123456789", self.headers.get("Range")
            if self.path == "/broken":
                self.send_error(503)
            elif self.path != "/log":
                self.send_error(404)
            elif asked and int(asked[6:-1]) >= len(text):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(text)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                start = int(asked[6:-1]) if asked else 0
                self.send_response(206 if asked else 200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text) - start))
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-9/10")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(text[start:])

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_stream_that_is_still_on_its_node(server, engine, run, node):
    engine.task(run, 1, stdout=f"{node}/log", stderr=f"{node}/nothing-yet")
    url = f"/runs/{run}/tasks/t1/stdout"
    assert server.get(url).text == "0123456789"
    part = server.get(url, headers={"Range": "bytes=7-"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "789", "bytes 7-9/10")
    late = server.get(url, headers={"Range": "bytes=10-"})
    is_error(late, 416)
    assert late.headers["content-range"] == "bytes */10"
    head = server.session.head(server.url + url, timeout=60)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")
    missing = server.get(f"/runs/{run}/tasks/t1/stderr")
    assert (missing.status_code, missing.content) == (200, b"")


def test_a_node_that_does_not_answer(server, engine, run, node):
    engine.task(run, 1, stdout=f"http://127.0.0.1:{free_port()}/log", stderr=f"{node}/broken")
    is_error(server.get(f"/runs/{run}/tasks/t1/stdout"), 502, "node")
    is_error(server.get(f"/runs/{run}/tasks/t1/stderr"), 502, "503")


# ---- files


CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def file_url_path(server, run):
    write(server.folder(run).outputs / "a dir" / "m%p ü.bin", CONTENT)
    return f"/runs/{run}/files/outputs/a%20dir/m%25p%20%C3%BC.bin"


def test_a_whole_file(server, file_url_path):
    answer = server.get(file_url_path)
    assert (answer.status_code, answer.content == CONTENT) == (200, True)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["last-modified"].endswith("GMT")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, len(CONTENT)),
        ("bytes=10-19", 10, 20),
        ("bytes = 10 - 19", 10, 20),
        ("bytes=-5", len(CONTENT) - 5, len(CONTENT)),
        (f"bytes=-{10**15}", 0, len(CONTENT)),
        (f"bytes=5-{10**30}", 5, len(CONTENT)),
        (f"bytes={len(CONTENT) - 1}-", len(CONTENT) - 1, len(CONTENT)),
    ],
)
def test_ranges(server, file_url_path, asked, start, end):
    answer = server.get(file_url_path, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize(
    "asked", ["bytes=5-1", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "x", ""]
)
def test_ranges_that_are_none_mean_the_whole(server, file_url_path, asked):
    answer = server.get(file_url_path, headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", f"bytes={10**30}-", "bytes=-0"])
def test_ranges_behind_the_end(server, file_url_path, asked):
    answer = server.get(file_url_path, headers={"Range": asked})
    is_error(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_head_of_a_file(server, file_url_path):
    answer = server.session.head(server.url + file_url_path, timeout=60)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(CONTENT))
    part = server.session.head(server.url + file_url_path, headers={"Range": "bytes=0-9"}, timeout=60)
    assert (part.status_code, part.headers["content-length"]) == (206, "10")
    assert server.session.head(server.url + file_url_path + "x", timeout=60).status_code == 404


def test_what_a_client_has_is_not_sent_again(server, file_url_path):
    first = server.get(file_url_path)
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f'"x", W/{first.headers["etag"]}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = server.get(file_url_path, headers=headers)
        assert (again.status_code, again.content) == (304, b""), headers
    for headers in ({"If-None-Match": '"other"'}, {"If-Modified-Since": "never"}):
        assert server.get(file_url_path, headers=headers).status_code == 200


def test_a_range_of_a_file_that_changed_is_the_whole_file(server, file_url_path):
    tag = server.get(file_url_path).headers["etag"]
    part = {"Range": "bytes=0-9"}
    assert server.get(file_url_path, headers={**part, "If-Range": tag}).status_code == 206
    assert server.get(file_url_path, headers={**part, "If-Range": '"old"'}).status_code == 200
    assert server.get(file_url_path, headers={**part, "If-Range": "nonsense"}).status_code == 200


def test_an_empty_file(server, run):
    write(server.folder(run).outputs / "empty", b"")
    answer = server.get(f"/runs/{run}/files/outputs/empty")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


def test_attachments_and_logs_can_be_read_too(server):
    run_id = server.submit({"t/w.cwl": b"x"}, workflow_url="t/w.cwl")
    write(server.folder(run_id).stderr, b"log")
    assert server.get(f"/runs/{run_id}/files/attachments/t/w.cwl").content == b"x"
    assert server.get(f"/runs/{run_id}/files/logs/stderr").content == b"log"


# ---- what must not be read


@pytest.fixture
def trap(server, run, tmp_path):
    """A run folder full of ways out."""
    folder = server.folder(run)
    outputs = folder.outputs
    write(outputs / "in.txt", b"in")
    write(tmp_path / "secret.txt", b"SECRET")
    write(folder.root / "journal", b"SECRET")
    (outputs / "link-in").symlink_to(outputs / "in.txt")
    (outputs / "link-out").symlink_to(tmp_path / "secret.txt")
    (outputs / "folder-out").symlink_to(tmp_path)
    (outputs / "loop").symlink_to(outputs / "loop")
    (outputs / "self").symlink_to(outputs)
    (outputs / "broken").symlink_to(outputs / "gone")
    os.mkfifo(outputs / "fifo")
    made = socket.socket(socket.AF_UNIX)
    os.chdir(outputs)  # a socket's path must be short
    made.bind("socket")
    os.chdir("/")
    made.close()
    return run


def test_a_link_inside_the_run_is_followed(server, trap):
    assert server.get(f"/runs/{trap}/files/outputs/link-in").content == b"in"
    assert server.get(f"/runs/{trap}/files/outputs/self/in.txt").content == b"in"


@pytest.mark.parametrize(
    "path",
    [
        "outputs/link-out",
        "outputs/folder-out/secret.txt",
        "outputs/folder-out",
        "outputs/loop",
        "outputs/broken",
        "outputs/fifo",
        "outputs/socket",
        "outputs/gone",
        "outputs/in.txt/x",
        "outputs/%00",
        "outputs/%2e%2e/journal",
        "outputs/..%2fjournal",
        "outputs/..%5cjournal",
        "outputs//in.txt",
        "journal",
        "nothing/in.txt",
        "%2fetc/passwd",
        "/etc/passwd",
        "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "outputs/" + "x" * 300,
        "outputs/" + "x/" * 3000,
        "outputs/%ff%fe",
        "outputs/%ed%a0%80",
    ],
)
def test_ways_out_lead_nowhere(server, trap, path):
    url = f"{server.root}{BASE}/runs/{trap}/files/{path}"
    prepared = requests.Request("GET", url).prepare()
    prepared.url = url  # as it is: no tidying up by the client
    answer = server.session.send(prepared, timeout=60)
    assert "SECRET" not in answer.text
    is_error(answer, 404)


def test_listings_and_archives_show_no_way_out(server, trap):
    names = [entry["name"] for entry in server.get(f"/runs/{trap}/files/outputs").json()["entries"]]
    assert names == ["in.txt", "link-in", "self"]
    packed = server.get(f"/runs/{trap}/files/outputs?archive=tar").content
    assert b"SECRET" not in packed
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = archive.getnames()
    assert members == ["outputs", "outputs/in.txt", "outputs/link-in"]


def test_a_file_replaced_by_a_link_is_not_opened(tmp_path):
    folder = RunFolder(tmp_path / "run")
    path = write(folder.outputs / "d" / "f", b"x")
    secret = write(tmp_path / "secret" / "f", b"SECRET")
    found = locate(folder, "outputs/d/f")
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(NotThereError):
        open_file(folder, found)
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(secret.parent)
    with pytest.raises(NotThereError):
        open_file(folder, found)


# ---- folders


def test_a_folder_is_listed(server, run):
    outputs = server.folder(run).outputs
    write(outputs / "b.txt", b"123")
    write(outputs / "a b" / "c.txt", b"")
    base = f"{server.url}/runs/{run}/files"
    assert server.get(f"/runs/{run}/files/outputs").json() == {
        "path": "outputs",
        "entries": [
            {"name": "a b", "type": "folder", "url": f"{base}/outputs/a%20b"},
            {"name": "b.txt", "type": "file", "size": 3, "url": f"{base}/outputs/b.txt"},
        ],
    }
    assert server.get(f"/runs/{run}/files/outputs/").status_code == 200
    assert [one["name"] for one in server.get(f"/runs/{run}/files/").json()["entries"]] == ["outputs"]


@pytest.fixture
def tree(server, run):
    outputs = server.folder(run).outputs
    files = {
        "x.txt": b"x" * 1000,
        "sub/empty": b"",
        "sub/big.bin": os.urandom(3_000_000),
        "ü/ß " + "n" * 150: b"1",
    }
    for name, content in files.items():
        write(outputs / "res" / name, content)
    (outputs / "res" / "void").mkdir()
    return run, files


def test_a_folder_as_tar(server, tree):
    run_id, files = tree
    answer = server.get(f"/runs/{run_id}/files/outputs/res?archive=tar")
    assert answer.headers["content-type"] == "application/x-tar"
    assert "res.tar" in answer.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {one.name: one for one in archive.getmembers()}
        assert {name for name, one in found.items() if one.isfile()} == {f"res/{name}" for name in files}
        assert found["res/void"].isdir()
        for name, content in files.items():
            assert archive.extractfile(f"res/{name}").read() == content


def test_a_folder_as_zip(server, tree):
    run_id, files = tree
    answer = server.get(f"/runs/{run_id}/files/outputs/res?archive=zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        for name, content in files.items():
            assert archive.read(f"res/{name}") == content
        assert "res/void/" in archive.namelist()


def test_archives_of_what_is_no_folder(server, tree):
    run_id, _ = tree
    is_error(server.get(f"/runs/{run_id}/files/outputs/res/x.txt?archive=tar"), 400, "file")
    is_error(server.get(f"/runs/{run_id}/files/outputs/nope?archive=tar"), 404)
    is_error(server.get(f"/runs/{run_id}/files/outputs/res?archive=rar"), 400, "archive")


def test_the_server_answers_while_it_packs(server, run):
    """A large archive is made in a thread: others are served meanwhile."""
    block = os.urandom(1024**2) * 15
    for number in range(3):
        write(server.folder(run).outputs / f"f{number}", block)
    done = threading.Event()

    def download() -> None:
        with requests.get(
            f"{server.url}/runs/{run}/files/outputs?archive=zip", stream=True, timeout=60
        ) as answer:
            digest = hashlib.sha256()
            for chunk in answer.iter_content(1024**2):
                digest.update(chunk)
        done.set()

    threading.Thread(target=download).start()
    waits = []
    while not done.is_set():
        begun = time.perf_counter()
        assert server.get(f"/runs/{run}/status").status_code == 200
        waits.append(time.perf_counter() - begun)
    assert len(waits) > 5
    assert sorted(waits)[len(waits) // 2] < 0.3


def test_a_client_that_stops_reading_frees_the_file(server, run):
    path = write(server.folder(run).outputs / "large", b"\0" * 200_000_000)
    answer = requests.get(f"{server.url}/runs/{run}/files/outputs/large", stream=True, timeout=60)
    next(answer.iter_content(1000))
    assert open_files(path)
    answer.close()
    deadline = time.time() + 10
    while open_files(path) and time.time() < deadline:
        time.sleep(0.05)
    assert not open_files(path)


def open_files(path: Path) -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(link) == str(path):  # noqa: PTH115
                found.append(link.name)
        except OSError:
            pass
    return found


# ---- outputs


def test_outputs_lead_to_downloads(server, engine, run):
    one = engine.output(run, "a b/one#1.txt", b"1")
    two = engine.output(run, "two.idx", b"22")
    folder = {
        "class": "Directory",
        "location": file_url(server.folder(run).outputs / "a b"),
        "path": "/somewhere",
        "listing": [dict(one)],
    }
    literal = {"class": "File", "basename": "lit", "contents": "text"}
    remote = {"class": "File", "location": "s3://bucket/key", "path": "/x"}
    elsewhere = {"class": "File", "location": "file:///etc/passwd"}
    one["secondaryFiles"] = [two]
    outputs = {
        "file": one,
        "all": [folder, literal, remote, elsewhere, None, 3],
        "record": {"path": "kept: no File", "inner": {"f": dict(two)}},
    }
    engine.finish(run, outputs)
    got = server.get(f"/runs/{run}").json()["outputs"]
    base = f"{server.url}/runs/{run}/files/outputs"
    assert got["file"]["location"] == f"{base}/a%20b/one%231.txt"
    assert "path" not in got["file"]
    assert got["file"]["size"] == 1
    assert got["file"]["secondaryFiles"][0]["location"] == f"{base}/two.idx"
    assert got["all"][0]["location"] == f"{base}/a%20b"
    assert got["all"][0]["listing"][0]["location"] == f"{base}/a%20b/one%231.txt"
    assert got["all"][1] == literal
    assert got["all"][2] == {"class": "File", "location": "s3://bucket/key"}
    assert got["all"][3:] == [elsewhere, None, 3]
    assert got["record"]["path"] == "kept: no File"
    assert server.session.get(got["record"]["inner"]["f"]["location"], timeout=60).content == b"22"
    listing = server.session.get(got["all"][0]["location"], timeout=60).json()
    assert listing["entries"][0]["url"] == got["file"]["location"]


@pytest.mark.parametrize("outputs", [None, [], "x", 3])
def test_outputs_are_always_an_object(outputs):
    assert public_outputs(outputs, "r", Links("http://h/b")) == {}


@pytest.mark.parametrize(
    "location", ["file:///w/r2/x", "file:///w/r/../s/x", "file://h/w/r/x", "file:", "file:x"]
)
def test_locations_outside_the_run_stay(location):
    outputs = {"o": {"class": "File", "location": location}}
    assert public_outputs(outputs, "r", Links("http://h/b")) == outputs


# ---- properties


@given(st.text(alphabet="0123456789-=, bytes", max_size=30), st.integers(0, 100))
@example("bytes=0-", 0)
@example("bytes=99-", 100)
def test_a_range_is_inside_the_file(text, size):
    try:
        part = parse_range(text, size)
    except RangeError as error:
        assert error.size == size
    else:
        assert part is None or 0 <= part[0] < part[1] <= size


@given(st.text(max_size=80))
@example("outputs/../../x")
@example("outputs/\ud800")
def test_nothing_outside_is_found(tmp_path_factory, name):
    folder = RunFolder(tmp_path_factory.getbasetemp() / "prop" / "run")
    folder.outputs.mkdir(parents=True, exist_ok=True)
    try:
        path = locate(folder, name)
    except NotThereError:
        return
    assert path.is_relative_to(folder.root.resolve())
    assert list(entries(folder, path)) == []
