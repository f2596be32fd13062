"""Workflows through the whole service: what works, and what is said when it does not."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.service.conftest import ROOT, Service, Starter

TUTORIAL = ROOT / "examples" / "tutorial"
ECHO = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: echo
inputs: {word: {type: string, inputBinding: {}}}
outputs: {said: stdout}
stdout: said.txt
"""


def shell(script: str, **more: Any) -> str:
    """A tool that runs a script."""
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "requirements": {"ShellCommandRequirement": {}},
        "arguments": [{"shellQuote": False, "valueFrom": script}],
        "inputs": {},
        "outputs": {},
    }
    return json.dumps(tool | more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "echo.cwl").write_text(ECHO)
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Iterator[str]:
    """A web site of the folder's files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def problems(run: dict[str, Any]) -> str:
    return "\n".join(run["run_log"]["system_logs"])


# ---- what works --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hello", "words", "chain"])
def test_the_tutorial(service: Service, name: str) -> None:
    run = service.run(TUTORIAL / f"{name}.cwl", TUTORIAL / f"{name}-job.yml")
    assert run["state"] == "COMPLETE", problems(run)
    assert run["outputs"]


def test_every_step_is_a_task_with_its_placement(service: Service) -> None:
    run = service.run(TUTORIAL / "words.cwl", TUTORIAL / "words-job.yml")
    tasks = list(service.client.tasks(run["run_id"]))
    assert len(tasks) > 3
    for task in tasks:
        assert (task["state"], task["node"], task["exit_code"]) == ("COMPLETE", "here", 0)
        assert task["placement"]["asked"] == [{"node": "here", "offers": 1}]
        assert task["placement"]["reason"]
        assert task["session_url"].startswith("http://127.0.0.1:")
        assert task["cmd"]


def test_a_workflow_at_a_url(service: Service, site: str) -> None:
    run = service.run(f"{site}/echo.cwl", {"word": "from afar"})
    assert requests.get(run["outputs"]["said"]["location"], timeout=60).text == "from afar\n"


def test_a_workflow_in_a_data_url(service: Service) -> None:
    url = "data:application/cwl;base64," + base64.b64encode(ECHO.encode()).decode()
    run = service.run(url, {"word": "inline"})
    assert run["state"] == "COMPLETE", problems(run)


def test_one_process_of_a_packed_document(service: Service, folder: Path) -> None:
    one = ECHO.replace("cwlVersion: v1.2", "id: one")
    two = ECHO.replace("cwlVersion: v1.2", "id: two").replace("echo", "[echo, again]")
    graph = "cwlVersion: v1.2\n$graph:\n" + "".join(
        "- " + text.strip().replace("\n", "\n  ") + "\n" for text in (one, two)
    )
    run = service.run(str(write(folder / "packed.cwl", graph)) + "#two", {"word": "x"})
    assert requests.get(run["outputs"]["said"]["location"], timeout=60).text == "again x\n"


def test_a_log_is_followed_while_the_step_runs(service: Service, folder: Path) -> None:
    tool = write(folder / "slow.cwl", shell("echo first; sleep 60; echo last"))
    run_id = service.client.submit(tool)
    text = ""
    deadline = time.monotonic() + 60
    while "first" not in text and time.monotonic() < deadline:
        for task in service.client.tasks(run_id):
            text = requests.get(task["stdout"], timeout=60).text
        time.sleep(0.05)
    assert text == "first\n"
    service.client.cancel(run_id)
    assert service.client.wait(run_id, timeout=60) == "CANCELED"


def test_cancelling_ends_the_processes(service: Service, folder: Path, nap: str) -> None:
    tool = write(folder / "sleep.cwl", shell(f"sleep {nap} & wait"))
    run_id = service.client.submit(tool)

    def sleeping() -> bool:
        return any(nap in p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"])

    deadline = time.monotonic() + 60
    while not sleeping() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sleeping()
    service.client.cancel(run_id)
    assert service.client.wait(run_id, timeout=60) == "CANCELED"
    assert not sleeping()
    assert [task["state"] for task in service.client.tasks(run_id)] == ["CANCELED"]


def test_cwls_exit_codes(service: Service, folder: Path) -> None:
    assert service.run(write(folder / "a.cwl", shell("exit 3", successCodes=[3])))["state"] == "COMPLETE"
    run = service.run(write(folder / "b.cwl", shell("echo oh no >&2; exit 4")))
    assert run["state"] == "EXECUTOR_ERROR"
    assert "exit code 4: oh no" in problems(run)


def test_a_command_that_is_not_there_is_named(service: Service, folder: Path) -> None:
    """It was only "exit code 127": the commonest mistake, and the node had said it."""
    tool = json.loads(shell("true")) | {"baseCommand": "no-such-tool", "arguments": [], "requirements": {}}
    run_id = service.client.submit(write(folder / "tool.cwl", json.dumps(tool)))
    assert service.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    told = "command not found: no-such-tool (not installed here? a container image brings its own)"
    assert told in problems(service.client.run(run_id))
    (task,) = service.client.tasks(run_id)
    assert (task["exit_code"], task["system_logs"]) == (127, [told])


def test_the_signal_that_ended_a_command_is_named(service: Service, folder: Path) -> None:
    run_id = service.client.submit(write(folder / "segv.cwl", shell("kill -SEGV $$")))
    assert service.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    assert "exit code 139: signal SIGSEGV" in problems(service.client.run(run_id))


def test_a_time_limit(service: Service, folder: Path) -> None:
    limit = {"ShellCommandRequirement": {}, "ToolTimeLimit": {"timelimit": 1}}
    run = service.run(write(folder / "late.cwl", shell("sleep 60", requirements=limit)))
    assert run["state"] == "EXECUTOR_ERROR"
    assert "time limit of 1 s" in problems(run)


@pytest.mark.slow
def test_the_demonstration(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("astroquery", reason="the demo extra is not installed")
    done = subprocess.run(
        ["python", ROOT / "cwl/demo/get_inputs.py", tmp_path / "in"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    run_id = service.client.submit(ROOT / "cwl/demo/workflow.cwl", tmp_path / "in/job.json")
    assert service.client.wait(run_id, timeout=300) == "COMPLETE", problems(service.client.run(run_id))
    outputs = service.client.download(run_id, tmp_path / "out")
    assert Path(outputs["picture"]["path"]).read_bytes().startswith(b"\x89PNG")
    assert outputs["count"] > 3
    assert len(list(service.client.tasks(run_id))) > 12


# ---- what does not -----------------------------------------------------------------------------------


def test_invalid_cwl_is_told_with_file_and_line(service: Service, folder: Path) -> None:
    run = service.run(write(folder / "bad.cwl", ECHO.replace("baseCommand", "baseCmd")), {"word": "x"})
    assert run["state"] == "EXECUTOR_ERROR"
    assert "bad.cwl:4:1" in problems(run)
    assert "baseCmd" in problems(run)
    assert str(service.state) not in problems(run)


def test_what_a_step_refers_to_and_is_not_there_is_told_readably(service: Service, folder: Path) -> None:
    steps = {"say": {"run": "echo.cwl", "in": {"word": "wrod"}, "out": ["out"]}}
    workflow = {"cwlVersion": "v1.2", "class": "Workflow", "inputs": {}, "outputs": {}, "steps": steps}
    run = service.run(write(folder / "bad.cwl", json.dumps(workflow)))
    assert run["state"] == "EXECUTOR_ERROR"
    assert "\n        Field 'source' references unknown identifier 'wrod'" in problems(run)


def test_a_missing_input_is_named(service: Service, folder: Path) -> None:
    run = service.run(folder / "echo.cwl", {})
    assert "Missing required input parameter 'word'" in problems(run)


def test_an_unreachable_workflow_url(service: Service) -> None:
    run = service.run("http://127.0.0.1:9/none.cwl")
    assert run["state"] == "EXECUTOR_ERROR"
    assert "http://127.0.0.1:9/none.cwl" in problems(run)


def test_an_offer_nobody_makes(service: Service, folder: Path) -> None:
    much = {"ShellCommandRequirement": {}, "ResourceRequirement": {"coresMin": 4096}}
    run = service.run(write(folder / "much.cwl", shell("true", requirements=much)))
    assert run["state"] == "SYSTEM_ERROR"
    assert "no node can run this step: here:" in problems(run)
    assert "4096" in problems(run)


def test_an_image_where_there_are_no_containers_is_unsupported(service: Service, folder: Path) -> None:
    image = {"ShellCommandRequirement": {}, "DockerRequirement": {"dockerPull": "alpine"}}
    run = service.run(write(folder / "image.cwl", shell("true", requirements=image)))
    assert run["run_log"]["exit_code"] == 33


def test_a_hostile_expression_does_not_stop_others(service: Service, folder: Path) -> None:
    js = {"InlineJavascriptRequirement": {}}
    hostile = shell("${ while (true) {} }", requirements=js | {"ShellCommandRequirement": {}})
    run_id = service.client.submit(write(folder / "loop.cwl", hostile))
    run = service.run(folder / "echo.cwl", {"word": "meanwhile"})
    assert run["state"] == "COMPLETE"
    assert service.client.status(run_id) == "RUNNING"  # it is still at it
    service.client.cancel(run_id)
    assert service.client.wait(run_id, timeout=30) == "CANCELED"  # not only when its time is up


def test_a_workflow_cannot_read_the_services_files(service: Service, folder: Path) -> None:
    cat = ECHO.replace("echo", "cat").replace("type: string", "type: File")
    run_id = service.client.submit(
        write(folder / "cat.cwl", cat),
        attachments=[],
    )
    service.client.wait(run_id, timeout=60)
    answer = requests.post(
        service.url + "/ga4gh/wes/v1/runs",
        json={
            "workflow_type": "CWL",
            "workflow_type_version": "v1.2",
            "workflow_url": "data:," + requests.utils.quote(cat),
            "workflow_params": {"word": {"class": "File", "location": "file:///etc/hostname"}},
        },
        timeout=10,
    )
    run_id = answer.json()["run_id"]
    service.client.wait(run_id, timeout=60)
    run = service.client.run(run_id)
    assert run["state"] == "EXECUTOR_ERROR"
    assert "outside the folders" in problems(run)


def test_a_node_that_dies_in_the_middle_of_a_step(start_service: Starter, folder: Path) -> None:
    service = start_service()
    tool = shell(
        "sleep 3; echo survived > result",
        outputs={"r": {"type": "File", "outputBinding": {"glob": "result"}}},
    )
    run_id = service.client.submit(write(folder / "long.cwl", tool))
    deadline = time.monotonic() + 60
    while service.client.status(run_id) != "RUNNING" or not any(
        task["state"] == "RUNNING" for task in service.client.tasks(run_id)
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for node in service.children("wes_bridge.node.main"):
        node.kill()
    assert service.client.wait(run_id, timeout=90) == "COMPLETE", problems(service.client.run(run_id))
    tasks = list(service.client.tasks(run_id))
    assert [task["placement"]["attempt"] for task in tasks] == [1]  # found again, not run again


def test_a_full_disk(start_service: Starter, folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (root and mount are needed)")
    try:
        service = start_service(workspace=str(small / "workspace"))
        glob = {"r": {"type": "File", "outputBinding": {"glob": "big"}}}
        script = "head -c 8000000 /dev/zero > big"
        run = service.run(write(folder / "big.cwl", shell(script, outputs=glob)))
        assert run["state"] == "SYSTEM_ERROR"
        assert "No space left" in problems(run)
        service.stop()
    finally:
        subprocess.run(["umount", small], check=True)
        shutil.rmtree(small, ignore_errors=True)


def test_many_outputs_come_home(service: Service, folder: Path, tmp_path: Path) -> None:
    text = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {words: "string[]"}
outputs: {said: {type: "File[]", outputSource: say/said}}
steps:
  say: {run: echo.cwl, scatter: word, in: {word: words}, out: [said]}
"""
    words = [f"word {number}" for number in range(40)]
    run_id = service.client.submit(write(folder / "many.cwl", text), {"words": words})
    assert service.client.wait(run_id, timeout=120) == "COMPLETE", problems(service.client.run(run_id))
    said = service.client.download(run_id, tmp_path / "out")["said"]
    assert [Path(item["path"]).read_text() for item in said] == [f"{word}\n" for word in words]
    assert len({item["path"] for item in said}) == len(words)
    assert len(list(service.client.tasks(run_id))) == len(words)
