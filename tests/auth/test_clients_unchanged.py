"""Clients of others go on working on a laptop with the guard there; each skips where it is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.auth.conftest import API
from tests.service.conftest import Service

pytestmark = pytest.mark.slow

CWL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: echo
stdout: hello.txt
inputs: {message: {type: string, inputBinding: {position: 1}}}
outputs: {output: {type: stdout}}
"""


def call(folder: Path, *command: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    (folder / "hello.cwl").write_text(CWL)
    (folder / "job.json").write_text('{"message": "hello"}')
    path = f"{Path(program).resolve().parent}:{os.environ['PATH']}"
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
    done = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=inherited | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wes_client(service: Service, tmp_path: Path) -> None:
    options = ["--host", service.url.removeprefix("http://"), "--proto", "http"]
    out = call(tmp_path, "wes-client", *options, "--run", "hello.cwl", "job.json", "--attachments=hello.cwl")
    assert httpx.get(json.loads(out)["output"]["location"]).text == "hello\n"
    assert json.loads(call(tmp_path, "wes-client", *options, "--list"))["runs"]
    assert json.loads(call(tmp_path, "wes-client", *options, "--info"))["workflow_type_versions"]


def test_toil(service: Service, tmp_path: Path) -> None:
    out = call(tmp_path, "toil-wes-cwl-runner", "--wes_endpoint", service.url, "hello.cwl", "job.json")
    assert httpx.get(json.loads(out)["output"]["location"]).text == "hello\n"


def test_ai4gh(service: Service, tmp_path: Path) -> None:
    assert "Failed: 0" in call(tmp_path, "ai4gh", "test", "wes", service.url)


def test_curl_and_the_interface(service: Service, tmp_path: Path) -> None:
    assert json.loads(call(tmp_path, "curl", "-sf", f"{service.url}{API}/runs"))["runs"] is not None
    assert "swagger" in call(tmp_path, "curl", "-sfL", f"{service.url}/docs").lower()
