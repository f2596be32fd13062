"""A command that takes too much ends its own session, with words that name the limit; others go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.node.conftest import NodeProcess, Request, Starter, process, session_kinds, shell, texts
from tests.waiting import until
from wes_bridge.node.platforms.groups import Groups
from wes_bridge.node.platforms.processes import Roots
from wes_bridge.node.platforms.sandbox import bubblewrap

SANDBOX = "bwrap" if bubblewrap()[0] else "none"
BOMB = "import os, time\nfor _ in range(11):\n    os.fork()\n    time.sleep(0.1)\ntime.sleep(300)\n"
"""A bomb of 2,048 processes: a real one would be other tests' too, where it is not held."""
CHILDREN = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        block = bytearray(20_000_000)
        for at in range(0, len(block), 4096):
            block[at] = 1
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
FILLER = """
import os, time
for number in range(1000):
    with open(f"{PLACE}/f{number}", "wb") as file:
        file.write(os.urandom(1_000_000))
    time.sleep(0.02)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def node(start_node: Starter) -> NodeProcess:
    return start_node(
        sandbox=SANDBOX, platforms=["process"], max_processes=50, session_gib=0.02, max_running=4, cores=4
    )


def python(program: str, **compute: object) -> Request:
    return Request(process("python3", "-c", program), **compute)


def ended(node: NodeProcess, request: Request, kind: str, *words: str) -> None:
    """The session ends by this limit and says so; another one, beside it, does not notice."""
    neighbour = node.begin(Request(shell("sleep 2; echo well")))
    session = node.end(node.begin(request))
    assert session["phase"] == "FAILED"
    assert kind in session_kinds(session), texts(session)
    for word in words:
        assert word in texts(session)
    neighbour = node.end(neighbour)
    assert neighbour["phase"] == "COMPLETED", texts(neighbour)
    assert node.stream(neighbour) == "well\n"


@pytest.mark.skipif(SANDBOX == "none", reason="nothing holds a fork bomb without a sandbox")
def test_a_fork_bomb(node: NodeProcess) -> None:
    ended(node, python(BOMB), "urn:wes-bridge:process-limit", "50 that are allowed", "max_processes")
    left = [one for one in psutil.process_iter(["cmdline"]) if BOMB in (one.info["cmdline"] or ())]
    assert left == []


def test_a_control_group_holds_processes() -> None:
    """Where groups can be made, the system itself refuses the next process."""
    groups = Groups()
    if groups.why is not None:
        pytest.skip(groups.why)
    name = f"test-{os.getpid()}"
    script = "read go; for n in 1 2 3 4 5 6 7 8 9; do sleep 20 & done; wait"
    command = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert command.stdin is not None
    try:
        assert groups.hold(name, Roots(command.pid), 5)
        assert not groups.has_refused(name)
        command.stdin.write(b"go\n")
        command.stdin.flush()
        until(lambda: groups.has_refused(name), 20)
        assert len(psutil.Process(command.pid).children()) <= 4
    finally:
        os.killpg(command.pid, signal.SIGKILL)
        command.communicate()
    until(lambda: groups.let_go(name) or not groups.has_refused(name), 20)


def test_a_control_group_holds_memory() -> None:
    """Where groups can be made, the system itself ends what takes more."""
    groups = Groups()
    if groups.why_no_memory is not None:
        pytest.skip(groups.why_no_memory)
    name = f"test-memory-{os.getpid()}"
    script = "input(); taken = b'x' * 400_000_000; print(len(taken))"
    command = subprocess.Popen(
        [sys.executable, "-I", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert groups.hold(name, Roots(command.pid), None, 100_000_000)
        assert not groups.has_run_out(name)
        told, _ = command.communicate(b"\n", 60)
        assert (told, command.returncode) == (b"", -signal.SIGKILL)
        assert groups.has_run_out(name)
        assert not groups.has_refused(name)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.communicate()
        until(lambda: groups.let_go(name) or not groups.has_run_out(name), 20)


def test_memory_that_is_taken_between_two_looks(start_node: Starter) -> None:
    """The command has it, and has ended, before anybody looks again; only a control group notices."""
    if (why := Groups().why_no_memory) is not None:
        pytest.skip(why)
    node = start_node(sandbox="none")
    script = "import time; time.sleep(0.7); taken = b'x' * 600_000_000"
    ended(node, python(script, memory={"maxBytes": 100_000_000}), "urn:wes-bridge:memory-limit", "allowed")


def test_where_there_are_no_groups_it_is_said_why(tmp_path: Path) -> None:
    for groups, says in (
        (Groups(tmp_path, ""), "no control groups for"),
        (Groups(tmp_path, "4:memory:/a\n8:pids:/b\n"), "cannot be made here"),
    ):
        assert says in str(groups.why)
        assert says in str(groups.why_no_memory)
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    groups = Groups(tmp_path, "0::/\n")
    assert "no pids controller" in str(groups.why)
    assert "no memory controller (systemd: Delegate=pids memory)" in str(groups.why_no_memory)
    assert "cannot be made" in str(Groups(tmp_path, "0::/elsewhere\n").why)


def test_a_group_of_version_2_that_is_delegated(tmp_path: Path) -> None:
    """Of the files that systemd and the kernel would have there; the kernel here may know version 1 only."""
    (tmp_path / "cgroup.controllers").write_text("cpu pids memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("pids memory\n")
    name, group = "one", tmp_path / "wes-bridge-session-one"
    group.mkdir()
    for file in ("pids.max", "memory.max", "memory.swap.max", "memory.oom.group", "cgroup.procs"):
        (group / file).write_text("")
    groups = Groups(tmp_path, "0::/\n")
    assert "no limit of pids" in str(groups.why)  # a new folder is no group here
    groups._parents = dict.fromkeys(("pids", "memory"), tmp_path)
    assert groups.hold(name, Roots(os.getpid()), 7, 1000)
    written = {file.name: file.read_text() for file in group.iterdir() if file.name != "cgroup.procs"}
    expected = {"pids.max": "7", "memory.max": "1000", "memory.swap.max": "0", "memory.oom.group": "1"}
    assert written == expected
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert groups.has_run_out(name)
    assert not groups.has_refused(name)


def test_memory_over_many_children(node: NodeProcess) -> None:
    request = python(CHILDREN, memory={"maxBytes": 120_000_000})
    ended(node, request, "urn:wes-bridge:memory-limit", "120000000 are allowed")


def test_a_full_session_folder(node: NodeProcess) -> None:
    request = python("PLACE = '.'\n" + FILLER)
    ended(node, request, "urn:wes-bridge:disk-limit", "21474836 are allowed", "session_gib")


@pytest.mark.skipif(SANDBOX == "none", reason="only a sandbox has temporary folders of its own")
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_memory_as_files(node: NodeProcess, place: str) -> None:
    request = python(f"PLACE = {json.dumps(place)}\n" + FILLER, memory={"maxBytes": 60_000_000})
    ended(node, request, "urn:wes-bridge:memory-limit", "60000000 are allowed")


def test_standard_output_without_end(node: NodeProcess) -> None:
    ended(node, Request(shell("cat /dev/zero")), "urn:wes-bridge:disk-limit")


def test_sparse_files_take_no_room(node: NodeProcess) -> None:
    """What is counted is what the disk has, not what a file says."""
    session = node.run(Request(shell("truncate -s 10G big; sleep 2")))
    assert session["phase"] == "COMPLETED", texts(session)
