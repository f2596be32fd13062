"""Starting a command so that a later process of the node can find it again, and ending all of it.

A tiny shell stands between node and command. It writes its process id, runs the command, and writes the
exit code: everything that is known about a command is in its session's folder. Linux only (``/proc``,
pidfd).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wes_bridge.node.layout import SessionFolder
from wes_bridge.node.platforms import spawning

MARKER = "WES_BRIDGE_SESSION"
"""Environment variable by which processes that left the tree are found."""

SHIM_FAILED = 125
"""The shim's exit code when it could not start; the command may have it too, then it is noted."""

_SHIM = """set -C
{ echo $$ >"$1/pid"; } 2>/dev/null || exit 125
trap : TERM INT HUP
exec 3>&2 2>/dev/null
( exec 2>&3 3>&-; cd -- "$2" && unset OLDPWD && shift 2 && exec "$@" )
set -- "$1" $?
echo "$2" >"$1/exit"
exit "$2"
"""


@dataclass(frozen=True)
class Launch:
    """How to start a command.

    Attributes:
        argv: the command.
        env: its whole environment.
        cwd: where it starts.
        stdin, stdout, stderr: its streams; ``/dev/null`` when stdin is None.
        cpus: processors it may use; None for all.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: Path
    stdin: Path | None
    stdout: Path
    stderr: Path
    cpus: frozenset[int] | None = None


def spawn(folder: SessionFolder, launch: Launch) -> int:
    """Start the command under the shim, in a session of its own. Blocks for about a millisecond.

    Returns:
        The shim's process id.

    Raises:
        OSError: a stream cannot be opened, or no process can be made.
    """
    shim = ["/bin/sh", "-c", _SHIM, "sh", str(folder.root), str(launch.cwd), *launch.argv]
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    stdin = str(launch.stdin) if launch.stdin else os.devnull
    out = os.open(launch.stdout, write | os.O_TRUNC, 0o644)
    err = out if launch.stderr == launch.stdout else os.open(launch.stderr, write | os.O_TRUNC, 0o644)
    before = os.sched_getaffinity(0) if launch.cpus else None
    try:
        into = os.open(stdin, os.O_RDONLY)
        try:
            if launch.cpus:
                os.sched_setaffinity(0, launch.cpus)
            return spawning.spawn(shim, launch.env, into, out, err)
        finally:
            os.close(into)
            if before:
                os.sched_setaffinity(0, before)
    finally:
        os.close(out)
        if err != out:
            os.close(err)


def read_pid(folder: SessionFolder) -> int | None:
    """The shim's process id as it wrote it; None when no command was ever started here."""
    return _number(folder.pid)


def read_exit(folder: SessionFolder) -> int | None:
    """The command's exit code; None when it has not ended, or ended without anybody noting it."""
    return _number(folder.exit)


def is_alive(folder: SessionFolder, pid: int) -> bool:
    """Whether process ``pid`` is this session's shim, and not another one with a recycled number."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder.root) in words


async def wait_gone(pid: int, seconds: float | None = None) -> tuple[bool, int | None]:
    """Wait until a shim has ended, end what is left of its process group, and reap it if it is our child.

    Returns:
        Whether it has ended within that many ``seconds``, and the command's exit code when the shim told it.
    """
    loop = asyncio.get_running_loop()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True, None
    ended = loop.create_future()
    loop.add_reader(fd, _set, ended)
    try:
        async with asyncio.timeout(seconds):
            await ended
    except TimeoutError:
        return False, None
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return True, _reap(pid)


def wait_briefly(pid: int, seconds: float) -> tuple[bool, int | None]:
    """As :func:`wait_gone`, from a thread: for commands that end about as soon as they are started."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True, None
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False, None
    finally:
        os.close(fd)
    return True, _reap(pid)


def _reap(pid: int) -> int | None:
    """End what is left of an ended shim's process group, and take its exit code if it is our child."""
    kill_group(pid)  # before the process id is given back
    try:
        _, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def kill_tree(folder: SessionFolder, pid: int, uuid: str, grace: float) -> None:
    """End a command: its process group, all descendants, and all that carry its marker.

    Args:
        folder: the session's.
        pid: the shim's process id.
        uuid: the marker's value.
        grace: seconds between SIGTERM and SIGKILL.
    """
    loop = asyncio.get_running_loop()
    alive = is_alive(folder, pid)
    deadline = loop.time() + grace
    while alive and loop.time() < deadline:
        if await loop.run_in_executor(None, _signal_command, pid, signal.SIGTERM):
            await wait_gone(pid, deadline - loop.time())
            break
        alive = not (await wait_gone(pid, 0.03))[0]  # the sandbox is still being set up
    for _ in range(100):
        left = await loop.run_in_executor(None, _kill_all, folder, pid, uuid)
        if not left:
            break
        await asyncio.sleep(0.02)
    if is_alive(folder, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await wait_gone(pid, 5.0)


def kill_group(pid: int) -> None:
    """End what an ended command left in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _signal_command(pid: int, number: int) -> bool:
    """Signal the command itself, not what stands between it and the node; whether there is one."""
    found = [child for child in descendants(pid) if _comm(child) not in ("bwrap", "")]
    for child in found:
        _kill(child, number)
    return bool(found)


def _kill_all(folder: SessionFolder, pid: int, uuid: str) -> bool:
    """One round of SIGKILL; whether anything was found to kill."""
    found = set(marked(uuid))
    if is_alive(folder, pid):
        found.update(descendants(pid))
    found.discard(pid)
    living = [process for process in found if _state(process) not in ("Z", "X", "")]
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


def memory_of(pid: int) -> int:
    """Resident bytes of a process and all below it; pages that are shared count more than once."""
    pages = 0
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * _PAGE


_PAGE = os.sysconf("SC_PAGE_SIZE")


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


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def started_at(folder: SessionFolder) -> float:
    """When the command was started, seconds since the epoch: the age of the shim's note."""
    try:
        return folder.pid.stat().st_mtime
    except OSError:
        return time.time()
