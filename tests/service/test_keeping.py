"""Nothing grows without bound, and nothing that is needed goes."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from tests.conftest import NewDatabase
from tests.service.conftest import Service, Starter
from tests.wes.wes_server import Engine, Server, start
from wes_bridge.cli.main import cli
from wes_bridge.config import RetentionConfig, ServiceConfig
from wes_bridge.engine.keeping import Keeper, Removal
from wes_bridge.model.states import State
from wes_bridge.store.runs import count_tasks, get_run

pytestmark = pytest.mark.database

DAY = 86400.0


@pytest.fixture
def server(tmp_path: Path, new_database: NewDatabase) -> Iterator[Server]:
    yield from start(ServiceConfig(state_dir=tmp_path / "state", database=new_database()))


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    playing = Engine(server)
    yield playing
    playing.close()


def sweep(server: Server, days: float = 0.0, dry_run: bool = False, **retention: Any) -> list[Removal]:
    """Clean up as if it were ``days`` later."""
    config = RetentionConfig.model_validate(retention)
    later = time.time() + 1 + days * DAY
    keeper = Keeper(config, server.workspace, server.database, dry_run=dry_run, now=lambda: later)
    return list(keeper.sweep())


def ended(server: Server, engine: Engine, state: State = State.COMPLETE, **fields: Any) -> str:
    """A run that has ended, with a task, an intermediate file, a redirected stream and an output."""
    run_id = server.submit({"w.cwl": b"x"}, workflow_url="w.cwl", tags='{"k": "v"}', **fields)
    engine.claim()
    folder = server.folder(run_id)
    out = folder.task_out("t1")
    out.mkdir(parents=True)
    (out / "said.txt").write_text("said")
    (out / "big.dat").write_text("x" * 1000)
    folder.task_stream("t1", "stderr").write_text("err")
    folder.logs.mkdir(exist_ok=True)
    folder.stderr.write_text("log")
    engine.state(run_id, State.RUNNING, start_time=time.time())
    streams = {
        "stdout": (out / "said.txt").as_uri(),
        "stderr": folder.task_stream("t1", "stderr").as_uri(),
    }
    engine.task(run_id, state=State.COMPLETE, **streams)
    output = engine.output(run_id, "made.txt", b"made")
    engine.state(run_id, state, end_time=time.time(), exit_code=0, outputs={"made": output})
    return run_id


def test_nothing_goes_unless_asked_for(server: Server, engine: Engine) -> None:
    run_id = ended(server, engine)
    assert sweep(server, days=1000) == []
    assert server.folder(run_id).task_out("t1").is_dir()


def test_old_runs_go_wholly(server: Server, engine: Engine) -> None:
    old = ended(server, engine)
    active = server.submit({"w.cwl": b"x"}, workflow_url="w.cwl")
    assert sweep(server, days=6, keep_runs=7) == []
    (would,) = sweep(server, days=7, keep_runs=7, dry_run=True)
    assert (would.what, would.run_id) == ("run", old)
    assert would.size > 1000
    assert get_run(server.database, old) is not None
    assert sweep(server, days=7, keep_runs=7) == [would]
    assert get_run(server.database, old) is None
    assert count_tasks(server.database, old) == {}
    assert not server.folder(old).root.exists()
    assert server.get(f"/runs/{old}").status_code == 404
    assert server.folder(active).root.exists()


@pytest.mark.parametrize(
    ("state", "which"), [(State.COMPLETE, "after_success"), (State.EXECUTOR_ERROR, "after_failure")]
)
def test_intermediate_files(server: Server, engine: Engine, state: State, which: str) -> None:
    run_id = ended(server, engine, state)
    other = "after_failure" if which == "after_success" else "after_success"
    assert sweep(server, days=5, keep_intermediates={other: 0}) == []
    (removal,) = sweep(server, days=5, keep_intermediates={which: 3})
    assert (removal.what, removal.run_id) == ("intermediate files", run_id)
    assert not server.folder(run_id).task_out("t1").exists()
    assert server.get(f"/runs/{run_id}/tasks/t1/stdout").text == "said"
    assert server.get(f"/runs/{run_id}/tasks/t1/stderr").text == "err"
    location = server.get(f"/runs/{run_id}").json()["outputs"]["made"]["location"]
    assert requests.get(location, timeout=60).text == "made"
    assert sweep(server, days=5, keep_intermediates={which: 3}) == []


def test_logs(server: Server, engine: Engine) -> None:
    run_id = ended(server, engine)
    assert [removal.what for removal in sweep(server, days=2, keep_logs=1)] == ["logs"]
    assert server.folder(run_id).task_out("t1").is_dir()
    assert not server.folder(run_id).stderr.exists()
    assert server.get(f"/runs/{run_id}").status_code == 200
    assert server.get(f"/runs/{run_id}/logs/stderr").status_code in (200, 404)


def test_what_an_active_run_reads_stays(server: Server, engine: Engine) -> None:
    old = ended(server, engine)
    location = server.get(f"/runs/{old}").json()["outputs"]["made"]["location"]
    params = json.dumps({"file": {"class": "File", "location": location}})
    reader = server.submit({"w.cwl": b"x"}, workflow_url="w.cwl", workflow_params=params)
    everything: dict[str, Any] = {
        "keep_runs": 0,
        "keep_logs": 0,
        "keep_intermediates": {"after_success": 0, "after_failure": 0},
    }
    assert sweep(server, days=1, dry_run=True, **everything) == []
    assert sweep(server, days=1, **everything) == []
    answer = server.session.delete(f"{server.url}/runs/{old}", timeout=60)
    assert answer.status_code == 409
    assert f"run {reader} reads" in answer.json()["msg"]
    engine.finish(reader)
    assert {removal.run_id for removal in sweep(server, days=1, keep_runs=0)} == {old, reader}


def test_what_crashes_left(server: Server, engine: Engine) -> None:
    run_id = ended(server, engine)
    stray = server.workspace.root / ("a" * 32)
    (stray / "tasks").mkdir(parents=True)
    (server.workspace.root / "somebody's").mkdir()
    assert sweep(server) == []
    assert [removal.what for removal in sweep(server, days=2)] == ["stray folder"]
    assert not stray.exists()
    assert (server.workspace.root / "somebody's").exists()
    assert server.folder(run_id).root.exists()


def test_two_that_clean_at_once(server: Server, engine: Engine) -> None:
    runs = {ended(server, engine) for _ in range(5)}
    config, later = RetentionConfig(keep_runs=0), time.time() + DAY
    first, second = (Keeper(config, server.workspace, server.database, now=lambda: later) for _ in "ab")
    pairs = zip(first.sweep(), second.sweep(), strict=False)
    seen = {removal.run_id for pair in pairs for removal in pair}
    assert seen == runs
    assert all(get_run(server.database, run_id) is None for run_id in runs)


def test_the_command(server: Server, engine: Engine) -> None:
    run_id = ended(server, engine)
    words = ["clean", "--state", str(server.config.state_dir)]
    words += ["--database", server.config.database_url, "--keep-runs"]
    assert CliRunner().invoke(cli, [*words, "1"]).stdout == ""
    would = CliRunner().invoke(cli, [*words, "0", "--dry-run"]).output
    assert would.startswith(f"run\t{run_id}\t")
    assert "bytes would be removed" in would
    assert CliRunner().invoke(cli, [*words, "0"]).output == would.replace("would be ", "")
    assert get_run(server.database, run_id) is None
    assert CliRunner().invoke(cli, [*words, "-1"]).exit_code == 2
    answer = CliRunner().invoke(cli, ["clean", "--state", str(server.config.state_dir / "no")])
    assert (answer.exit_code, "not the state folder" in answer.output) == (1, True)


# ---- a service that works all day -----------------------------------------------------------------------


def rows(database: Path) -> dict[str, int]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    return {
        name: count
        for name, count in counts.items()
        if name not in ("alembic_version", "sqlite_sequence", "brokers")
    }


def await_empty(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while found := what():
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def below(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """What is in a folder where other things are removed meanwhile, which ``Path.rglob`` does not bear."""
    return [
        path
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if wanted(path := Path(parent) / name)
    ]


@pytest.mark.slow
def test_a_long_series_of_quick_runs(start_service: Starter, tmp_path: Path) -> None:
    """Whatever they left, in databases and on disks, of the service, its node and its aggregator, goes."""
    service: Service = start_service(
        database=None,  # it is looked into below
        nodes=[{"name": "here", "platforms": ["process"], "sandbox": "none", "keep_sessions": 1}],
        aggregator={"name": "all", "keep_sessions": 1},
        retention={"keep_runs": 0, "every": 0.5},
        engine={"reuse": "on", "reuse_gib": 1e-9},
    )
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", "echo $0 > made"],
        "inputs": {"word": {"type": "string", "inputBinding": {}}},
        "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made"}}},
    }
    path = tmp_path / "w.cwl"
    path.write_text(json.dumps(tool))
    databases: list[Path] = []
    grew: set[Path] = set()

    def grown() -> dict[str, int]:
        found = {f"{path} {name}": n for path in databases for name, n in rows(path).items() if n}
        grew.update(path for path in databases if any(key.startswith(f"{path} ") for key in found))
        return found

    for number in range(30):
        service.client.submit(path, {"word": f"word {number}"}, tags={"number": str(number)})
        databases = sorted(below(service.state, lambda path: path.suffix == ".db"))
        grown()
    await_empty(grown)
    assert len(databases) == len(grew) == 3, (databases, grew)
    workspace = service.state / "workspace"
    known = (".incoming", ".reuse")
    await_empty(lambda: [path for path in workspace.iterdir() if path.name not in known])
    assert [p for name in known for p in (workspace / name).rglob("*") if p.is_file()] == []
    sessions = below(service.state, lambda path: path.name == "sessions" and path.is_dir())
    assert sessions
    await_empty(lambda: [p for folder in sessions for p in folder.iterdir()])
