"""Outputs of runs in a store of their own: clients get the same bytes, by a redirect or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from wes_server import Engine, Server, start

from tests.stores import ObjectStore, dav, object_store
from wes_bridge.config import ServiceConfig
from wes_bridge.data.publishing import discard_outputs, publish_outputs
from wes_bridge.storage.opening import open_storage

__all__ = ["dav", "object_store"]

BODY = bytes(range(256)) * 4000


@pytest.fixture(params=["directory", "streamed", "signed", "webdav"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Outputs are in a folder, on a WebDAV server, or in an object store that signs URLs or not."""
    kept: dict[str, object] = {"kind": "directory", "path": str(tmp_path / "kept")}
    if request.param == "webdav":
        kept = request.getfixturevalue("dav").workspace("wes/")
    elif request.param != "directory":
        store: ObjectStore = request.getfixturevalue("object_store")
        kept = {
            "kind": "s3",
            "endpoint": store.url,
            "bucket": "results",
            "prefix": f"wes/{tmp_path.name}",
            "credentials": {"file": str(store.keys)},
            "signed_urls": request.param == "signed",
        }
    config = ServiceConfig.model_validate({"state_dir": str(tmp_path / "state"), "outputs_store": kept})
    yield from start(config)


def ended(server: Server) -> str:
    """A run whose outputs are in the store, and no longer in the workspace."""
    run = server.submit()
    engine = Engine(server)
    out = engine.output(run, "d/image.fits", BODY)
    engine.output(run, "a b", b"x")
    folder = server.folder(run)
    (folder.tasks / "t1/out/inner").mkdir(parents=True)
    (folder.tasks / "t1/out/inner/deep").write_bytes(b"deep")
    (folder.outputs / "linked").symlink_to(folder.tasks / "t1/out/inner")
    (folder.outputs / "away").symlink_to("/etc/hostname")
    assert server.config.outputs_store is not None
    storage = open_storage(server.config.outputs_store)
    found = publish_outputs(storage, folder)
    names = [one.name.removeprefix(f"{run}/outputs/") for one in found]
    assert sorted(names) == ["a b", "d/image.fits", "linked/deep"]
    engine.finish(run, {"image": out})
    engine.close()
    for path in (folder.outputs, folder.tasks):
        path.rename(folder.root / f"gone-{path.name}")
    return run


def test_files_ranges_and_heads(stored: Server) -> None:
    run = ended(stored)
    path = f"/runs/{run}/files/outputs/d/image.fits"
    assert stored.get(path).content == BODY
    part = stored.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, BODY[10:20])
    url = stored.get(f"/runs/{run}").json()["outputs"]["image"]["location"]
    assert requests.get(url, timeout=30).content == BODY
    head = requests.head(url, timeout=30, allow_redirects=True)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(BODY)))
    assert stored.get(f"/runs/{run}/files/outputs/linked/deep").content == b"deep"
    assert stored.get(f"/runs/{run}/files/outputs/a%20b").content == b"x"


def test_where_the_store_signs_clients_are_sent_there(stored: Server) -> None:
    run = ended(stored)
    answer = stored.get(f"/runs/{run}/files/outputs/d/image.fits", allow_redirects=False)
    kept = stored.config.outputs_store
    assert kept is not None
    if getattr(kept, "signed_urls", False):
        assert answer.status_code == 302
        assert answer.headers["location"].startswith(str(kept.endpoint))
        assert answer.headers["cache-control"] == "private, no-store"
    else:
        assert answer.status_code == 200
        assert answer.headers["etag"]
        known = stored.get(
            f"/runs/{run}/files/outputs/d/image.fits", headers={"If-None-Match": answer.headers["etag"]}
        )
        assert known.status_code == 304
        beyond = stored.get(f"/runs/{run}/files/outputs/a%20b", headers={"Range": "bytes=5-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */1")


def test_folders_are_listed(stored: Server) -> None:
    run = ended(stored)
    listed = stored.get(f"/runs/{run}/files/outputs").json()
    assert [(one["name"], one["type"]) for one in listed["entries"]] == [
        ("a b", "file"),
        ("d", "folder"),
        ("linked", "folder"),
    ]
    inner = stored.get(f"/runs/{run}/files/outputs/d").json()["entries"]
    assert [(one["name"], one["size"]) for one in inner] == [("image.fits", len(BODY))]


@pytest.mark.parametrize(
    "name", ["outputs/none", "outputs/../attachments/w.cwl", "outputs/d/../../x", "outputs/away"]
)
def test_what_is_not_there(stored: Server, name: str) -> None:
    run = ended(stored)
    url = f"{stored.url}/ga4gh/wes/v1/runs/{run}/files/{name.replace('..', '%2e%2e')}"
    assert requests.get(url, timeout=30).status_code == 404


def test_runs_that_are_deleted_leave_nothing_in_the_store(stored: Server) -> None:
    run = ended(stored)
    assert stored.config.outputs_store is not None
    storage = open_storage(stored.config.outputs_store)
    discard_outputs(storage, run)
    assert list(storage.files(run)) == []
    assert stored.get(f"/runs/{run}/files/outputs/a%20b").status_code == 404


def test_a_store_that_does_not_answer_is_told(tmp_path: Path) -> None:
    kept = {
        "kind": "s3",
        "endpoint": "http://127.0.0.1:1",
        "bucket": "gone",
        "signed_urls": False,
        "timeout": 0.2,
    }
    config = ServiceConfig.model_validate({"state_dir": str(tmp_path / "state"), "outputs_store": kept})
    for server in start(config):
        run = server.submit()
        answer = server.get(f"/runs/{run}/files/outputs/a")
        assert answer.status_code == 502
        assert "the store of outputs does not give 'outputs/a'" in answer.json()["msg"]
