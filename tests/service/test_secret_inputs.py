"""Inputs that a workflow calls secret are in no answer, log, journal or database of the service."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.service.conftest import Starter

CANARY = 'canary-"7f3\\x-é'
TOOL = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "$namespaces": {"cwltool": "http://commonwl.org/cwltool#"},
    "hints": {"cwltool:Secrets": {"secrets": ["password"]}},
    "requirements": {
        "InitialWorkDirRequirement": {
            "listing": [{"entryname": "conf", "entry": "pw=$(inputs.password)"}],
        },
        "EnvVarRequirement": {"envDef": {"PW": "$(inputs.password)"}},
    },
    "baseCommand": ["sh", "-c", 'printf %s "$0$PW" | wc -c; wc -c < conf; test "$PW" = "$0"'],
    "inputs": {"password": {"type": "string", "inputBinding": {}}, "plain": "string"},
    "stdout": "out.txt",
    "outputs": {"out": "stdout"},
}


@pytest.mark.slow
def test_a_secret_is_nowhere(start_service: Starter, tmp_path: Path) -> None:
    service = start_service(engine={"workers": 1}, nodes=[{"name": "n1", "sandbox": "none"}])
    tool = tmp_path / "tool.cwl"
    tool.write_text(json.dumps(TOOL))
    run = service.run(tool, {"password": CANARY, "plain": "visible"})
    run_id = run["run_id"]
    assert run["state"] == "COMPLETE", run
    client = service.client
    size = len(CANARY.encode())
    out = client.download(run_id, tmp_path / "results")
    assert out
    [text] = [path.read_text() for path in (tmp_path / "results").rglob("out.txt")]
    assert [int(word) for word in text.split()] == [2 * size, size + 3]
    tasks = list(client.tasks(run_id))
    shown = json.dumps([run, tasks])
    assert "visible" in shown
    assert "(secret-" in shown
    again = client.rerun(run_id, again=["tool.cwl"]) if hasattr(client, "rerun") else None
    if again:
        client.wait(again, timeout=120)
        assert client.run(again)["state"] == "COMPLETE"
        shown += json.dumps(client.run(again))
    forms = {CANARY.encode(), json.dumps(CANARY)[1:-1].encode(), CANARY.split('"', maxsplit=1)[0].encode()}
    assert not [form for form in forms if form.decode() in shown]
    with sqlite3.connect(service.state / "wes-bridge.db") as connection:
        dump = "\n".join(connection.iterdump()).encode()
    assert run_id.encode() in dump
    assert not [form for form in forms if form in dump]
    for path in service.state.rglob("*"):
        # what the file of a database has ever held stays in it for a while; its rows are looked at above
        if path.is_file() and ".db" not in path.name and "results" not in path.parts:
            content = path.read_bytes()
            assert not [form for form in forms if form in content], path
    assert b"canary" not in service.log.read_bytes()
