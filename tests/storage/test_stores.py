"""What every store for files does, the same for a folder, for an object store and for a WebDAV server."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.stores import Dav, ObjectStore, dav, object_store
from wes_bridge.model.stores import DirectoryWorkspaceConfig, S3WorkspaceConfig, WebdavWorkspaceConfig
from wes_bridge.storage.base import MissingError, Storage, StoreError
from wes_bridge.storage.opening import open_storage

__all__ = ["dav", "object_store"]


def s3(store: ObjectStore, prefix: str, **more: object) -> S3WorkspaceConfig:
    return S3WorkspaceConfig.model_validate(
        {
            "kind": "s3",
            "endpoint": store.url,
            "bucket": "results",
            "prefix": prefix,
            "credentials": {"file": str(store.keys)},
            **more,
        }
    )


@pytest.fixture(params=["directory", "s3", "webdav"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return open_storage(DirectoryWorkspaceConfig(kind="directory", path=tmp_path / "kept"))
    if request.param == "webdav":
        server: Dav = request.getfixturevalue("dav")
        return open_storage(WebdavWorkspaceConfig.model_validate(server.workspace()))
    store: ObjectStore = request.getfixturevalue("object_store")
    return open_storage(s3(store, f"stores/{tmp_path.name}"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def opened(source: Path, **content: bytes) -> Iterator[tuple[str, int]]:
    for name, body in content.items():
        path = source / name
        path.write_bytes(body)
        yield name.replace("__", "/"), os.open(path, os.O_RDONLY)


def opened_file(source: Path, body: bytes) -> int:
    [(_, file)] = opened(source, file=body)
    return file


def put(storage: Storage, source: Path, name: str, body: bytes) -> None:
    [(_, file)] = opened(source, file=body)
    stored = storage.put(name, file)
    os.close(file)
    assert (stored.size, stored.checksum) == (len(body), f"sha1${hashlib.sha1(body).hexdigest()}")


def test_what_was_put_is_read(storage: Storage, source: Path) -> None:
    body = os.urandom(9 * 2**20)  # more than one part
    put(storage, source, "run/outputs/large", body)
    put(storage, source, "run/outputs/empty", b"")
    assert storage.stat("run/outputs/large").size == len(body)
    assert b"".join(storage.read("run/outputs/large")) == body
    assert b"".join(storage.read("run/outputs/large", 5, 2_000_000)) == body[5:2_000_000]
    assert b"".join(storage.read("run/outputs/large", len(body) - 3)) == body[-3:]
    assert b"".join(storage.read("run/outputs/empty", 0, 0)) == b""


def test_the_version_changes_with_the_content(storage: Storage, source: Path) -> None:
    put(storage, source, "run/a", b"one")
    first = storage.stat("run/a")
    put(storage, source, "run/a", b"two")
    assert storage.stat("run/a").etag != first.etag
    assert abs(storage.stat("run/a").mtime_ns / 1e9 - time.time()) < 60


def test_what_is_not_there(storage: Storage) -> None:
    for ask in (storage.stat, lambda name: list(storage.read(name)), storage.entries):
        with pytest.raises(MissingError, match="there is no 'run/none'"):
            ask("run/none")
    assert list(storage.files("run/none")) == []
    assert not storage.is_published("run/none")
    storage.delete("run/none")


def test_a_folder_is_published_as_a_whole(storage: Storage, source: Path) -> None:
    found = storage.publish("run/outputs", opened(source, a=b"1", d__b=b"22", d__e__c=b"333"))
    assert sorted(one.name for one in found) == ["run/outputs/a", "run/outputs/d/b", "run/outputs/d/e/c"]
    assert storage.is_published("run/outputs")
    assert sorted(one.name for one in storage.files("run/outputs")) == sorted(one.name for one in found)
    folders, files = storage.entries("run/outputs")
    assert (folders, [one.name for one in files]) == (["d"], ["run/outputs/a"])
    storage.publish("run/outputs", opened(source, a=b"new"))
    assert [one.name for one in storage.files("run/outputs")] == ["run/outputs/a"]
    assert b"".join(storage.read("run/outputs/a")) == b"new"
    storage.delete("run")
    assert not storage.is_published("run/outputs")
    assert list(storage.files("run")) == []


def test_a_folder_that_breaks_off_is_not_published(storage: Storage, source: Path) -> None:
    def broken() -> Iterator[tuple[str, int]]:
        yield from opened(source, a=b"1")
        raise FileNotFoundError(2, "an output was taken away")

    with pytest.raises(FileNotFoundError):
        storage.publish("run/outputs", broken())
    assert not storage.is_published("run/outputs")
    storage.publish("run/outputs", opened(source, b=b"2"))
    assert storage.is_published("run/outputs")
    assert [one.name for one in storage.files("run/outputs")] == ["run/outputs/b"]


def test_an_empty_folder_is_published(storage: Storage) -> None:
    storage.publish("run/outputs", iter(()))
    assert storage.is_published("run/outputs")


def test_many_files_open_few_at_a_time(storage: Storage, source: Path) -> None:
    most = 0

    def many() -> Iterator[tuple[str, int]]:
        nonlocal most
        for index in range(300):
            most = max(most, len(list(Path("/proc/self/fd").iterdir())))
            yield from opened(source, **{f"f{index}": b"x"})

    before = len(list(Path("/proc/self/fd").iterdir()))
    assert len(storage.publish("run/outputs", many())) == 300
    assert most - before < 100


@pytest.mark.parametrize("name", ["a b", "a#b", "a%20b", "ä", "a:b", "a?b"])
def test_odd_names(storage: Storage, source: Path, name: str) -> None:
    storage.publish("run", iter([(name, opened_file(source, name.encode()))]))
    assert b"".join(storage.read(f"run/{name}")) == name.encode()
    assert [one.name for one in storage.files("run")] == [f"run/{name}"]


@pytest.mark.parametrize("name", ["run/../other", "/etc/passwd", "run//a"])
def test_names_that_lead_elsewhere(
    tmp_path: Path, source: Path, object_store: ObjectStore, name: str
) -> None:
    (tmp_path / "other").write_text("secret")
    folder = open_storage(DirectoryWorkspaceConfig(kind="directory", path=tmp_path / "kept"))
    objects = open_storage(s3(object_store, "elsewhere"))
    with pytest.raises((MissingError, OSError)):
        folder.stat(name)
    with pytest.raises(StoreError, match="is no name for an object"):
        objects.stat(name)
    with pytest.raises(StoreError, match="is no name for an object"):
        objects.signed_url(name, "GET", 60)


def test_no_link_is_followed_in_a_folder(tmp_path: Path, source: Path) -> None:
    folder = open_storage(DirectoryWorkspaceConfig(kind="directory", path=tmp_path / "kept"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a").write_text("secret")
    (tmp_path / "kept/run").symlink_to(tmp_path / "outside")
    with pytest.raises(MissingError):
        folder.stat("run/a")
    [(_, file)] = opened(source, a=b"x")
    with pytest.raises(OSError):
        folder.put("run/b", file)
    os.close(file)
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["a"]


def test_signed_urls_are_for_one_thing_and_a_while(object_store: ObjectStore, source: Path) -> None:
    storage = open_storage(s3(object_store, "signed"))
    put(storage, source, "run/a", b"0123456789")
    put(storage, source, "run/b", b"other")
    url = storage.signed_url("run/a", "GET", 60)
    assert url is not None
    assert httpx.get(url).content == b"0123456789"
    assert httpx.get(url, headers={"Range": "bytes=2-4"}).content == b"234"
    assert httpx.get(url.replace("run/a", "run/b")).status_code == 403
    assert httpx.put(url, content=b"x").status_code == 403
    assert httpx.get(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600")).status_code == 403
    assert httpx.get(url.partition("?")[0]).status_code == 403
    head = storage.signed_url("run/a", "HEAD", 60)
    assert head is not None
    assert httpx.head(head).headers["content-length"] == "10"
    short = storage.signed_url("run/a", "GET", 1)
    assert short is not None
    time.sleep(2.1)
    assert httpx.get(short).status_code == 403


def test_urls_are_signed_for_what_clients_call_the_store(object_store: ObjectStore) -> None:
    storage = open_storage(s3(object_store, "", public_endpoint="https://s3.example.org"))
    url = storage.signed_url("run/a", "GET", 60)
    assert url is not None
    assert url.startswith("https://s3.example.org/results/run/a?")
    plain = open_storage(s3(object_store, "", signed_urls=False))
    assert plain.signed_url("run/a", "GET", 60) is None


def test_a_bucket_that_is_not_there(object_store: ObjectStore, source: Path) -> None:
    storage = open_storage(s3(object_store, "").model_copy(update={"bucket": "nowhere"}))
    [(_, file)] = opened(source, a=b"x")
    with pytest.raises(StoreError, match="no such bucket"):
        storage.put("run/a", file)
    os.close(file)


def test_a_webdav_server_that_takes_no_token(dav: Dav, source: Path) -> None:
    storage = open_storage(WebdavWorkspaceConfig.model_validate(dav.workspace("a/b/")))
    put(storage, source, "run/a", b"x")
    assert (dav.folder / "a/b/run/a").read_bytes() == b"x"
    assert storage.signed_url("run/a", "GET", 60) is None
    dav.tokens.clear()
    with pytest.raises(StoreError, match="does not take the token"):
        storage.stat("run/a")


def test_a_webdav_server_that_is_not_there(source: Path) -> None:
    storage = open_storage(WebdavWorkspaceConfig(kind="webdav", url="dav://127.0.0.1:9/"))
    with pytest.raises(StoreError, match="cannot be asked"):
        put(storage, source, "run/a", b"x")


@pytest.mark.parametrize("name", ["run/../other", "/etc/passwd", "run//a", ""])
def test_names_that_lead_out_of_a_webdav_folder(dav: Dav, name: str) -> None:
    storage = open_storage(WebdavWorkspaceConfig.model_validate(dav.workspace("a/")))
    with pytest.raises(StoreError, match="is no name for a file"):
        storage.stat(name)
    assert dav.asked == []
