"""Inputs and outputs in a real object store (versitygw)."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.nginx import start_nginx
from tests.node.conftest import ROOT, NodeProcess, Request, Starter, session_kinds, shell, texts
from tests.stores import ObjectStore, object_store
from tests.waiting import until

__all__ = ["object_store"]

F = f"{ROOT}/in/f"


@pytest.fixture(scope="module")
def store(start_node: Starter, object_store: ObjectStore) -> NodeProcess:
    """A node that reads one bucket and a folder of another, and writes to a third."""
    return start_node(
        s3=[object_store.settings(["sky", "private/open"], ["results/runs"])],
        fetch={"private_hosts": [], "timeout": 2},
        cache_gib=1,
    )


def failed(node: NodeProcess, request: Request) -> str:
    session = node.run(request)
    assert session["phase"] == "FAILED", session["phase"]
    return texts(session)


def test_an_object_is_an_input(store: NodeProcess, object_store: ObjectStore) -> None:
    body = os.urandom(3_000_000)
    object_store.put("sky/dr1/image.fits", body)
    checksum = {"type": "md5", "value": hashlib.md5(body).hexdigest()}
    request = Request(shell(f"md5sum < {F}"))
    request.data(F, "s3://sky/dr1/image.fits", size=len(body), checksum=checksum)
    for _ in range(2):
        assert store.stream(store.completed(request)).split()[0] == checksum["value"]


@pytest.mark.parametrize(
    "name", ["a b", "a#b", "a?b=c", "a%20b", "a:b", "a+b", "ä€", "a~b", "[a]", "a\\b", "'"]
)
def test_objects_with_odd_names(store: NodeProcess, object_store: ObjectStore, name: str) -> None:
    object_store.put(f"sky/odd/{name}", name.encode())
    request = Request(shell(f"cat {F}")).data(F, f"s3://sky/odd/{quote(name)}")
    assert store.stream(store.completed(request)) == name


def test_everything_below_a_prefix_is_a_folder(store: NodeProcess, object_store: ObjectStore) -> None:
    for index in range(1100):
        (object_store.folder / f"sky/many/d{index % 7}").mkdir(parents=True, exist_ok=True)
        (object_store.folder / f"sky/many/d{index % 7}/{index}").write_text(f"{index}\n")
    object_store.put("sky/many-others", b"not in it")
    request = Request(shell(f"cat {ROOT}/in/many/*/* | sort -n | md5sum; ls {ROOT}/in/many"))
    request.data(f"{ROOT}/in/many", "s3://sky/many/", directory=True)
    expected = hashlib.md5("".join(f"{index}\n" for index in range(1100)).encode()).hexdigest()
    for _ in range(2):
        words = store.stream(store.completed(request)).split()
        assert words == [expected, "-", *(f"d{index}" for index in range(7))]


def test_a_folder_that_has_changed_is_fetched_anew(store: NodeProcess, object_store: ObjectStore) -> None:
    request = Request(shell(f"cat {ROOT}/in/d/*")).data(f"{ROOT}/in/d", "s3://sky/changing", directory=True)
    object_store.put("sky/changing/a", b"1\n")
    assert store.stream(store.completed(request)) == "1\n"
    object_store.put("sky/changing/b", b"2\n")
    assert store.stream(store.completed(request)) == "1\n2\n"
    object_store.put("sky/changing/b", b"3\n")
    assert store.stream(store.completed(request)) == "1\n3\n"


def test_outputs_are_objects(store: NodeProcess, object_store: ObjectStore) -> None:
    script = "mkdir -p d/e; echo x > 'd/e/a b'; echo y > y; ln -s y link; ln -s /etc/hostname away"
    script += "; head -c 20971520 /dev/zero > big"
    store.completed(Request(shell(script)).output("s3://results/runs/one"))
    assert object_store.get("results/runs/one/d/e/a b") == b"x\n"
    assert object_store.get("results/runs/one/y") == b"y\n"
    assert object_store.get("results/runs/one/link") == b"y\n"
    assert object_store.get("results/runs/one/big") == bytes(20 * 2**20)
    found = sorted(path.name for path in (object_store.folder / "results/runs/one").iterdir())
    assert found == ["big", "d", "link", "y"]


def test_an_output_can_be_one_object(store: NodeProcess, object_store: ObjectStore) -> None:
    request = Request(shell("echo x > result"))
    request.data(
        f"{ROOT}/out/result", "s3://results/runs/single", "READWRITE", access="WRITE", directory=False
    )
    store.completed(request)
    assert object_store.get("results/runs/single") == b"x\n"


@pytest.mark.parametrize(
    ("location", "write", "says"),
    [
        ("s3://private/a", False, "this node reads only s3://private/open/, s3://sky/ (s3://private/a)"),
        ("s3://private/opened/a", False, "this node reads only"),
        ("s3://private/open/../a", False, "has '.', '..'"),
        ("s3://private/open/%2e%2e/a", False, "has '.', '..'"),
        ("s3://other/a", False, "this node reads only"),
        ("s3://results/runs/a", False, "this node reads only"),
        ("s3://sky/a", True, "this node writes to only s3://results/runs/ (s3://sky/a)"),
        ("s3://results/else", True, "this node writes to only"),
        ("s3://sky/", False, "it names a bucket, and no object in it"),
        ("s3://sky/a//b", False, "nothing between slashes"),
        ("s3:///a", False, "no URL of the form s3://BUCKET/KEY"),
        ("s3://sky@evil/a", False, "no URL of the form"),
        ("s3://sky/%ff", False, "no UTF-8"),
        ("s3://sky/a%0ab", False, "control characters"),
    ],
)
def test_what_the_node_does_not_read_or_write_is_a_no(
    store: NodeProcess, location: str, write: bool, says: str
) -> None:
    request = Request(shell("true"))
    if write:
        request.output(location)
    else:
        request.data(F, location)
    messages = store.refused(request)
    assert says in messages[0]["message"]


def test_a_node_without_stores_says_so(node: NodeProcess) -> None:
    messages = node.refused(Request(shell("true")).data(F, "s3://sky/a"))
    assert "this node takes only file:///, http://, https://, data:" in messages[0]["message"]


def test_what_is_not_there(store: NodeProcess, object_store: ObjectStore) -> None:
    assert "the store has no such object" in failed(store, Request(shell("true")).data(F, "s3://sky/nothing"))
    reason = failed(store, Request(shell("true")).data(F, "s3://sky/nothing", directory=True))
    assert "there is no object below s3://sky/nothing/" in reason


def test_a_wrong_checksum_fails_with_both(store: NodeProcess, object_store: ObjectStore) -> None:
    object_store.put("sky/sum", b"content")
    right, wrong = hashlib.sha1(b"content").hexdigest(), "0" * 40
    request = Request(shell("true")).data(F, "s3://sky/sum", checksum={"type": "sha1", "value": wrong})
    reason = failed(store, request)
    assert wrong in reason
    assert right in reason


def test_wrong_keys(start_node: Starter, object_store: ObjectStore, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("[x]\naws_access_key_id = wb-test\naws_secret_access_key = wrong\n")
    settings = {**object_store.settings(["sky"], ["sky"]), "credentials": {"file": str(keys), "profile": "x"}}
    node = start_node(s3=[settings])
    object_store.put("sky/a", b"a")
    reason = failed(node, Request(shell("true")).data(F, "s3://sky/a"))
    assert "the store refuses access (SignatureDoesNotMatch)" in reason
    assert "wrong" not in reason
    session = node.run(Request(shell("echo x > x")).output("s3://sky/out"))
    assert "urn:wes-bridge:releasing-failed" in session_kinds(session)
    assert "the store refuses access" in texts(session)
    anonymous = start_node(s3=[{"endpoint": object_store.url, "read": ["sky"]}])
    reason = failed(anonymous, Request(shell("true")).data(F, "s3://sky/a"))
    assert "the store refuses access" in reason


def test_keys_of_the_environment_that_nobody_named_are_not_used(
    start_node: Starter, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.put("sky/a", b"a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "no")
    node = start_node(s3=[object_store.settings(["sky"])])
    request = Request(shell(f"cat {F}; env | grep -c AWS")).data(F, "s3://sky/a")
    assert node.stream(node.run(request)) == "a0\n"


def test_a_store_that_forgets_an_upload(
    start_node: Starter, object_store: ObjectStore, tmp_path: Path
) -> None:
    """Its parts are removed while others are sent, as a rule of a bucket may have it."""
    node = start_node(s3=[object_store.settings([], ["results/runs"])], fetch={"timeout": 2})
    over = threading.Event()

    def forget() -> None:
        while not over.is_set():
            for place in (object_store.folder / "results/.sgwtmp").glob("multipart/*"):
                shutil.rmtree(place, ignore_errors=True)

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        script = "head -c 60000000 /dev/zero > big; echo x > small"
        session = node.run(Request(shell(script)).output("s3://results/runs/forgotten"))
    finally:
        over.set()
        forgetting.join()
    assert "urn:wes-bridge:releasing-failed" in session_kinds(session)
    assert "the store" in texts(session)
    assert not (object_store.folder / "results/runs/forgotten/big").exists()


def test_a_disk_that_gets_full_while_an_object_comes(object_store: ObjectStore, tmp_path: Path) -> None:
    """The node's folder is on a small disk of its own, in a mount namespace; of a folder nothing is left."""
    unshare = shutil.which("unshare")
    script = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", script], check=False).returncode:
        pytest.skip("no mount namespaces here")
    object_store.put("sky/full/large", bytes(8 * 2**20))
    for index in range(20):
        object_store.put(f"sky/full/many/{index}", bytes(2**19))
    body = f"""
import json, pathlib, threading
from wes_bridge.config import NodeConfig
from wes_bridge.node.staging import default_schemes
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.schemes import Wanted
config = NodeConfig.model_validate({{"s3": [{object_store.settings(["sky"])!r}]}})
top = pathlib.Path({str(tmp_path)!r})
for url, directory in (("s3://sky/full/large", False), ("s3://sky/full/many", True)):
    scheme, wanted = default_schemes(config).get(url), Wanted(url, directory=directory)
    try:
        Incoming(top / "incoming").bring(scheme, wanted, threading.Event(), lambda *_: print("placed"))
    except OSError as error:
        print(error.strerror, [str(path) for path in (top / "incoming").iterdir()])
"""
    found = subprocess.run(
        [unshare, "-Urm", "sh", "-c", f'{script} && exec "$@"', "sh", sys.executable, "-c", body],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert found.stdout.splitlines() == ["No space left on device []"] * 2, found.stderr


class Faulty:
    """An object store that says what it is told, once for each connection."""

    def __init__(self, answer: bytes, hold: bool = False) -> None:
        self.answer = answer
        self.hold = hold
        self.asked = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.asked += 1
            connection.recv(65536)
            connection.sendall(self.answer)
            if self.hold:
                self.open.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        self.server.close()
        for connection in self.open:
            connection.close()


HEAD = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "1"\r\n'
    b"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n"
)
FAULTS = {
    "busy": (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n", False, "HTTP 503"),
    "truncated": (HEAD + b"x" * 1000, False, "the store"),
    "stalled": (
        HEAD + b"x" * 1000,
        True,
        "the store cannot be asked",
    ),  # for the rest, which it then gives not
    "silent": (b"", True, "the store is too slow or silent"),
    "no store": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", False, "no such object"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_store_that_misbehaves_is_a_reason(start_node: Starter, fault: str) -> None:
    answer, hold, says = FAULTS[fault]
    faulty = Faulty(answer, hold)
    node = start_node(s3=[{"endpoint": faulty.url, "read": ["sky"]}], fetch={"timeout": 1, "deadline": 20})
    try:
        reason = failed(node, Request(shell("true")).data(F, "s3://sky/a"))
    finally:
        faulty.close()
    assert says in reason
    assert "Debug source" not in reason
    assert [path for path in (node.state / "incoming").rglob("*") if path.is_file()] == []


def test_a_session_that_is_cancelled_waits_for_no_store(start_node: Starter) -> None:
    faulty = Faulty(HEAD + b"x" * 300_000, hold=True)
    node = start_node(s3=[{"endpoint": faulty.url, "read": ["sky"]}], fetch={"timeout": 3})
    session = node.begin(Request(shell("true")).data(F, "s3://sky/a"))
    until(lambda: faulty.asked)
    node.update(session, "CANCELLED")
    assert node.end(session, 60)["phase"] == "CANCELLED"
    faulty.close()


def test_a_store_that_drips_is_given_up(
    start_node: Starter, object_store: ObjectStore, tmp_path: Path
) -> None:
    """Something comes all the time, and it would take hours."""
    object_store.put("sky/dripping", bytes(2_000_000))
    directives = "proxy_set_header Host $http_host; limit_rate 500;"
    proxy = start_nginx(tmp_path / "nginx", f"proxy_pass {object_store.url}; {directives}")
    settings = object_store.settings(["sky"]) | {"endpoint": proxy.url}
    node = start_node(s3=[settings], fetch={"timeout": 2, "least_rate": 20_000})
    try:
        reason = failed(node, Request(shell("true")).data(F, "s3://sky/dripping"))
    finally:
        proxy.stop()
    assert "bytes came or went in 2 s" in reason
    assert [path for path in (node.state / "incoming").rglob("*") if path.is_file()] == []
