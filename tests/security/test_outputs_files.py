"""What a step leaves behind is read by the node and by the engine: it may be no file, or have no end."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import Service, Starter, start_service  # noqa: F401
from tests.service.test_runs import ECHO, shell
from wes_bridge.small_files import NotSmallError, read_end, read_small

OBJECT = "cwl.output.json"
SCRIPTS = {
    "pipe": (f"mkfifo {OBJECT}", "pipe"),
    "hole": (f"truncate -s 4T {OBJECT}", "larger than"),
    "large": (
        f"head -c 100000000 /dev/zero | tr '\\0' ' ' > {OBJECT}; echo '{{}}' >> {OBJECT}",
        "larger than",
    ),
    "folder": (f"mkdir {OBJECT}", "folder"),
    "many values": (
        f"(echo '{{\"a\": ['; yes '[],' | head -2500000 | tr -d '\\n'; echo '1]}}') > {OBJECT}",
        "values",
    ),
    "deep": (
        f"(echo '{{\"a\":'; yes '[' | head -3000; echo 1; yes ']' | head -3000; echo '}}') > {OBJECT}",
        "nested",
    ),
    "half a character": (f'echo \'{{"a": "\\ud800"}}\' > {OBJECT}', "Unicode"),
    "half a name": (f'echo \'{{"\\udfff": "x"}}\' > {OBJECT}', "Unicode"),
    "no text": (f"printf '\\377\\376' > {OBJECT}", "UTF-8"),
    "many digits": (
        f"(echo '{{\"a\":'; head -c 100000 /dev/zero | tr '\\0' 9; echo '}}') > {OBJECT}",
        OBJECT,
    ),
}


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:  # noqa: F811
    return start_service()


def rss(service: Service) -> int:
    processes = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children()]
    return max(process.memory_info().rss for process in processes)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_output_object_is_a_small_file(service: Service, tmp_path: Path, name: str) -> None:
    script, words = SCRIPTS[name]
    before = rss(service)
    (tmp_path / "tool.cwl").write_text(shell(script, outputs={"a": "Any?"}))
    run = service.run(tmp_path / "tool.cwl")
    told = "\n".join(run["run_log"]["system_logs"])
    assert run["state"] in ("EXECUTOR_ERROR", "SYSTEM_ERROR"), run["outputs"]
    assert words in told
    assert "internal error" not in told
    (tmp_path / "echo.cwl").write_text(ECHO)
    assert service.run(tmp_path / "echo.cwl", {"word": "on"})["state"] == "COMPLETE"
    assert rss(service) - before < 300 * 1024**2


@pytest.mark.parametrize("target", ["/dev/zero", OBJECT])
def test_a_link_out_of_the_run_is_no_output_object(service: Service, tmp_path: Path, target: str) -> None:
    (tmp_path / "tool.cwl").write_text(shell(f"ln -s {target} {OBJECT}", outputs={"a": "Any?"}))
    run = service.run(tmp_path / "tool.cwl")
    assert (run["state"], run["outputs"]) == ("COMPLETE", {"a": None})


@pytest.mark.parametrize("loads", [False, True])
def test_an_output_is_no_pipe(service: Service, tmp_path: Path, loads: bool) -> None:
    binding = {"glob": "out", "loadContents": loads}
    tool = shell("mkfifo out", outputs={"a": {"type": "File", "outputBinding": binding}})
    (tmp_path / "tool.cwl").write_text(tool)
    run = service.run(tmp_path / "tool.cwl")
    assert run["state"] == "EXECUTOR_ERROR"
    assert "pipe" in json.dumps(run["run_log"]["system_logs"])


def test_small_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        for name in ("pipe", "socket", "."):
            with pytest.raises(OSError):
                read_small(tmp_path / name, 10)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(NotSmallError, match="larger than 10 bytes"):
        read_small(tmp_path / "hole", 10)
    assert read_end(tmp_path / "hole", 10) == bytes(10)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_text("1234567890")
    assert read_small(tmp_path / "link", 10) == b"1234567890"
    with pytest.raises(OSError, match="symbolic links"):
        read_small(tmp_path / "link", 10, follow=False)
