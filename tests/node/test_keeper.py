"""The keeper of a node's commands, asked as the node asks it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from wes_bridge.node.platforms.keeping import Command, Keeping

Start = Callable[..., Command]
WAIT = 60.0


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    made.open()
    yield made
    made.close()


def start(keeping: Keeping, folder: Path, *argv: str, **more: object) -> Command:
    """Start a command; its streams are the files ``out`` and ``err`` of the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    null = os.open(os.devnull, os.O_RDONLY)
    out, err = (os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o644) for name in ("out", "err"))
    try:
        settings = {"program": argv[0], "cwd": folder} | more
        return keeping.start(folder / "command", argv, {"A": "1"}, (null, out, err), **settings)  # type: ignore[arg-type]
    finally:
        for file in (null, out, err):
            os.close(file)


def code(command: Command) -> int | None:
    async def wait() -> int | None:
        assert await command.gone(WAIT)
        return command.code

    return asyncio.run(wait())


def run(keeping: Keeping, folder: Path, *argv: str, **more: object) -> int | None:
    return code(start(keeping, folder, *argv, **more))


def test_code_and_record(keeping: Keeping, tmp_path: Path) -> None:
    before = time.time()
    command = start(keeping, tmp_path / "a", "/bin/sh", "-c", "echo $A; pwd; exit 7")
    assert command.ends_within(WAIT)
    assert code(command) == 7
    assert (tmp_path / "a/out").read_text() == f"1\n{tmp_path}/a\n"
    first, second = (tmp_path / "a/command").read_text().splitlines()
    assert second == "7"
    pid, started, count = first.split()
    assert int(pid) == command.pid
    assert before - 1 < float(started) < time.time() + 1
    assert abs(float(count) - time.monotonic() - (float(started) - time.time())) < 1


def test_many_at_once(keeping: Keeping, tmp_path: Path) -> None:
    def one(number: int) -> int | None:
        return run(keeping, tmp_path / str(number), "/bin/sh", "-c", f"exit {number}")

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(60))) == list(range(60))


def test_signals_and_groups(keeping: Keeping, tmp_path: Path) -> None:
    """A command leads a session, ignores no signals, and what it leaves in its group is ended."""
    script = "ps -o sid= -p $$; grep SigIgn /proc/self/status; sleep 31.6227 & echo $!; kill -SEGV $$"
    command = start(keeping, tmp_path / "a", "/bin/sh", "-c", script)
    assert code(command) == 128 + signal.SIGSEGV
    sid, ignored, left = (tmp_path / "a/out").read_text().splitlines()
    assert int(sid) == command.pid
    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0  # two beyond are the C library's
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(left)).wait(WAIT)


def test_orphans_are_the_keepers(keeping: Keeping, tmp_path: Path) -> None:
    """In a container, process 1 may be a program that never asks what has ended."""
    daemon = "setsid sh -c 'echo $$ >pid; exec sleep 600' & while [ ! -s pid ]; do :; done"
    assert run(keeping, tmp_path / "a", "/bin/sh", "-c", daemon) == 0
    orphan = psutil.Process(int((tmp_path / "a/pid").read_text()))
    try:
        assert orphan.ppid() == keeping.pid
    finally:
        orphan.kill()
    orphan.wait(WAIT)  # as long as nobody has asked what became of it, it is there


def test_commands_inherit_nothing(keeping: Keeping, tmp_path: Path) -> None:
    with Path(os.devnull).open() as file:
        os.set_inheritable(file.fileno(), True)
        assert run(keeping, tmp_path / "a", "/bin/ls", "-v", "/proc/self/fd") == 0
    assert (tmp_path / "a/out").read_text().split() == ["0", "1", "2", "3"]  # the last is the folder's own


def test_processors(keeping: Keeping, tmp_path: Path) -> None:
    one = min(os.sched_getaffinity(0))
    show = ("/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status")
    assert run(keeping, tmp_path / "a", *show, cpus=frozenset({one})) == 0
    assert run(keeping, tmp_path / "b", *show) == 0
    assert (tmp_path / "a/out").read_text().split()[1] == str(one)
    own = Path("/proc/self/status").read_text().partition("Cpus_allowed_list:")[2].split()[0]
    assert (tmp_path / "b/out").read_text().split()[1] == own


def test_what_cannot_be_started_ends_as_in_a_shell(keeping: Keeping, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/does/not/exist\n")
    script.chmod(0o755)
    assert run(keeping, tmp_path / "a", str(script)) == 127
    assert (tmp_path / "a/err").read_text() == f"{script}: No such file or directory\n"
    script.chmod(0o644)
    assert run(keeping, tmp_path / "b", str(script)) == 126
    assert run(keeping, tmp_path / "c", "/bin/true", "x" * (1 << 20)) == 126  # too long for the system
    script.write_text('echo "$0 $1" of no kind\n')
    script.chmod(0o755)
    assert run(keeping, tmp_path / "d", str(script), "word") == 0
    assert (tmp_path / "d/out").read_text() == f"{script} word of no kind\n"


def test_long_and_odd_words(keeping: Keeping, tmp_path: Path) -> None:
    words = ["x" * 100_000] * 10 + ["\udcff\n\"'é"]
    assert run(keeping, tmp_path / "a", "/usr/bin/printf", "%s", *words) == 0
    assert (tmp_path / "a/out").read_bytes() == b"".join(os.fsencode(word) for word in words)


def test_what_no_process_can_have_is_refused(keeping: Keeping, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        start(keeping, tmp_path / "a", "/bin/echo", "a\0b")
    with pytest.raises(OSError, match="No such file"):
        start(keeping, tmp_path / "b", "/bin/echo", cwd=tmp_path / "nowhere")
    assert run(keeping, tmp_path / "c", "/bin/true") == 0


def test_nothing_is_started_twice(keeping: Keeping, tmp_path: Path) -> None:
    assert run(keeping, tmp_path / "a", "/bin/sh", "-c", "echo x >> count") == 0
    with pytest.raises(FileExistsError):
        start(keeping, tmp_path / "a", "/bin/sh", "-c", "echo x >> count")
    assert (tmp_path / "a/count").read_text() == "x\n"


def test_who_has_gone_gets_nothing_started(keeping: Keeping, tmp_path: Path) -> None:
    """Neither by half a question, nor by a whole one; and questions that are none disturb nobody."""
    secret = (tmp_path / "keeper.key").read_text()
    ask: dict[str, object] = {"secret": secret, "start": str(tmp_path / "command"), "env": {}}
    ask["argv"] = ["touch", str(tmp_path / "made")]
    whole = json.dumps(ask | {"program": "/bin/touch", "cwd": "/", "cpus": None}).encode() + b"\n"
    blocker = start(keeping, tmp_path / "a", "/bin/sleep", "60")
    os.kill(keeper := int(keeping.pid or 0), signal.SIGSTOP)  # so that who asks is gone before it is read
    for line in (whole, whole[:40], b"", b"no question\n", b"{}\n", b"[]\n"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "keeper"))
            socket.send_fds(connection, [line], [0, 1, 2]) if line else None
    os.kill(keeper, signal.SIGCONT)
    assert run(keeping, tmp_path / "b", "/bin/true") == 0
    assert not (tmp_path / "made").exists()
    os.kill(blocker.pid, signal.SIGKILL)
    assert code(blocker) == 137


def test_the_next_node_follows(tmp_path: Path) -> None:
    """The keeper outlives who started it, while something runs; what had ended is in the record."""
    state = tmp_path / ("long" * 40)  # longer than the address of a socket may be
    state.mkdir()
    first, second = Keeping(state), Keeping(state)
    first.open()
    os.mkfifo(state / "fifo")
    running = start(first, state / "a", "/bin/sh", "-c", "read line < fifo; exit 3", cwd=state)
    running.close()
    first.close()
    second.open()
    assert second.pid is None  # there was one
    followed = second.follow(state / "a/command")
    assert followed is not None
    assert followed.pid == running.pid
    again = second.follow(state / "a/command")
    (state / "fifo").write_text("go\n")
    assert code(followed) == 3
    assert again is not None
    assert code(again) == 3
    assert second.follow(state / "a/command") is None
    second.close()


def test_following_without_a_keeper(tmp_path: Path) -> None:
    assert Keeping(tmp_path).follow(tmp_path / "command") is None


def test_a_killed_keeper(keeping: Keeping, tmp_path: Path) -> None:
    command = start(keeping, tmp_path / "a", "/bin/sleep", "60")
    os.kill(int(keeping.pid or 0), signal.SIGKILL)
    assert code(command) is None
    os.kill(command.pid, signal.SIGKILL)
    assert run(keeping, tmp_path / "b", "/bin/true") == 0  # another one


def test_a_keeper_that_is_killed_before_it_heard(tmp_path: Path) -> None:
    """What it had not begun, its successor does."""
    connected = threading.Event()

    class Watched(Keeping):
        def _connect(self) -> socket.socket:
            connection = super()._connect()
            connected.set()
            return connection

    keeping = Watched(tmp_path)
    keeping.open()
    deaf = int(keeping.pid or 0)
    os.kill(deaf, signal.SIGSTOP)
    connected.clear()
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(start, keeping, tmp_path / "a", "/bin/true")
        assert connected.wait(WAIT)
        os.kill(deaf, signal.SIGKILL)
        assert code(started.result(WAIT)) == 0
    assert keeping.pid != deaf
    keeping.close()


def test_a_keeper_ignores_what_is_meant_for_commands(keeping: Keeping, tmp_path: Path) -> None:
    assert run(keeping, tmp_path / "b", "/bin/true") == 0  # it is there
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(int(keeping.pid or 0), number)
    assert run(keeping, tmp_path / "a", "/bin/true") == 0


def test_a_machine_without_free_processes_is_said_to_be_that(tmp_path: Path) -> None:
    """Not that the keeper is silent. What answers here is a stand-in: root has no such limit."""
    with socket.socket(socket.AF_UNIX) as stand_in:
        stand_in.bind(str(tmp_path / "keeper"))
        stand_in.listen()

        def answer() -> None:
            connection, _ = stand_in.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"failed %d\n" % errno.EAGAIN)

        with ThreadPoolExecutor(1) as thread:
            thread.submit(answer)
            with pytest.raises(OSError, match="no more processes can be made here"):
                start(Keeping(tmp_path), tmp_path / "a", "/bin/true")
