"""A service tells what its nodes do not enforce: of itself, and in the log of each task that ran without."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import requests

from tests.service.conftest import Starter
from tests.waiting import until

TOOL = """
cwlVersion: v1.2
class: CommandLineTool
requirements: {NetworkAccess: {networkAccess: %s}}
baseCommand: ["sh", "-c", "exit %d"]
inputs: []
outputs: []
"""


@pytest.mark.parametrize("code", [0, 3])
def test_without_a_sandbox(start_service: Starter, tmp_path: Path, code: int) -> None:
    site = start_service(nodes=[{"name": "bare", "sandbox": "none"}])
    tool = tmp_path / "tool.cwl"
    tool.write_text(TOOL % ("false", code))
    run = site.run(tool)
    (task,) = site.client.tasks(run["run_id"])
    words = task["system_logs"][-3:]
    expected = ["runs without a sandbox", "leaves behind", "from using the network"]
    assert [wanted in text for wanted, text in zip(expected, words, strict=True)] == [True] * 3, words
    assert task["placement"]["unenforced"] == words
    failed = [line for line in run["run_log"]["system_logs"] or [] if "sandbox" in line]
    assert failed == [], "what a run says of its end is why it ended"
    info = f"{site.url}/ga4gh/wes/v1/service-info"
    until(lambda: "unenforced" in requests.get(info, timeout=60).json())
    assert any(
        "without a sandbox" in text for text in requests.get(info, timeout=60).json()["unenforced"]["bare"]
    )
    log = site.log.read_text()
    for what in ("without a sandbox", "leaves behind", "session_gib"):
        assert (what in log) == (what != "session_gib"), "what is quiet is no warning"
        assert any(what in text for text in requests.get(info, timeout=60).json()["unenforced"]["bare"])
    narrow = [site.state, *site.state.iterdir(), *(site.state / "nodes" / "bare").iterdir()]
    wide = [path for path in narrow if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert (wide, stat.S_IMODE(site.state.stat().st_mode)) == ([], 0o700)


@pytest.mark.bwrap
def test_with_one_nothing_is_said(start_service: Starter, tmp_path: Path) -> None:
    site = start_service(nodes=[{"name": "good"}])
    tool = tmp_path / "tool.cwl"
    tool.write_text(TOOL % ("false", 0))
    (task,) = site.client.tasks(site.run(tool)["run_id"])
    assert task["system_logs"] == []
    assert "unenforced" not in task["placement"]
    info = f"{site.url}/ga4gh/wes/v1/service-info"
    until(lambda: "unenforced" in requests.get(info, timeout=60).json())
    told = requests.get(info, timeout=60).json()["unenforced"]["good"]
    assert [text for text in told if "session_gib" in text], "whoever asks is told what is only looked at"
