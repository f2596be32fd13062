"""Clients that others wrote, unchanged; each is skipped where it is not installed (see docs/clients.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CWL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: echo
stdout: hello.txt
inputs: {message: {type: string, inputBinding: {position: 1}}}
outputs: {output: {type: stdout}}
"""


@pytest.fixture(autouse=True)
def running_engine(server, engine) -> Iterator[None]:
    """Finishes every run at once."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for run_id in engine.claim():
                engine.task(run_id, 1)
                engine.finish(run_id, {"output": engine.output(run_id, "hello.txt", b"hello\n")})
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def call(folder: Path, *command: str) -> str:
    """Run a client in a folder with a workflow and its inputs; skip when it is not installed."""
    program = shutil.which(command[0])
    if not program:
        pytest.skip(f"{command[0]} is not installed")
    (folder / "hello.cwl").write_text(CWL)
    (folder / "job.json").write_text('{"message": "hello"}')
    environment = {**os.environ, "PATH": f"{Path(program).resolve().parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wes_client(server, tmp_path):
    host = server.root.removeprefix("http://")
    options = ["--host", host, "--proto", "http"]
    out = call(
        tmp_path, "wes-client", *options, "--run", "hello.cwl", "job.json", "--attachments=hello.cwl,job.json"
    )
    location = json.loads(out)["output"]["location"]
    assert server.session.get(location, timeout=60).text == "hello\n"
    assert json.loads(call(tmp_path, "wes-client", *options, "--list"))["runs"]
    assert json.loads(call(tmp_path, "wes-client", *options, "--info"))["workflow_type_versions"]


def test_toil(server, tmp_path):
    out = call(
        tmp_path,
        "toil-wes-cwl-runner",
        "--wes_endpoint",
        server.root,
        "hello.cwl",
        "job.json",
        "--x",
        "--y=1",
    )
    assert server.session.get(json.loads(out)["output"]["location"], timeout=60).text == "hello\n"
    newest = server.get("/runs?page_size=1").json()["runs"][0]["run_id"]
    request = server.get(f"/runs/{newest}").json()["request"]
    assert request["workflow_engine_parameters"] == {"--x": "", "--y": "1"}


def test_ai4gh(server, tmp_path):
    assert "Failed: 0" in call(tmp_path, "ai4gh", "test", "wes", server.root)
