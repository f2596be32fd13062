"""The application as a whole: what it imports, how it starts and stops."""

from __future__ import annotations

import subprocess
import sys
import time

from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from wes_server import start

from wes_bridge.config import ServiceConfig
from wes_bridge.data.attachments import remove_stale
from wes_bridge.data.workspace import Workspace
from wes_bridge.store.lookup import state_query
from wes_bridge.wes.errors import describe


def test_the_server_does_without_the_engines_library():
    """cwltool costs a second to import, and a server that only answers needs none of it."""
    code = "import sys, wes_bridge.wes.app; print([m for m in sys.modules if m in ('cwltool', 'cwl_utils')])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_runs_survive_a_restart(tmp_path):
    config = ServiceConfig(state_dir=tmp_path)
    for server in start(config):
        run_id = server.submit({"w.cwl": b"x"}, workflow_url="w.cwl")
    for server in start(config):
        assert server.get(f"/runs/{run_id}/status").json()["state"] == "QUEUED"
        assert server.get(f"/runs/{run_id}/files/attachments/w.cwl").content == b"x"


def test_what_a_dead_server_left_is_removed_after_a_while(tmp_path):
    workspace = Workspace(tmp_path)
    half = tmp_path / ".incoming" / "abc" / "attachments"
    half.mkdir(parents=True)
    remove_stale(workspace)
    assert half.exists(), "another server may still be receiving it"
    remove_stale(workspace, older_than=-1)
    assert not half.exists()


def test_the_compiled_lookup_is_right_for_postgresql_too():
    compiled = state_query().compile(dialect=postgresql.psycopg.dialect())
    assert not compiled.positional
    assert "%(run_id)s" in compiled.string


def test_a_database_without_room_is_told_from_one_that_is_gone():
    class Full(Exception):
        sqlstate = "53100"

    status, words, _ = describe(OperationalError("INSERT", {}, Full()))
    assert (status, "no space left" in words) == (500, True)


def test_starting_is_quick(tmp_path):
    begun = time.perf_counter()
    for server in start(ServiceConfig(state_dir=tmp_path)):
        assert server.get("/service-info").status_code == 200
        assert time.perf_counter() - begun < 20
