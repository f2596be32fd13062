"""Server processes: started, looked at, and gone afterwards with all they ever started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

STOP_SECONDS = 15.0
"""How long a server may take to end when told to."""
_PR_SET_CHILD_SUBREAPER = 36
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)


class Server:
    """A running server: the process we started and all below it.

    Args:
        command: how to start it; in a session of its own, so that Ctrl-C is ours alone.
        folder: where it starts; its output goes to ``log`` there.
        environment: its environment, the whole of it.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._popen.pid)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def tail(self, lines: int = 6) -> str:
        """The last words of its log."""
        return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])

    def tree(self) -> list[psutil.Process]:
        """The process and all below it."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except _GONE:
            return []

    def service(self) -> list[psutil.Process]:
        """The processes of the service itself: the one we started, its children, and their helpers.

        What belongs to a workflow's steps is left out: a step is started by one of those children, in a
        (POSIX) session of its own.
        """
        leaders = {self._popen.pid, *_children(self._popen.pid)}
        found, todo = [], [self._popen.pid]
        while todo:
            pid = todo.pop()
            todo += [child for child in _children(pid) if _session(child) in leaders]
            with contextlib.suppress(*_GONE):
                found.append(psutil.Process(pid))
        return found

    def resident(self) -> int:
        """Resident bytes of the service's processes; pages they share count for each."""
        return sum(_resident(process) for process in self.service())

    def processor_seconds(self) -> float:
        """Processor time the service's processes have used, user and system."""
        return sum(_processor(process) for process in self.service())

    def settle(self, timeout: float = 20.0) -> None:
        """Wait until nothing below it works any more, such as what a run leaves to be done after its end."""
        end = time.monotonic() + timeout
        before = self._activity()
        while time.monotonic() < end:
            time.sleep(0.25)
            after = self._activity()
            if after[0] == before[0] and after[1] - before[1] < 0.02:
                return
            before = after

    def _activity(self) -> tuple[frozenset[int], float]:
        living = [process for process in self.tree() if not _is_zombie(process)]
        return frozenset(process.pid for process in living), sum(map(_processor, living))

    def stop(self) -> None:
        """End it, politely first, and everything below it."""
        tree = self.tree()
        if self.exit_code is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        _kill(tree)
        self._popen.wait()


class Peak:
    """The most resident memory a server's service processes ever have together, looked at all the time.

    Args:
        server: whose.
        interval: seconds between looks.
    """

    def __init__(self, server: Server, interval: float = 0.1) -> None:
        self.bytes = 0
        self._server = server
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.bytes = max(self.bytes, self._server.resident())
            self._stop.wait(self._interval)


@contextlib.contextmanager
def all_ended() -> Iterator[None]:
    """Leave no process behind: orphans of what is started inside become ours, and are ended at the end.

    SIGTERM and SIGHUP are taken like Ctrl-C; while things are ended, none of them interrupts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        with uninterrupted():
            _kill(psutil.Process().children(recursive=True))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """No Ctrl-C in here."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _kill(processes: Sequence[psutil.Process]) -> None:
    """End processes by force, and what they start meanwhile."""
    todo = list(processes)
    for _ in range(50):
        todo = [process for process in todo if process.is_running() and not _is_zombie(process)]
        if not todo:
            return
        for process in list(todo):
            with contextlib.suppress(*_GONE):
                todo += process.children(recursive=True)
                process.kill()
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    """Its children. psutil reads about all processes of the machine for that, and others are being timed."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except _GONE:
        return 0


def _processor(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except _GONE:
        return 0.0
    return float(times.user + times.system)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except _GONE:
        return True
