"""What a step sends to the service, as it goes wrong, or as somebody sends it who should not."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.waiting import until
from wes_bridge.auth.signed_urls import KeyRing, SignedUrls
from wes_bridge.data.handing_out import LONGEST, ROTATE, signed_urls
from wes_bridge.data.parcels import Given, Parcel, Parcels, ParcelUrls

MOST = 1_000_000


@dataclass(frozen=True)
class Sent:
    """A parcel of a service."""

    service: Service
    name: str
    parcel: Parcel
    before: str
    after: str

    def put(self, name: str, content: bytes, more: str = "", method: str = "PUT") -> requests.Response:
        return requests.request(method, f"{self.before}{name}{self.after}{more}", data=content, timeout=30)

    def names(self) -> set[str]:
        return {path.name for path in self.parcel.folder.iterdir()} - {"script", "inputs.json", "refused"}


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:
    return start_service()


def urls_of(service: Service) -> ParcelUrls:
    return ParcelUrls(signed_urls(service.state, None), lambda: service.url)


def made(service: Service, folder: Path, given: dict[int, Given] | None = None) -> Sent:
    name, parcels = str(uuid4()), Parcels(service.state)
    parcel = parcels.make(name, folder / name)
    parcel.make(b"echo hi\n", given or {})
    return Sent(service, name, parcel, *urls_of(service).to_send(name, MOST))


@pytest.fixture
def sent(service: Service, tmp_path: Path) -> Iterator[Sent]:
    one = made(service, tmp_path)
    yield one
    Parcels(service.state).remove(one.name)


def test_a_part_comes_whole_and_may_come_again(sent: Sent) -> None:
    right = hashlib.sha256(b"output").hexdigest()
    for method in ("PUT", "POST", "PUT"):
        answer = sent.put("out.tar", b"output", f"&sha256={right}", method)
        assert (answer.status_code, answer.text) == (200, "go\n")
    assert (sent.parcel.folder / "out.tar").read_bytes() == b"output"
    assert sent.names() == {"out.tar"}


def test_what_was_sent_wrong_is_not_there(sent: Sent) -> None:
    answer = sent.put("out.tar", b"outpux", f"&sha256={hashlib.sha256(b'output').hexdigest()}")
    assert answer.status_code == 400
    assert "has the sha256 checksum" in answer.text
    assert sent.put("out.tar", b"output", "&sha256=abc").status_code == 400
    assert sent.put("out.tar", b"x" * (MOST + 1)).status_code == 413
    assert sent.put("end", b"x" * 70_000).status_code == 413
    chunks = (b"x" * 100_000 for _ in range(20))  # no Content-Length
    assert requests.put(f"{sent.before}out.tar{sent.after}", data=chunks, timeout=30).status_code == 413
    assert sent.names() == set()
    assert "that may be sent" in str(sent.parcel.refused)


def test_one_that_breaks_off_leaves_nothing(sent: Sent) -> None:
    split = urlsplit(f"{sent.before}out.tar{sent.after}")
    with socket.create_connection((str(split.hostname), int(split.port or 0)), timeout=30) as line:
        head = f"PUT {split.path}?{split.query} HTTP/1.1\r\nHost: {split.netloc}\r\n"
        line.sendall(f"{head}Content-Length: 900000\r\n\r\n".encode() + b"x" * 800_000)
        until(lambda: any(name.endswith(".part") for name in sent.names()))
    until(lambda: sent.names() == set())
    assert sent.put("out.tar", b"whole").status_code == 200


def test_the_last_word_is_the_last(sent: Sent) -> None:
    assert sent.put("out.tar", b"output").status_code == 200
    for _ in range(2):  # its answer may get lost
        assert sent.put("end", b"exit 0\n").status_code == 200
    for name, content in (("end", b"exit 1\n"), ("out.tar", b"other"), ("stdout", b"late")):
        answer = sent.put(name, content)
        assert answer.status_code == 409, name
        assert "last word" in answer.text
    assert sent.parcel.word("end") == "exit 0\n"
    assert (sent.parcel.folder / "out.tar").read_bytes() == b"output"


def test_who_is_cancelled_is_told_to_stop(sent: Sent) -> None:
    assert sent.put("alive", b"").text == "go\n"
    sent.parcel.stop()
    assert sent.put("alive", b"").text == "stop\n"
    Parcels(sent.service.state).remove(sent.name)
    assert sent.put("alive", b"").text == "stop\n"
    answer = sent.put("out.tar", b"late")
    assert answer.status_code == 410
    assert "was cancelled" in answer.text
    assert not sent.parcel.folder.exists()


@pytest.mark.parametrize(
    "name", ["../x", "%2e%2e/x", "other", "script", "inputs.json", "stop", "out.tar/x", "", "deep/end"]
)
def test_only_parts_can_be_sent(sent: Sent, name: str) -> None:
    request = requests.Request("PUT", "http://x", data=b"x").prepare()
    request.url = f"{sent.before}{name}{sent.after}"
    with requests.Session() as session:
        assert session.send(request, timeout=30).status_code in (403, 404)
    assert sent.names() == set()
    assert (sent.parcel.folder / "script").read_bytes() == b"echo hi\n"


def test_a_signature_is_for_one_parcel_and_one_way(sent: Sent, tmp_path: Path) -> None:
    other = made(sent.service, tmp_path)
    for url in (
        f"{other.before}out.tar{sent.after}",  # of another parcel
        f"{sent.before}out.tar{sent.after[:-1]}{'0' if sent.after[-1] != '0' else '1'}",  # forged
        f"{sent.before}out.tar{sent.after.replace(f'most={MOST}', f'most={MOST}0')}",  # more than signed for
        f"{sent.before}out.tar{sent.after.replace(f'&most={MOST}', '')}",  # as if it were for reading
    ):
        answer = requests.put(url, data=b"x", timeout=30)
        assert answer.status_code == 403, url
    assert requests.get(f"{sent.before}out.tar{sent.after}", timeout=30).status_code == 403
    assert requests.delete(f"{sent.before}out.tar{sent.after}", timeout=30).status_code == 403
    script = urls_of(sent.service).to_fetch(sent.name, "script")
    assert requests.get(script, timeout=30).text == "echo hi\n"
    assert requests.put(script, data=b"x", timeout=30).status_code == 403
    assert requests.get(script.replace("/script", "/0"), timeout=30).status_code == 403
    assert requests.put(f"{sent.before}out.tar", data=b"x", timeout=30).status_code == 404
    assert other.names() == sent.names() == set()
    Parcels(sent.service.state).remove(other.name)


def test_a_signature_that_has_expired_says_so(sent: Sent) -> None:
    ring = KeyRing(sent.service.state / "url-keys.json", ROTATE, LONGEST, lambda: time.time() - LONGEST - 5)
    ring.load()
    old = SignedUrls(ring, None, lambda: time.time() - LONGEST - 5)
    before, after = ParcelUrls(old, lambda: sent.service.url).to_send(sent.name, MOST)
    answer = requests.put(f"{before}out.tar{after}", data=b"x", timeout=30)
    assert answer.status_code == 403
    assert "has expired" in answer.text
    assert sent.names() == set()


def test_only_what_was_given_can_be_fetched(sent: Sent, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("given\n")
    (tmp_path / "link").symlink_to("a")
    given = {
        0: Given(str(tmp_path / "a"), directory=False, together=False),
        1: Given(str(tmp_path / "link"), directory=False, together=False),
        2: Given(str(tmp_path / "gone"), directory=False, together=False),
        3: Given(str(tmp_path / "a"), directory=False, together=True),
    }
    sent.parcel.make(b"", given)
    urls = urls_of(sent.service)
    answers = {name: requests.get(urls.to_fetch(sent.name, name), timeout=30) for name in "012345"}
    assert answers.pop("0").text == "given\n"
    assert {answer.status_code for answer in answers.values()} == {404}  # a link is not followed, either
    archive = requests.get(urls.to_fetch(sent.name, "all"), timeout=30).content
    assert archive.startswith(b"3\0")
    assert b"given\n" in archive
    for name in ("inputs.json", "end", "-1", "\u0661"):
        assert requests.get(urls.to_fetch(sent.name, name), timeout=30).status_code == 404


def test_a_full_disk_is_a_reason_and_leaves_nothing(service: Service, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (root and mount are needed)")
    try:
        sent = made(service, small)
        answer = sent.put("out.tar", b"x" * 900_000)
        assert answer.status_code == 507
        assert "disk is full" in answer.text
        assert sent.names() == set()
        assert sent.put("out.tar", b"small").status_code == 200
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
        shutil.rmtree(small, ignore_errors=True)
