"""Servers of ours for tests, begun as copies of one process that has imported all of them already.

Importing is most of what a server's start costs, and starts were most of what the suite took. A copy is the
same program with the same arguments, environment and streams; only its command line, which others see, is
that of the first one. Tests of starting itself begin their servers in the usual way.

``python -m tests.ready_made`` is that first process: it reads requests from the socket that is its standard
input, and ends when that is closed. Its copies end with it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Self

MODULES = (
    "wes_bridge.node.main",
    "wes_bridge.aggregator.main",
    "wes_bridge.cli.main",
    "wes_bridge.cli.runner",
    *(
        f"wes_bridge.cli.commands.{name}"
        for name in ("aggregate", "serve", "run", "plan", "validate", "worker")
    ),
    "wes_bridge.cli.supervisor",
    "wes_bridge.engine.worker",
    "wes_bridge.wes.app",
)
_INTERPRETER = sys.executable
REPOSITORY = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1
# ---- what tests use


class Copy:
    """A running copy; what is used of ``subprocess.Popen[str]``.

    Attributes:
        pid: of the process.
        stdin, stdout: pipes, where there are any.
        returncode: once it has ended and somebody has looked.
    """

    def __init__(self, pid: int, told: socket.socket, stdin: IO[str] | None, stdout: IO[str] | None) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"copy {self.pid}", timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Read its standard output to the end, and wait."""
        text = self.stdout.read() if self.stdout is not None else ""
        self.wait(timeout)
        return text, None

    def send_signal(self, number: int) -> None:
        """As that of ``Popen``: nothing is sent to what has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stdin):
            if stream is not None:
                stream.close()
        self.wait()

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            ready, _, _ = select.select([self._told], [], [], timeout)
            if ready:
                text = self._told.recv(64)
                self.returncode = int(text) if text else -signal.SIGKILL  # the first process has gone
                self._told.close()
        return self.returncode


def begin(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: IO[Any] | None = None,
    cwd: Path | None = None,
) -> Copy | subprocess.Popen[str]:
    """Run ``main()`` of a module of ours with these arguments; the rest as of ``subprocess.Popen``."""
    if sys.executable != _INTERPRETER or _network() != _NETWORK or _is_read_at_the_start(env):
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=dict(env),
            text=True,
        )
    with contextlib.ExitStack() as ours:
        theirs_in, to_it = _pipe_to(stdin, ours)
        theirs_out, from_it = _pipe_from(stdout, ours)
        told, tell = socket.socketpair()
        ours.callback(tell.close)
        files = [theirs_in, theirs_out, 2 if stderr is None else stderr.fileno(), tell.fileno()]
        ask = {
            "module": module,
            "arguments": list(arguments),
            "env": dict(env),
            "cwd": str(cwd or Path.cwd()),
            "umask": _umask(),
        }
        pid = _first().copy(ask, files)
    return Copy(pid, told, to_it, from_it)


def _network() -> str:
    """The network that this thread is in: tests of sites apart enter others."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def _is_read_at_the_start(env: Mapping[str, str]) -> bool:
    """Whether there are variables that only a new interpreter heeds."""
    if "LD_PRELOAD" in env:
        return True
    theirs = {name: text for name, text in env.items() if name.startswith("PYTHON") and name != "PYTHONPATH"}
    return any(os.environ.get(name) != text for name, text in theirs.items())


def run(
    module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` with ``capture_output``.

    Raises:
        subprocess.TimeoutExpired: it has not ended.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = begin(module, arguments, env=env, stdout=out, stderr=err, cwd=cwd)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([module, *arguments], code, out.read(), err.read())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _pipe_to(stdin: int, ours: contextlib.ExitStack) -> tuple[int, IO[str] | None]:
    if stdin == subprocess.PIPE:
        reads, writes = os.pipe()
        ours.callback(os.close, reads)
        return reads, os.fdopen(writes, "w")
    null = os.open(os.devnull, os.O_RDONLY)
    ours.callback(os.close, null)
    return null, None


def _pipe_from(stdout: int | IO[Any], ours: contextlib.ExitStack) -> tuple[int, IO[str] | None]:
    if stdout == subprocess.PIPE:
        reads, writes = os.pipe()
        ours.callback(os.close, writes)
        return writes, os.fdopen(reads)
    return (stdout if isinstance(stdout, int) else stdout.fileno()), None


class _First:
    """The process that is copied, as seen from the tests."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        self._lock = threading.Lock()
        env = {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
        words = [sys.executable, "-m", "tests.ready_made"]
        self._process = subprocess.Popen(
            words, stdin=other, cwd=REPOSITORY, env=env | {"PYTHONPATH": str(REPOSITORY)}
        )
        other.close()

    def copy(self, ask: Mapping[str, Any], files: Sequence[int]) -> int:
        """Have a copy made; its process's number."""
        text = json.dumps(ask).encode()
        with self._lock:
            socket.send_fds(self._socket, [len(text).to_bytes(8)], list(files))
            self._socket.sendall(text)
            answer = self._socket.recv(64)
        if not answer:
            raise AssertionError("the process that is copied has ended")
        return int(answer)

    def close(self) -> None:
        """End it, and its copies."""
        self._socket.close()
        self._process.wait(60)


_NETWORK = _network()
_made: list[_First] = []


def _first() -> _First:
    """One for each process that runs tests."""
    if not _made:
        _made.append(_First())
        atexit.register(_made[0].close)
    return _made[0]


# ---- the first process


def _main() -> None:
    from wes_bridge.start import importing  # noqa: PLC0415 - tests import this module, too

    asks = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    with importing():
        for name in MODULES:
            importlib.import_module(name)
    assert threading.active_count() == 1, "a process with threads cannot be copied"
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([asks, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(running)
        if asks in ready and not _answer(asks, running, (woken, wake)):
            break
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _reap(running: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            tell = running.pop(pid, None)
            if tell is not None:
                with contextlib.suppress(OSError):
                    tell.send(str(os.waitstatus_to_exitcode(status)).encode())
                tell.close()


def _answer(asks: socket.socket, running: dict[int, socket.socket], pipes: tuple[int, int]) -> bool:
    """Make a copy; False when nobody asks any more."""
    head, files, _, _ = socket.recv_fds(asks, 8, 4)
    if not head:
        return False
    text = b""
    while len(text) < int.from_bytes(head):
        text += asks.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        asks.close()
        for file in (*pipes, *(tell.fileno() for tell in running.values())):
            os.close(file)
        _become(json.loads(text), files)
    running[pid] = socket.socket(fileno=files.pop())
    for file in files:
        os.close(file)
    asks.send(str(pid).encode())
    return True


def _become(ask: dict[str, Any], files: list[int]) -> NoReturn:
    """Be the program that was asked for, to its end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(ask["env"])
    time.tzset()
    os.chdir(ask["cwd"])
    os.umask(ask["umask"])
    module = sys.modules[ask["module"]]
    sys.argv = [module.__file__ or "", *ask["arguments"]]
    sys.exit(module.main())


if __name__ == "__main__":
    _main()
