"""``wes-bridge run`` by itself reads what the job and its documents name, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'cat "$0" "$1" "$2"/*']
inputs:
  named: {type: File, inputBinding: {position: 1}}
  usual:
    type: File
    default: {class: File, location: usual.txt}
    inputBinding: {position: 2}
  folder: {type: Directory, inputBinding: {position: 3}}
outputs:
  all: {type: stdout}
stdout: all.txt
"""


def test_a_file_a_default_and_a_folder(tmp_path: Path) -> None:
    documents, data = tmp_path / "documents", tmp_path / "data"
    documents.mkdir()
    (data / "night").mkdir(parents=True)
    (documents / "tool.cwl").write_text(TOOL)
    (documents / "usual.txt").write_text("usual\n")
    (data / "named.txt").write_text("named\n")
    (data / "night" / "one.txt").write_text("one\n")
    job = tmp_path / "job.yml"
    job.write_text(
        "named: {class: File, path: data/named.txt}\nfolder: {class: Directory, path: data/night}\n"
    )
    words = ["run", "--outdir", str(tmp_path / "out"), str(documents / "tool.cwl"), str(job)]
    command = [sys.executable, "-m", "wes_bridge.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["all"]["path"]).read_text() == "named\nusual\none\n"
