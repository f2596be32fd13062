"""A workflow takes no file along that its user did not name and that is not of its project."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.hostile_web import HostileWeb, hostile_web, text
from wes_bridge.bundle import Bundle, BundleError, OutsideError, make_bundle

CANARY = "-----BEGIN OPENSSH PRIVATE KEY----- canary"
TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs:
  x: {type: File, default: {class: File, location: LOCATION}, inputBinding: {}}
outputs: []
"""
PLAIN = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: echo\ninputs: {x: File?}\noutputs: []\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with something to lose, and a workflow that was downloaded."""
    made = tmp_path / "home"
    for name in (".ssh", "wf/sub", "data"):
        (made / name).mkdir(parents=True)
    (made / ".ssh/id_rsa").write_text(CANARY)
    (made / ".aws.yml").write_text(f"key: '{CANARY}'\n")
    (made / "data/in.txt").write_text("mine")
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.chdir(made)
    return made


def taken(bundle: Bundle) -> str:
    return " ".join(
        item.content.decode() if isinstance(item.content, bytes) else item.content.read_text()
        for item in bundle.attachments
    )


HOSTILE = {
    "default": TOOL.replace("LOCATION", "../.ssh/id_rsa"),
    "absolute": TOOL.replace("LOCATION", "file://{home}/.ssh/id_rsa"),
    "path": TOOL.replace("LOCATION", "x").replace("location: x", "path: '{home}/.ssh/id_rsa'"),
    "dots": TOOL.replace("LOCATION", "sub/../../.ssh/id_rsa"),
    "quoted": TOOL.replace("LOCATION", "'%2e%2e/.ssh/id_rsa'"),
    "link": TOOL.replace("LOCATION", "link"),
    "folder": TOOL.replace("LOCATION", "../.ssh").replace("File", "Directory"),
    "linked folder": TOOL.replace("LOCATION", "sub").replace("File", "Directory"),
    "secondary": TOOL.replace("LOCATION", "a.txt").replace("inputBinding: {}", "secondaryFiles: [.key]"),
    "include": PLAIN
    + "hints:\n  InlineJavascriptRequirement: {expressionLib: [{$include: ../.ssh/id_rsa}]}\n",
    "import": PLAIN + "hints: {$import: ../.aws.yml}\n",
    "import of a key": PLAIN + "hints: {$import: ../.ssh/id_rsa}\n",
    "schema": PLAIN + "$schemas: [../.ssh/id_rsa]\n",
    "work dir": PLAIN
    + "requirements:\n  InitialWorkDirRequirement: {listing: [{class: File, location: ../.ssh/id_rsa}]}\n",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_workflow_takes_nothing_along(home: Path, name: str) -> None:
    (home / "wf/link").symlink_to("../.ssh/id_rsa")
    (home / "wf/sub/key").symlink_to("../../.ssh/id_rsa")
    (home / "wf/a.txt").write_text("a")
    (home / "wf/a.txt.key").symlink_to("../.ssh/id_rsa")
    (home / "wf/w.cwl").write_text(HOSTILE[name].replace("{home}", str(home)))
    with pytest.raises(OutsideError, match="outside the workflow's project") as caught:
        make_bundle("wf/w.cwl")
    assert "--upload-from" in str(caught.value)
    assert CANARY not in str(caught.value)
    if "import" not in name:
        assert CANARY in taken(make_bundle("wf/w.cwl", upload_from=[home / ".ssh"]))


def test_a_tool_of_the_workflow_takes_nothing_along_either(home: Path) -> None:
    (home / "wf/t.cwl").write_text(HOSTILE["default"])
    (home / "wf/w.cwl").write_text(
        "cwlVersion: v1.2\nclass: Workflow\ninputs: []\noutputs: []\n"
        "steps: {a: {run: t.cwl, in: [], out: []}}\n"
    )
    with pytest.raises(OutsideError, match=r"t\.cwl:5"):
        make_bundle("wf/w.cwl")


def test_what_the_user_names_is_taken_from_anywhere(home: Path) -> None:
    (home / "wf/w.cwl").write_text(PLAIN)
    (home / "wf/linked.txt").symlink_to("../data/in.txt")
    (home / "job.yml").write_text("x: {class: File, path: data/in.txt}\n")
    for given in ({"params": "job.yml"}, {"arguments": ["--x", "wf/linked.txt"]}):
        assert "mine" in taken(make_bundle("wf/w.cwl", **given))  # type: ignore[arg-type]


def test_tools_beside_the_workflow_s_folder_are_cwl_and_taken(home: Path) -> None:
    (home / "tools").mkdir()
    (home / "tools/t.cwl").write_text(PLAIN)
    (home / "wf/w.cwl").write_text(
        "cwlVersion: v1.2\nclass: Workflow\ninputs: []\noutputs: []\n"
        "steps: {a: {run: ../tools/t.cwl, in: [], out: []}}\n"
    )
    assert len(make_bundle("wf/w.cwl").attachments) == 2
    (home / "tools/lib.js").write_text("1")
    (home / "tools/t.cwl").write_text(HOSTILE["include"].replace("../.ssh/id_rsa", "lib.js"))
    with pytest.raises(OutsideError, match=r"lib\.js is outside"):
        make_bundle("wf/w.cwl")


def test_all_of_a_git_work_tree_is_one_project_but_for_a_home(home: Path) -> None:
    project = home / "project"
    for name in ("workflows", "data", ".git"):
        (project / name).mkdir(parents=True)
    (project / "data/x").write_text("of the project")
    workflow = project / "workflows/w.cwl"
    workflow.write_text(TOOL.replace("LOCATION", "../data/x"))
    assert "of the project" in taken(make_bundle(workflow))
    workflow.write_text(TOOL.replace("LOCATION", "../../.ssh/id_rsa"))
    with pytest.raises(OutsideError):
        make_bundle(workflow)
    (home / ".git").mkdir()
    (home / "wf/w.cwl").write_text(HOSTILE["default"])
    with pytest.raises(OutsideError):
        make_bundle("wf/w.cwl")


@pytest.fixture
def wes() -> Iterator[HostileWeb]:
    """As much of a service as a client needs to upload something."""
    info = b'{"supported_wes_versions": ["1.1.0"], "workflow_type_versions": {}}'
    base = "/ga4gh/wes/v1"
    with hostile_web({f"{base}/service-info": text(info), f"{base}/runs": text(b'{"run_id": "r1"}')}) as web:
        yield web


@pytest.mark.parametrize("module", ["wes_bridge.cli.main", "wes_bridge.cli.runner"])
def test_the_command_says_how_to_allow_it_and_sends_nothing(home: Path, wes: HostileWeb, module: str) -> None:
    (home / "wf/w.cwl").write_text(HOSTILE["default"])
    words = ["run"] if module.endswith("main") else []
    command = [sys.executable, "-m", module, *words, "--wes", wes.url, "--upload", "wf/w.cwl"]
    said = subprocess.run(command, capture_output=True, check=False, text=True, stdin=subprocess.DEVNULL)
    assert said.returncode == 1
    assert f"--upload-from {home}/.ssh" in said.stderr
    assert "/ga4gh/wes/v1/runs" not in wes.paths


@pytest.mark.parametrize(("answer", "sent"), [(b"n\n", 0), (b"y\n", 1)])
def test_on_a_terminal_it_asks(home: Path, wes: HostileWeb, answer: bytes, sent: int) -> None:
    (home / "wf/w.cwl").write_text(HOSTILE["default"])
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "wes_bridge.cli.main", "run", "--wes", wes.url, "--detach", "wf/w.cwl"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as asking:
        os.close(slave)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(master, 4096)
        os.write(master, answer)
        with contextlib.suppress(OSError):  # the terminal's end
            while os.read(master, 4096):
                pass
        assert asking.wait(60) == 1 - sent
    os.close(master)
    assert b".ssh/id_rsa is outside" in said
    assert wes.paths.count("/ga4gh/wes/v1/runs") == sent


def test_a_missing_file_is_no_secret(home: Path) -> None:
    (home / "wf/w.cwl").write_text(HOSTILE["include"].replace("id_rsa", "nothing"))
    with pytest.raises(BundleError, match="is not there"):
        make_bundle("wf/w.cwl")
