"""Runs that have ended are in ``outputs_store`` with all that is kept of them, and may leave this disk."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Starter
from tests.service.test_keeping import DAY, ended
from tests.stores import ObjectStore, dav, object_store
from tests.waiting import until
from tests.wes.wes_server import Engine, Server, start
from wes_bridge.cli.flow import reasons
from wes_bridge.config import RetentionConfig, ServiceConfig
from wes_bridge.data.publishing import publish_outputs
from wes_bridge.engine.keeping import Keeper, Removal
from wes_bridge.model.states import State
from wes_bridge.storage.base import Storage
from wes_bridge.storage.opening import open_storage

__all__ = ["dav", "object_store"]


def kept_in(kind: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    if kind == "directory":
        return {"kind": "directory", "path": str(folder / "kept")}
    if kind == "webdav":
        found: dict[str, Any] = request.getfixturevalue("dav").workspace("wes/")
        return found
    store: ObjectStore = request.getfixturevalue("object_store")
    keys = {"credentials": {"file": str(store.keys)}, "prefix": f"moving/{folder.name}"}
    return {"kind": "s3", "endpoint": store.url, "bucket": "results", **keys}


@pytest.fixture(params=["directory", "s3", "webdav"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    kept = kept_in(request.param, request, tmp_path)
    yield from start(
        ServiceConfig.model_validate({"state_dir": str(tmp_path / "state"), "outputs_store": kept})
    )


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    playing = Engine(server)
    yield playing
    playing.close()


def storage_of(server: Server) -> Storage:
    assert server.config.outputs_store is not None
    return open_storage(server.config.outputs_store)


def sweep(server: Server, days: float = 0.0, **retention: Any) -> list[Removal]:
    """Clean up as if it were ``days`` later."""
    config, later = RetentionConfig.model_validate(retention), time.time() + 1 + days * DAY
    keeper = Keeper(
        config, server.workspace, server.database, now=lambda: later, outputs_store=storage_of(server)
    )
    return list(keeper.sweep())


def done(server: Server, engine: Engine) -> str:
    """A run that is COMPLETE: its outputs are in the store."""
    run_id = ended(server, engine)
    publish_outputs(storage_of(server), server.folder(run_id))
    return run_id


def test_all_of_a_run_is_in_the_store(server: Server, engine: Engine) -> None:
    run_id = done(server, engine)
    assert sweep(server) == []
    names = {one.name.removeprefix(f"{run_id}/") for one in storage_of(server).files(run_id)}
    assert {
        "attachments/w.cwl",
        "logs/stderr",
        "outputs/made.txt",
        "tasks/t1/stderr",
        "tasks/t1/stdout",
    } <= names
    assert "tasks/t1/out/big.dat" not in names


def test_a_run_that_has_left_this_disk_is_read_from_there(server: Server, engine: Engine) -> None:
    run_id = done(server, engine)
    assert sweep(server, days=2, keep_local=3) == []
    [removal] = sweep(server, days=4, keep_local=3)
    assert (removal.what, removal.run_id) == ("local files", run_id)
    assert removal.size > 1000
    assert not server.folder(run_id).root.exists()
    assert server.get(f"/runs/{run_id}/files/attachments/w.cwl").content == b"x"
    assert server.get(f"/runs/{run_id}/logs/stderr").text == "log"
    tail = server.get(f"/runs/{run_id}/logs/stderr", headers={"Range": "bytes=1-"})
    assert (tail.status_code, tail.text, tail.headers["content-type"]) == (
        206,
        "og",
        "text/plain; charset=utf-8",
    )
    assert server.get(f"/runs/{run_id}/tasks/t1/stdout").text == "said"
    assert server.get(f"/runs/{run_id}/tasks/t1/stderr").text == "err"
    assert server.get(f"/runs/{run_id}/logs/stdout").text == ""
    location = server.get(f"/runs/{run_id}").json()["outputs"]["made"]["location"]
    assert requests.get(location, timeout=60).text == "made"
    head = requests.head(location, timeout=60, allow_redirects=True)
    assert head.headers["content-length"] == "4"
    assert server.get(f"/runs/{run_id}/files/attachments/none").status_code == 404
    listed = server.get(f"/runs/{run_id}/files/attachments").json()["entries"]
    assert [one["name"] for one in listed] == ["w.cwl"]
    assert sweep(server, days=5, keep_local=3) == []


def test_a_rerun_of_it_has_its_attachments(server: Server, engine: Engine) -> None:
    run_id = done(server, engine)
    sweep(server, days=4, keep_local=3)
    answer = server.post(f"/runs/{run_id}/rerun")
    assert answer.status_code == 200, answer.text
    again = server.folder(answer.json()["run_id"])
    assert (again.attachments / "w.cwl").read_bytes() == b"x"


def test_logs_go_from_the_store_when_their_time_is_over(server: Server, engine: Engine) -> None:
    run_id = done(server, engine)
    sweep(server, days=4, keep_local=3)
    sweep(server, days=10, keep_local=3, keep_logs=7)
    assert server.get(f"/runs/{run_id}/logs/stderr").text == ""
    assert server.get(f"/runs/{run_id}/tasks/t1/stdout").text == ""
    assert server.get(f"/runs/{run_id}/files/outputs/made.txt").text == "made"


def test_runs_go_from_the_store_wholly(server: Server, engine: Engine) -> None:
    old, deleted = done(server, engine), done(server, engine)
    sweep(server, days=4, keep_local=3)
    assert requests.delete(f"{server.url}/runs/{deleted}", timeout=60).status_code == 200
    assert [removal.what for removal in sweep(server, days=8, keep_runs=7)] == ["run"]
    for run_id in (old, deleted):
        assert list(storage_of(server).files(run_id)) == []


def test_runs_that_go_on_or_failed(server: Server, engine: Engine) -> None:
    failed = ended(server, engine, State.EXECUTOR_ERROR)
    active = server.submit({"w.cwl": b"x"}, workflow_url="w.cwl")
    [removal] = sweep(server, days=4, keep_local=3)
    assert removal.run_id == failed
    assert server.get(f"/runs/{failed}/files/outputs/made.txt").text == "made"
    assert server.folder(active).attachments.is_dir()
    assert list(storage_of(server).files(active)) == []


def test_what_the_store_has_not_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store that takes nothing is told in the log, and nothing is removed."""
    kept = tmp_path / "kept"
    config = {"state_dir": str(tmp_path / "state"), "outputs_store": {"kind": "directory", "path": str(kept)}}
    for server in start(ServiceConfig.model_validate(config)):
        playing = Engine(server)
        run_id = ended(server, playing)
        storage = storage_of(server)
        (kept / run_id).mkdir(parents=True)
        (kept / run_id / "attachments").symlink_to("/nonexistent")
        (kept / run_id / "logs").symlink_to("/nonexistent")
        os.rename(kept, tmp_path / "away")  # noqa: PTH104 - and now it is a file
        kept.write_text("")
        keeper = Keeper(
            RetentionConfig(keep_local=0),
            server.workspace,
            server.database,
            now=lambda: time.time() + 60,
            outputs_store=storage,
        )
        with caplog.at_level(logging.WARNING):
            assert list(keeper.sweep()) == []
        assert f"run {run_id} cannot be brought to outputs_store now" in caplog.text
        assert server.get(f"/runs/{run_id}/logs/stderr").text == "log"
        playing.close()


def test_a_service_does_it_by_itself(
    start_service: Starter, object_store: ObjectStore, tmp_path: Path
) -> None:
    keys = {"credentials": {"file": str(object_store.keys)}, "prefix": f"self/{tmp_path.name}"}
    kept = {"kind": "s3", "endpoint": object_store.url, "bucket": "results", **keys}
    service = start_service(
        outputs_store=kept, retention={"every": 1, "keep_local": 0}, engine={"reuse": "on"}
    )
    tool = tmp_path / "t.cwl"
    tool.write_text(
        "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: [sh, -c, 'echo told >&2; echo made'],"
        " inputs: [], stdout: o.txt, outputs: {o: stdout}}"
    )
    run = service.run(tool)
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    until(lambda: not (service.state / "workspace" / run["run_id"]).exists())
    assert requests.get(run["outputs"]["o"]["location"], timeout=30).text == "made\n"
    (task,) = service.client.tasks(run["run_id"])
    assert requests.get(task["stderr"], timeout=30).text == "told\n"
    assert b"run ended COMPLETE" in b"".join(service.client.log(run["run_id"]))

    shutil.rmtree(service.state / "workspace" / ".reuse")  # as on a machine that has seen nothing of the run
    again = service.client.rerun(run["run_id"])
    assert service.client.wait(again, timeout=120) == "COMPLETE"
    (task,) = service.client.tasks(again)
    assert task["system_logs"] == [f"result of t.cwl in run {run['run_id']}, kept for reuse"]
