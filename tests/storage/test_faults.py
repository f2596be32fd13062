"""A real store behind a real proxy that is busy, hangs, or crashes: all of a file, or a clear reason."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.nginx import Nginx, start_nginx
from tests.stores import ObjectStore, object_store
from wes_bridge.model.stores import S3WorkspaceConfig
from wes_bridge.storage.base import Storage, StoreError
from wes_bridge.storage.opening import open_storage

__all__ = ["object_store"]
PROXY = "proxy_pass {url}; proxy_set_header Host $http_host; client_max_body_size 0; "
Behind = Callable[..., tuple[Storage, Nginx]]


@pytest.fixture
def behind(tmp_path: Path, object_store: ObjectStore) -> Iterator[Behind]:
    """Opens the store through nginx with further directives."""
    started: list[Nginx] = []

    def start(directives: str = "", timeout: float = 5) -> tuple[Storage, Nginx]:
        text = PROXY.format(url=object_store.url) + directives
        proxy = start_nginx(tmp_path / f"nginx{len(started)}", text)
        started.append(proxy)
        config = {
            "kind": "s3",
            "endpoint": proxy.url,
            "bucket": "results",
            "prefix": f"faults/{tmp_path.name}",
            "credentials": {"file": str(object_store.keys)},
            "timeout": timeout,
        }
        return open_storage(S3WorkspaceConfig.model_validate(config)), proxy

    yield start
    for proxy in started:
        proxy.stop()


def files(folder: Path, count: int, size: int = 10) -> Iterator[tuple[str, int]]:
    for index in range(count):
        path = folder / f"file{index}"
        path.write_bytes(bytes([index]) * size)
        yield f"file{index}", os.open(path, os.O_RDONLY)


def test_a_busy_store_is_asked_again(behind: Behind, tmp_path: Path) -> None:
    """The first request of each connection is answered with 503."""
    storage, proxy = behind("if ($connection_requests = 1) { return 503; }")
    stored = storage.publish("run/outputs", files(tmp_path, 20))
    assert len(stored) == 20
    assert storage.is_published("run/outputs")
    assert len(list(storage.files("run/outputs"))) == 20
    assert any(line.startswith("503 PUT") for line in proxy.said()), "it was never busy"


def test_a_store_that_stays_busy_is_a_reason(behind: Behind, tmp_path: Path) -> None:
    storage, _ = behind("return 503;", timeout=0.3)
    with pytest.raises(StoreError, match="HTTP 503"):
        storage.publish("run/outputs", files(tmp_path, 3))
    with pytest.raises(StoreError, match="HTTP 503"):
        storage.is_published("run/outputs")


def test_a_store_that_hangs_is_given_up(behind: Behind) -> None:
    storage, proxy = behind(timeout=0.5)
    (worker,) = psutil.Process(proxy.process.pid).children()
    worker.suspend()
    try:
        with pytest.raises(StoreError, match="the store is too slow or silent"):
            storage.stat("run/a")
    finally:
        worker.resume()


@pytest.mark.parametrize("attempt", range(3))
def test_a_download_that_breaks_off_is_whole_or_none(behind: Behind, tmp_path: Path, attempt: int) -> None:
    storage, proxy = behind("limit_rate 8m;")
    body = os.urandom(12 * 1024**2)
    (tmp_path / "large").write_bytes(body)
    file = os.open(tmp_path / "large", os.O_RDONLY)
    storage.put("run/large", file)
    os.close(file)
    came = bytearray()
    try:
        for piece in storage.read("run/large"):
            if not came:
                threading.Thread(target=proxy.kill_workers).start()
            came += piece
    except StoreError as error:
        assert str(error)
    else:
        assert bytes(came) == body


def test_a_store_that_is_gone_while_outputs_are_sent(behind: Behind, tmp_path: Path) -> None:
    """Nothing is published; the next attempt, with the store back, brings all of it."""
    storage, proxy = behind("limit_rate 1m;", timeout=1)

    def cut_off() -> Iterator[tuple[str, int]]:
        for index, one in enumerate(files(tmp_path, 40, 100_000)):
            if index == 20:
                proxy.stop()
            yield one

    with pytest.raises(StoreError):
        storage.publish("run/outputs", cut_off())
    again, _ = behind()
    assert not again.is_published("run/outputs")
    assert len(again.publish("run/outputs", files(tmp_path, 5))) == 5
    assert sorted(one.name for one in again.files("run/outputs")) == [
        f"run/outputs/file{i}" for i in range(5)
    ]
