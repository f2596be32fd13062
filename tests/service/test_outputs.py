"""What users get of a run: names, permissions and odd entries, from the tool to folders and archives."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service
from wes_bridge import WESClient

SCATTER = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {words: "string[]"}
outputs:
  tables: {type: "File[]", outputSource: write/table}
  sets: {type: "Directory[]", outputSource: write/set}
steps:
  write:
    scatter: word
    in: {word: words}
    out: [table, set]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'mkdir sky.ms; echo $0 | tee table sky.ms/column; echo of $0 >table.index']
      inputs: {word: {type: string, inputBinding: {}}}
      outputs:
        table: {type: File, secondaryFiles: [.index], outputBinding: {glob: table}}
        set: {type: Directory, outputBinding: {glob: sky.ms}}
"""


def tool(command: str, outputs: dict[str, Any], **more: Any) -> str:
    body = {"inputs": {}, "baseCommand": ["sh", "-c", command], "outputs": outputs} | more
    return json.dumps({"cwlVersion": "v1.2", "class": "CommandLineTool"} | body)


def a(kind: str, glob: str) -> dict[str, Any]:
    return {"type": kind, "outputBinding": {"glob": glob}}


def run(service: Service, folder: Path, text: str, params: Any = None, **options: Any) -> dict[str, Any]:
    (folder / "w.cwl").write_text(text)
    return service.run(folder / "w.cwl", params, **options)


def test_outputs_of_one_name_keep_it_in_the_run_in_downloads_and_in_archives(
    service: Service, tmp_path: Path
) -> None:
    words = [f"w{number}" for number in range(20)]  # enough for the client to ask for an archive
    log = run(service, tmp_path, SCATTER, {"words": words})
    assert log["state"] == "COMPLETE", log["run_log"]
    for outputs in (log["outputs"], service.client.download(log["run_id"], tmp_path / "out")):
        assert {item["basename"] for item in outputs["tables"]} == {"table"}
        assert {item["secondaryFiles"][0]["basename"] for item in outputs["tables"]} == {"table.index"}
        assert {item["basename"] for item in outputs["sets"]} == {"sky.ms"}
    for word, table, sky in zip(words, outputs["tables"], outputs["sets"], strict=True):
        path = Path(table["path"])
        assert path.read_text() == f"{word}\n"
        assert path.with_name("table.index").read_text() == f"of {word}\n"
        assert Path(sky["path"], "column").read_text() == f"{word}\n"
    url = log["outputs"]["tables"][0]["location"].removesuffix("/table")
    with tarfile.open(fileobj=io.BytesIO(requests.get(f"{url}?archive=tar", timeout=60).content)) as archive:
        packed = [member.name for member in archive if member.isfile()]
    assert sum(name.endswith("/table") for name in packed) == len(words)
    assert sum(name.endswith("/table.index") for name in packed) == len(words)


PROGRAMS = tool(
    "printf '#!/bin/sh\\necho ran\\n' >prog; chmod 4755 prog; mkdir bin; cp prog bin/prog;"
    " chmod 2750 bin/prog; echo text >plain; cp plain bin/plain",
    {"prog": a("File", "prog"), "plain": a("File", "plain"), "bin": a("Directory", "bin")},
)


def modes(folder: Path) -> dict[str, int]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


def test_programs_stay_executable_and_get_no_rights_of_their_owner(service: Service, tmp_path: Path) -> None:
    log = run(service, tmp_path, PROGRAMS)
    assert log["state"] == "COMPLETE", log["run_log"]
    service.client.download(log["run_id"], tmp_path / "out")
    expected = {"prog": True, "plain": False, "bin/prog": True, "bin/plain": False}
    (left,) = (service.state / "workspace" / log["run_id"] / "tasks").glob("*/out")
    for found in (modes(tmp_path / "out"), modes(left.parents[2] / "outputs"), modes(left)):
        assert {name: bool(mode & 0o100) for name, mode in found.items()} == expected
        assert not any(mode & 0o7000 for mode in found.values())
    folder = log["outputs"]["bin"]["location"]
    listed = {
        item["name"]: item.get("executable", False)
        for item in requests.get(folder, timeout=60).json()["entries"]
    }
    assert listed == {"prog": True, "plain": False}
    with tarfile.open(
        fileobj=io.BytesIO(requests.get(f"{folder}?archive=tar", timeout=60).content)
    ) as archive:
        assert {m.name: oct(m.mode) for m in archive if m.isfile()} == {
            "bin/prog": "0o755",
            "bin/plain": "0o644",
        }
    with zipfile.ZipFile(io.BytesIO(requests.get(f"{folder}?archive=zip", timeout=60).content)) as packed:
        found = {
            info.filename: oct(info.external_attr >> 16) for info in packed.infolist() if not info.is_dir()
        }
        assert found == {"bin/prog": "0o755", "bin/plain": "0o644"}


DEFAULT = {
    "inputs": {
        "script": {"type": "File", "default": {"class": "File", "location": "say.sh"}},
        "set": {"type": "Directory"},
    },
    "arguments": ["$(inputs.script.path)", "$(inputs.set.path)/say.sh"],
}


def test_an_uploaded_script_can_be_run(service: Service, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for place in (tmp_path, tmp_path / "set"):
        (place / "say.sh").write_text("#!/bin/sh\necho said\n")
        (place / "say.sh").chmod(0o4750)
    text = tool('"$0" && "$1"', {"said": {"type": "stdout"}}, stdout="said", **DEFAULT)
    (tmp_path / "w.cwl").write_text(text)
    with WESClient(service.url, upload=True) as client:
        run_id = client.submit(
            tmp_path / "w.cwl", {"set": {"class": "Directory", "location": str(tmp_path / "set")}}
        )
        client.wait(run_id, timeout=120)
        log = client.run(run_id)
        assert log["state"] == "COMPLETE", log["run_log"]
        said = client.download(run_id, tmp_path / "out")["said"]
    assert Path(said["path"]).read_text() == "said\nsaid\n"
    attached = modes(service.state / "workspace" / run_id / "attachments")
    assert {oct(mode) for name, mode in attached.items() if name.endswith(".sh")} == {"0o755"}
    assert attached["w.cwl"] == 0o644


ODD = ["back\\slash", "new\nline", "tab\there", "per%cent?#", "ünï, c:d=e", "bell\a"]


def test_odd_names_arrive_as_they_are(service: Service, tmp_path: Path) -> None:
    made = "".join(f"printf %s {number} >'d/{name}';" for number, name in enumerate(ODD))
    log = run(service, tmp_path, tool(f"mkdir d; {made}", {"d": a("Directory", "d")}))
    assert log["state"] == "COMPLETE", log["run_log"]
    for entry in log["outputs"]["d"]["listing"]:  # one by one, as any client does it
        answer = requests.get(entry["location"], timeout=60)
        assert (answer.status_code, answer.text) == (200, str(ODD.index(entry["basename"])))
    service.client.download(log["run_id"], tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out" / "d").iterdir()} == {
        name: str(number) for number, name in enumerate(ODD)
    }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mkfifo d/sub/pipe", "d/sub/pipe is a named pipe (FIFO)"),
        ("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/sock\")'", "d/sock is a socket"),
        ("ln -s nowhere d/dangling", "d/dangling is a link to nowhere, which is not there"),
        ("ln -s . d/loop", "d/loop leads back, through a link, to a folder that it is in"),
        ("ln -s b d/a; ln -s a d/b", "d/a is a link to b, which leads back to itself"),
        ("ln -s ../.. d/sub/up", "d/sub/up/d leads back, through a link, to a folder that it is in"),
        ("ln -s /etc/passwd d/out", "d/out is a link to /etc/passwd, which is not among the run's files"),
        ("touch \"$(printf 'd/caf\\351')\"", "d/caf\\xe9 has a name that is not UTF-8"),
    ],
)
def test_what_cannot_be_handed_out_fails_the_run_by_name_and_the_rest_is_there(
    service: Service, tmp_path: Path, command: str, said: str
) -> None:
    text = tool(f"mkdir -p d/sub; echo x >d/sub/f; {command}", {"d": a("Directory", "d")})
    log = run(service, tmp_path, text)
    assert log["state"] == "EXECUTOR_ERROR"
    assert any(f"output d: {said}" in line for line in log["run_log"]["system_logs"]), log["run_log"]
    service.client.download(log["run_id"], tmp_path / "out")
    assert (tmp_path / "out" / "d" / "sub" / "f").read_text() == "x\n"


def test_what_a_command_leaves_in_a_directory_comes_along(service: Service, tmp_path: Path) -> None:
    command = (
        "mkdir -p d/locked d/empty; echo y >d/locked/g; chmod 444 d/locked/g; chmod 555 d/locked; : >d/zero;"
        " echo h >d/.hidden; echo x >d/f; ln d/f d/hard; ln -s f d/soft; ln -s locked d/alias"
    )
    log = run(service, tmp_path, tool(command, {"d": a("Directory", "d")}))
    assert log["state"] == "COMPLETE", log["run_log"]
    service.client.download(log["run_id"], tmp_path / "out")
    found = {os.path.relpath(path, tmp_path / "out" / "d") for path in (tmp_path / "out" / "d").rglob("*")}
    names = {".hidden", "f", "hard", "soft", "zero", "empty", "locked", "locked/g", "alias", "alias/g"}
    assert found == names
    assert (tmp_path / "out" / "d" / "alias" / "g").read_text() == "y\n"


def test_some_outputs_can_be_had_without_a_large_one_beside_them(service: Service, tmp_path: Path) -> None:
    command = "mkdir d; truncate -s 60M d/a; for n in $(seq 20); do echo $n >d/z$n; done"
    log = run(service, tmp_path, tool(command, {"d": a("Directory", "d")}))
    assert log["state"] == "COMPLETE", log["run_log"]
    small = [entry for entry in log["outputs"]["d"]["listing"] if entry["basename"] != "a"]
    got = service.client.download(log["run_id"], tmp_path / "out", outputs={"small": small})
    texts = {Path(entry["path"]).name: Path(entry["path"]).read_text() for entry in got["small"]}
    assert texts == {f"z{n}": f"{n}\n" for n in range(1, 21)}
    assert not list((tmp_path / "out").rglob("a"))
