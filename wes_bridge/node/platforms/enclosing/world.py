"""The file system of a cell, and what each command has of its own in it."""

from __future__ import annotations

import os

from .calls import File
from .mounts import (
    NO_DEV,
    NO_EXEC,
    NO_SUID,
    READ_ONLY,
    enter,
    move,
    new,
    place,
    read_only,
    restrict,
    taken,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}
_MACHINE = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/1")
"""By these the machine is told what to do, and process 1 of a cell."""
_ROOTS = ("self", "thread-self", "net", "mounts")
"""What of ``/proc`` is not the machine's; all else that can be written to there, root may write to."""


def make(shows: Sequence[str]) -> None:
    """Leave the machine's file system for one with what can be seen; in process 1 of a cell.

    All that is taken from the machine is taken first, each as a mount without a place; then the machine's
    file system goes, and they are put where nothing else is left to be reached by mistake.
    """
    shown, links = list[tuple[str, File]](), list[tuple[str, str]]()
    if "/" in shows:
        root = read_only("/")
    else:
        root = new("tmpfs", NO_SUID | NO_DEV, mode="755")
        there = [path for path in shows if os.path.exists(path)]
        links = [(path, os.readlink(path)) for path in there if _stays_link(path, there)]
        linked = {path for path, _ in links}
        shown = [(path, read_only(path)) for path in there if path not in linked]
        shown.append(("/proc", read_only("/proc")))  # below the cell's own, which the kernel allows then
    devices = [(name, taken(f"/dev/{name}", READ_ONLY | NO_SUID | NO_EXEC)) for name in _DEVICES]
    enter(root)
    for path, target in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    for path, mount in shown:
        place(mount, path)
    _make_devices(devices)
    if "/" not in shows:
        os.makedirs("/tmp", exist_ok=True)
    _show_processes()


def _stays_link(path: str, shows: Sequence[str]) -> bool:
    """Whether a path is a link to what is shown, too; any other is shown with what it leads to."""
    if not os.path.islink(path):
        return False
    return is_shown(os.path.realpath(path), [other for other in shows if other != path])


def is_shown(path: str, shows: Iterable[str]) -> bool:
    """Whether a path is one of these, or below one."""
    return any(path == shown or path.startswith(shown.rstrip("/") + "/") for shown in shows)


def _make_devices(devices: list[tuple[str, File]]) -> None:
    folder = place(new("tmpfs", NO_SUID, mode="755"), "/dev")
    for name, mount in devices:
        place(mount, f"/dev/{name}")
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/shm")
    place(new("devpts", NO_SUID | NO_EXEC, ptmxmode="0666", mode="620"), "/dev/pts")
    restrict(folder, READ_ONLY | NO_SUID, below=False)


def _show_processes() -> None:
    """Those of the namespace that we are in."""
    place(new("proc", NO_SUID | NO_DEV | NO_EXEC), "/proc")
    for path in _roots() if os.geteuid() == 0 else _MACHINE:
        if os.path.exists(path):
            place(read_only(path), path)


def _roots() -> list[str]:
    """What of ``/proc`` is root's to write to, also without rights; drivers put their own there."""
    entries = [entry for entry in os.scandir("/proc") if not entry.is_symlink() and entry.name not in _ROOTS]
    machine = [entry for entry in entries if not entry.name.isdigit() or entry.name == "1"]
    return [entry.path for entry in machine if entry.is_dir() or entry.stat().st_mode & 0o222]


class Furnishing:
    """What one command has for itself, in a copy of the world that we are in.

    Args:
        shows: what can be seen of the machine.
        hides: folders that are empty inside.

    Attributes:
        made: what was made in the world itself, empty folders and files.
    """

    def __init__(self, shows: Sequence[str], hides: Sequence[str]) -> None:
        self.made = list[str]()
        self._shows = shows
        self._closed = list[File]()
        folders = ["/dev/shm", "/tmp", *(path for path in hides if is_shown(path, (*shows, "/tmp")))]
        move(new("tmpfs", NO_SUID | NO_DEV, mode="755"), "/tmp")
        for number in range(len(folders)):  # one file system for all is quicker to make
            os.mkdir(f"/tmp/{number}", 0o755)
        for number in (0, 1):
            os.chmod(f"/tmp/{number}", 0o1777)
        parts = [taken(f"/tmp/{number}", NO_SUID | NO_DEV) for number in range(len(folders))]
        for path, part in zip(folders, parts, strict=True):
            place(part, path, self.made)
        self._closed = parts[2:]

    def bind(self, path: str, mount: File) -> None:
        """Put something of the machine at a path."""
        place(mount, path, self.made)

    def close(self) -> None:
        """Let no further entries be made beside what was bound."""
        for mount in self._closed:
            restrict(mount, READ_ONLY | NO_SUID | NO_DEV, below=False)
        self._closed = []
        if "/" not in self._shows:
            restrict(File(os.open("/", os.O_PATH | os.O_CLOEXEC)), READ_ONLY | NO_SUID | NO_DEV, below=False)


def remove(made: list[str]) -> None:
    """Take away what was made in the world, where we are now, for a command that has ended."""
    for path in reversed(made):
        try:
            (os.rmdir if os.path.isdir(path) else os.unlink)(path)
        except FileNotFoundError:  # it was in something that has gone
            pass
    made.clear()
