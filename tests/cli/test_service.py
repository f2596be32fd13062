"""The commands against a real service."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Command
from wes_bridge.client import WESClient, WESError

pytestmark = pytest.mark.slow

ECHO = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: echo
inputs: {message: {type: string, inputBinding: {position: 1}}}
outputs: {out: stdout}
stdout: out.txt
"""
CAT = """
cwlVersion: v1.2
class: CommandLineTool
requirements: {ShellCommandRequirement: {}}
baseCommand: [sh, -c, 'for f in "$@"; do cat "$f"; test ! -e "$f.i" || cat "$f.i"; done; ls -R "$D"', x]
inputs:
  files: {type: 'File[]', secondaryFiles: .i?, inputBinding: {position: 1}}
  d: Directory
outputs: {out: {type: stdout}}
stdout: out.txt
"""
CAT = CAT.replace(
    "requirements: {ShellCommandRequirement: {}}",
    "requirements: {EnvVarRequirement: {envDef: {D: $(inputs.d.path)}}}",
)
WORKFLOW = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {words: 'string[]'}
outputs: {files: {type: 'File[]', outputSource: echo/out}}
steps: {echo: {scatter: message, in: {message: words}, out: [out], run: tools/echo.cwl}}
"""
FAIL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'exit 3']
inputs: []
outputs: []
"""
SLEEP = FAIL.replace("exit 3", "sleep 100")
NAMES = ["a b.txt", "a#b%20c.txt", "ünï 日本.txt", 'quo"te;x.txt', "plus+and&.txt"]


@pytest.fixture
def client(service_url: str) -> WESClient:
    return WESClient(service_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/echo.cwl").write_text(ECHO)
    for name, text in (("wf", WORKFLOW), ("fail", FAIL), ("sleep", SLEEP), ("cat", CAT)):
        (tmp_path / f"{name}.cwl").write_text(text)
    return tmp_path


def test_client_round_trip(client: WESClient, folder: Path) -> None:
    run = client.submit(folder / "wf.cwl", {"words": ["a", "b"]}, tags={"test": "round trip"})
    assert client.wait(run, timeout=60) == "COMPLETE"
    outputs = client.download(run, folder / "out")
    assert [Path(item["path"]).read_text() for item in outputs["files"]] == ["a\n", "b\n"]
    assert [Path(item["path"]).name for item in outputs["files"]] == ["out.txt", "out.txt"]
    assert [item["run_id"] for item in client.runs(tag={"test": "round trip"}, state="COMPLETE")] == [run]
    tasks = list(client.tasks(run, page_size=1))
    assert [task["node"] for task in tasks] == ["here", "here"]
    assert client.task(run, tasks[0]["id"])["state"] == "COMPLETE"
    assert b"".join(client.log(run, "stdout", tasks[0]["id"])) == b"a\n"
    client.cancel(run)
    assert client.status(run) == "COMPLETE"
    client.delete(run)
    with pytest.raises(WESError) as caught:
        client.run(run)
    assert caught.value.status_code == 404


@pytest.mark.parametrize("upload", [True, False])
def test_files_arrive(service_url: str, folder: Path, upload: bool) -> None:
    for number, name in enumerate(NAMES):
        (folder / name).write_text(f"{number}\n")
    (folder / (NAMES[0] + ".i")).write_text("index\n")
    (folder / "d/empty").mkdir(parents=True)
    (folder / "d/in side.txt").write_text("")
    job = {
        "files": [{"class": "File", "path": str(folder / name)} for name in NAMES],
        "d": {"class": "Directory", "path": str(folder / "d")},
    }
    with WESClient(service_url, upload=upload) as client:
        assert client.shares_files() is not upload
        run = client.submit(folder / "cat.cwl", job)
        assert client.wait(run, timeout=60) == "COMPLETE", client.run(run)["run_log"]
        output = client.download(run, folder / "out")["out"]
    text = Path(output["path"]).read_text()
    assert text.startswith("0\nindex\n1\n2\n3\n4\n")
    assert "empty" in text
    assert "in side.txt" in text


def test_runner(command: Command, service_url: str, folder: Path) -> None:
    done = command("runner", "--outdir=out", "--wes", service_url, "tools/echo.cwl", "--message", "hi there")
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)["out"]
    assert output["path"] == str(folder / "out/out.txt")
    assert output["location"] == "file://" + output["path"]
    assert Path(output["path"]).read_text() == "hi there\n"
    assert output["checksum"].startswith("sha1$")
    assert "Final process status is success" in done.stderr
    (folder / "job.json").write_text('{"message": "from a file"}')
    done = command("runner", "--quiet", "tools/echo.cwl", "job.json", WES_BRIDGE_URL=service_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "out.txt").read_text() == "from a file\n"


def test_runner_fails(command: Command, service_url: str, folder: Path) -> None:
    done = command("runner", "--wes", service_url, "fail.cwl")
    assert done.returncode == 1
    assert "exit code 3" in done.stderr
    assert "permanentFail" in done.stderr
    done = command("runner", "--wes", service_url, "tools/echo.cwl", "--massage", "x")
    assert done.returncode == 1
    assert "did you mean --message?" in done.stderr
    done = command("runner", "--wes", "http://127.0.0.1:9", "fail.cwl")
    assert done.returncode == 1
    assert "cannot reach http://127.0.0.1:9" in done.stderr


def test_runner_says_what_is_unsupported(command: Command, service_url: str, folder: Path) -> None:
    docker = "requirements: {DockerRequirement: {dockerFile: FROM scratch, dockerImageId: ''}}\n"
    (folder / "built.cwl").write_text(FAIL + docker)
    done = command("runner", "--wes", service_url, "built.cwl")
    assert done.returncode == 33, done.stderr


def test_commands(command: Command, service_url: str, folder: Path) -> None:
    done = command("wes-bridge", "run", "wf.cwl", WES_BRIDGE_URL=service_url)
    assert "Missing required input parameter 'words'" in done.stderr
    assert "why there" not in done.stderr  # no head of a table without rows
    done = command("wes-bridge", "run", "wf.cwl", "--words", "x", "--words", "y", WES_BRIDGE_URL=service_url)
    assert done.returncode == 0, done.stderr
    assert "echo" in done.stderr
    assert "here" in done.stderr
    assert len(json.loads(done.stdout)["files"]) == 2
    detached = command(
        "wes-bridge", "run", "--detach", "--tag", "a=b", "sleep.cwl", WES_BRIDGE_URL=service_url
    )
    run_id = detached.stdout.strip()
    listed = command("wes-bridge", "runs", "--tag", "a=b", "--json", "--wes", service_url)
    assert [run["run_id"] for run in json.loads(listed.stdout)] == [run_id]
    cancelled = command("wes-bridge", "cancel", "--wait", run_id, "--wes", service_url)
    assert cancelled.stdout == f"{run_id} CANCELED\n"
    assert "CANCELED" in command("wes-bridge", "show", run_id, "--wes", service_url).stdout
    assert command("wes-bridge", "logs", run_id, "--wes", service_url).returncode == 0
    assert command("wes-bridge", "outputs", run_id, "--wes", service_url).stdout == "{}\n"
    assert command("wes-bridge", "delete", run_id, "--wes", service_url).returncode == 0
    gone = command("wes-bridge", "show", run_id, "--wes", service_url)
    assert gone.returncode == 1
    assert gone.stderr.startswith("error: ")


def test_validate(command: Command, folder: Path) -> None:
    assert command("wes-bridge", "validate", "wf.cwl").returncode == 0
    (folder / "job.yml").write_text("words: 3\n")
    wrong = command("wes-bridge", "validate", "wf.cwl", "job.yml")
    assert wrong.returncode == 1
    assert "words" in wrong.stderr
    (folder / "bad.cwl").write_text(WORKFLOW.replace("echo/out", "ecko/out"))
    wrong = command("wes-bridge", "validate", "bad.cwl", "--json")
    assert "bad.cwl:6:" in json.loads(wrong.stdout)["problems"][0]


def test_private_service_runs_and_leaves_nothing(
    command: Command, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("tmp")
    done = command("runner", "tools/echo.cwl", "--message", "private", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert (folder / "out.txt").read_text() == "private\n"
    assert list(temporary.iterdir()) == []


def started(environment: dict[str, str], folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_interrupt_cancels(environment: dict[str, str], folder: Path, client: WESClient) -> None:
    client.service_info()
    words = ["wes_bridge.cli.runner", "--wes", client.url, "--tag", "test=interrupt", "sleep.cwl"]
    process = started(environment, folder, *words)
    assert process.stderr is not None
    run_id = process.stderr.readline().split()[1]
    while client.status(run_id) != "RUNNING":
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert client.status(run_id) == "CANCELED"


def test_serve_ends_with_its_children(environment: dict[str, str], folder: Path) -> None:
    words = ["wes_bridge.cli.main", "serve", "--port", "0", "--state", "state", "--quiet"]
    for how in (signal.SIGTERM, signal.SIGKILL):
        process = started(environment, folder, *words)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("wes-bridge is ready at http://127.0.0.1:")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode == (0 if how is signal.SIGTERM else -9)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []


def test_serve_restarts_a_crashed_child(environment: dict[str, str], folder: Path) -> None:
    words = ["wes_bridge.cli.main", "serve", "--port", "0", "--state", "state", "--quiet"]
    process = started(environment, folder, *words)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        serve = psutil.Process(process.pid)
        for child in serve.children():
            os.kill(child.pid, signal.SIGKILL)
        with WESClient(url) as client:
            deadline = time.monotonic() + 60
            while True:  # steps fail until the node is back
                run = client.submit(folder / "tools/echo.cwl", {"message": "again"})
                if client.wait(run, timeout=60) == "COMPLETE" or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            assert client.status(run) == "COMPLETE"
        second = started(environment, folder, *words)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"another wes-bridge ({process.pid} {url}) uses" in errors
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_serve_tells_what_is_wrong(command: Command, service_url: str) -> None:
    wrong = command("wes-bridge", "serve", "--port", "99999", WES_BRIDGE_WORKERS="3")
    assert wrong.returncode == 2
    assert wrong.stderr.count("error: ") == 2
    taken = command("wes-bridge", "serve", "--port", service_url.rpartition(":")[2], "--state", "s")
    assert taken.returncode == 1
    assert "choose another with --port" in taken.stderr
    url = "postgresql+psycopg://wes:secret@127.0.0.1:9/wes"
    away = command("wes-bridge", "serve", "--port", "0", "--state", "s", "--database", url)
    assert away.returncode == 1
    assert "cannot open the database: connection failed" in away.stderr
    assert "start it, or name another with --database" in away.stderr
    assert not any(noise in away.stderr for noise in ("sqlalche.me", "Traceback", "secret"))
