"""What becomes of a command that was started: its record, and ending all of it.

Commands are started and watched by the node's keeper (``keeping``). What must be known of one after a
restart is in its session's folder. Linux only (``/proc``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wes_bridge.node.layout import SessionFolder
from wes_bridge.node.platforms.keeping import Command
from wes_bridge.small_files import read_small

_LONGEST_RECORD = 4096
"""Bytes of the keeper's record of a command."""
MARKER = "WES_BRIDGE_SESSION"
"""Environment variable by which processes that left the tree are found."""


def was_started(folder: SessionFolder) -> bool:
    """Whether a command was ever started here."""
    return folder.command.exists()


def _record(folder: SessionFolder) -> str:
    return read_small(folder.command, _LONGEST_RECORD, follow=False).decode()


def read_exit(folder: SessionFolder) -> int | None:
    """The command's exit code; None when it has not ended, or ended without anybody noting it."""
    try:
        return int(_record(folder).split("\n")[1])
    except (OSError, ValueError, IndexError):
        return None


def ended(folder: SessionFolder) -> float | None:
    """When the command's exit code was noted, seconds since the epoch; None when it was not."""
    if read_exit(folder) is None:
        return None
    try:
        return folder.command.stat().st_mtime
    except OSError:
        return None


@dataclass(frozen=True)
class Started:
    """When a command was started.

    Attributes:
        at: seconds since the epoch, to be told.
        count: seconds by the clock that nobody sets (``time.monotonic``), to count from. It means nothing
            after the machine was started again, as does the command.
    """

    at: float
    count: float

    @classmethod
    def now(cls) -> Started:
        """This moment."""
        return cls(time.time(), time.monotonic())


def started(folder: SessionFolder) -> Started:
    """When the command was started; now if that was not noted."""
    now = Started.now()
    try:
        at, *count = _record(folder).split("\n")[0].split()[1:]
        return Started(float(at), float(count[0]) if count else now.count - now.at + float(at))
    except (OSError, ValueError):
        return now


async def kill_tree(command: Command | None, uuid: str, grace: float) -> None:
    """End a command: its process group, all descendants, and all that carry its marker.

    Args:
        command: None when the keeper knows it no more: what is left of it has the marker.
        uuid: the marker's value.
        grace: seconds between SIGTERM and SIGKILL.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    while command is not None and not command.is_over() and loop.time() < deadline:
        if await loop.run_in_executor(None, _signal_command, command.pid, signal.SIGTERM):
            await command.gone(deadline - loop.time())
            break
        await command.gone(0.03)  # the sandbox is still being set up
    if command is not None and not command.is_over():
        await loop.run_in_executor(None, _end_sandbox, command)
    for _ in range(100):
        pid = None if command is None or command.is_over() else command.pid
        if not await loop.run_in_executor(None, _kill_all, pid, uuid):
            break
        await asyncio.sleep(0.02)
    if command is not None:
        await command.gone(5.0)


def _signal_command(pid: int, number: int) -> bool:
    """Signal the command itself, not the sandbox around it; whether there is one."""
    found = [process for process in (pid, *descendants(pid)) if _comm(process) not in ("bwrap", "")]
    for child in found:
        _kill(child, number)
    return bool(found)


def _end_sandbox(command: Command) -> None:
    """Kill process 1 of a command's sandbox, and with it, by the kernel, all that is in there.

    To find the processes of a fork bomb one by one takes longer than they need to make others.
    """
    first = [command.first] if command.first is not None else []
    if _comm(command.pid) == "bwrap":
        first += _children(command.pid)
    for process in first:
        _kill(process, signal.SIGKILL)


def _kill_all(pid: int | None, uuid: str) -> bool:
    """One round of SIGKILL; whether anything was found to kill."""
    tree = [pid, *descendants(pid)] if pid is not None else []
    found = {process: _born(process) for process in {*tree, *marked(uuid)}}
    living = {process: born for process, born in found.items() if born is not None}
    for process, born in living.items():
        _kill_that(process, born)
    return bool(living)


def _kill_that(pid: int, born: str) -> None:
    """Kill a process, unless its number is another's by now: bombs use up all numbers."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if _born(pid) == born:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _born(pid: int) -> str | None:
    """When a process was made, by the system's count; None when it has ended.

    Where only its first thread has ended, the whole process seems to have.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        has_ended = words[0] == "X" or (words[0] == "Z" and len(os.listdir(f"/proc/{pid}/task")) < 2)  # noqa: PTH208
    except (OSError, IndexError):
        return None
    return None if has_ended or len(words) < 20 else words[19]


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def descendants(pid: int, enough: int | None = None) -> list[int]:
    """All processes below ``pid``, at this moment; of very many, ``enough`` or some more."""
    found: list[int] = []
    todo = [pid]
    while todo and (enough is None or len(found) < enough):
        for child in _children(todo.pop()):
            found.append(child)
            todo.append(child)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.scandir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(task.path, "children").read_text()
                children.extend(int(word) for word in text.split())
    return children


def marked(uuid: str) -> Iterable[int]:
    """Processes whose environment carries the marker of session ``uuid``."""
    needle = f"{MARKER}={uuid}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if needle in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


@dataclass(frozen=True)
class Roots:
    """Where a command's processes are found.

    Attributes:
        command: its process id.
        first: process 1 of its sandbox, which is the node's, but not its children; None when there is none.
    """

    command: int
    first: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a command and all that it started use.

    Attributes:
        memory: resident bytes, pages that are shared counted more than once, and bytes of ``/tmp`` and
            ``/dev/shm`` where those are in memory and the command's own.
        processes: how many there are.
    """

    memory: int
    processes: int


def usage_of(roots: Roots, enough: int | None = None) -> Usage:
    """What a command uses, with all that it started.

    Args:
        roots: where its processes are found.
        enough: when there are so many processes, nothing more is looked at.
    """
    found = {roots.command, *descendants(roots.command, enough)}
    if roots.first is not None:
        found |= set(descendants(roots.first, enough))
    if enough is not None and len(found) >= enough:
        return Usage(0, len(found))
    pages = 0
    for process in found:
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return Usage(pages * _PAGE + _in_memory_files(found), len(found))


def _in_memory_files(found: Iterable[int]) -> int:
    """Bytes of the files in a sandbox's own temporary folders."""
    ours = {_device(path) for path in _TEMPORARY}
    sizes: dict[int, int] = {}
    for process in found:
        for path in _TEMPORARY:
            place = f"/proc/{process}/root{path}"
            with contextlib.suppress(OSError):
                device = Path(place).stat().st_dev
                if device not in ours and device not in sizes:
                    room = os.statvfs(place)
                    sizes[device] = (room.f_blocks - room.f_bfree) * room.f_frsize if _is_tmpfs(place) else 0
        if sizes:
            break
    return sum(sizes.values())


def _is_tmpfs(place: str) -> bool:
    """Whether it is in memory: the system gives such a file system no more blocks than there is memory."""
    _, _, path = place.partition("/root")
    process = place.split("/")[2]
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[4] == path:
                return after.split()[0] == "tmpfs"
    return path.startswith("/dev/shm")  # noqa: S108 - a folder of /dev, which is one


def _device(path: str) -> int:
    try:
        return Path(path).stat().st_dev
    except OSError:
        return 0


_TEMPORARY = ("/tmp", "/dev/shm")  # noqa: S108
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
