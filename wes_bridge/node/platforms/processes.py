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


def _kill_all(pid: int | None, uuid: str) -> bool:
    """One round of SIGKILL; whether anything was found to kill."""
    tree = [pid, *descendants(pid)] if pid is not None else []
    living = [process for process in {*tree, *marked(uuid)} if _lives(process)]
    for process in living:
        _kill(process, signal.SIGKILL)
    return bool(living)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``, at this moment."""
    found: list[int] = []
    todo = [pid]
    while todo:
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


def memory_of(roots: Roots) -> int:
    """Resident bytes of a command and all that it started; pages that are shared count more than once."""
    pages = 0
    adopted = descendants(roots.first) if roots.first is not None else []
    for process in {roots.command, *descendants(roots.command), *adopted}:
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * _PAGE


_PAGE = os.sysconf("SC_PAGE_SIZE")


def _lives(pid: int) -> bool:
    """Whether it does anything. Where only its first thread has ended, the whole process seems to have."""
    state = _state(pid)
    if state != "Z":
        return state not in ("X", "")
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1  # noqa: PTH208 - names only
    except OSError:
        return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
