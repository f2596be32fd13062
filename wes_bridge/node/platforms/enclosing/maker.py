"""The maker: has cells, takes from the machine's files what commands see, and hears of their ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time

from . import calls, first
from .calls import File, NoSandboxError, clone
from .mounts import NO_DEV, NO_SUID, READ_ONLY, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IDLE = 32
"""Cells that are kept without a command."""
FRESH = 1.0
"""Seconds after which it is looked whether what cells show is still the same."""
_ENGINES = (b"/containers/", b"/containerd/", b"/docker/", b"/netns")
"""Parts of places in which container engines mount for each container; no step has business there."""


class Cell:
    """A place for one command at a time.

    Args:
        shows: what can be seen in it.
        network: whether there is one, that in which we are.
        numbers: our own folder of descriptors in the machine's ``/proc``.

    Attributes:
        shows: the argument.
        seen: what was there when it was made.
        control: process 1 listens there; it ends when we close it.
        first: process 1, by its number in our namespace.
        outside: process 1, by its number on the machine.
    """

    def __init__(self, shows: list[str], seen: object, *, network: bool, numbers: int) -> None:
        self.shows = shows
        self.seen = seen
        self.control, its = socket.socketpair()
        flags = calls.CLONE_NEWPID | (0 if network else calls.CLONE_NEWNET)
        self.first = clone(flags)
        if self.first == 0:
            first.be_first(its, shows, loopback=not network)
        its.close()
        self.outside = first.number_of(File(os.pidfd_open(self.first)), numbers)
        self._heard = b""
        said = self.hear()
        if said[0] != b"ready":
            reason = b" ".join(said[2:]).decode() or "its first process was ended"
            self.leave()
            raise NoSandboxError(reason)

    def start(self, ask: dict[str, Any], line: bytes, files: list[int]) -> int:
        """Start a command; its number on the machine.

        Raises:
            NoSandboxError: there is no sandbox to run it in.
            OSError: it cannot be started.
        """
        binds = ask["sandbox"]["binds"]
        self._send(line, files, binds[: first.AT_ONCE])
        sent = first.AT_ONCE
        while (said := self.hear())[0] == b"more":
            self._send(b"\n", [], binds[sent : sent + first.AT_ONCE])
            sent += first.AT_ONCE
        if said[0] == b"started":
            return int(said[1])
        number, reason = (int(said[1]), b" ".join(said[2:]).decode()) if said[0] else (0, "")
        if number == 0:
            raise NoSandboxError(reason or "its first process was ended")
        raise OSError(number, reason)

    def _send(self, line: bytes, files: list[int], binds: list[tuple[str, bool]]) -> None:
        mounts = [_bound(path, writable) for path, writable in binds]
        sent = socket.send_fds(self.control, [line], files + [mount.number for mount in mounts])
        self.control.sendall(line[sent:])

    def hear(self) -> list[bytes]:
        """One line of process 1, in words; one empty word when it has ended."""
        while b"\n" not in self._heard:
            try:
                more = self.control.recv(4096)
            except OSError:
                more = b""
            if not more:
                return [b""]
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.split(b" ", 2)

    def has_more(self) -> bool:
        """Whether it has said more than was heard."""
        return b"\n" in self._heard

    def leave(self) -> None:
        """Use it no more: whatever is in it ends."""
        self.control.close()
        try:
            os.kill(self.first, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _bound(path: str, writable: bool) -> File:
    return taken(path, NO_SUID | NO_DEV | (0 if writable else READ_ONLY))


class Maker:
    """Starts commands in cells.

    Args:
        keeper: its socket.
        changes: ``/proc/self/mountinfo`` of the machine, opened before we had a copy of its mounts.
        mounts: what it said before that.
        network: whether commands have one.
    """

    def __init__(
        self, keeper: socket.socket, changes: File, mounts: set[tuple[bytes, ...]], *, network: bool
    ) -> None:
        self._keeper = keeper
        self._changes = changes
        self._mounts = mounts
        self._network = network
        self._numbers = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._idle = list[Cell]()
        self._running: dict[int, tuple[Cell, str]] = {}
        self._started = 0
        self._looked = float("-inf")
        self._seen: object = None
        self._poll = select.poll()

    def run(self, replace: Any) -> None:
        """Work until the keeper has gone.

        Args:
            replace: called when something was mounted on the machine; no further question is then ours.
        """
        self._poll.register(self._keeper, select.POLLIN)
        self._poll.register(self._changes.number, select.POLLPRI)
        asked = True
        while asked or self._running:
            files = [file for file, _ in self._poll.poll()]
            for file in files:
                if file in self._running:
                    self._has_ended(file)
            if asked and self._changes.number in files and mounts_of(self._changes) != self._mounts:
                self._poll.unregister(self._changes.number)
                self._poll.unregister(self._keeper)
                replace()
                asked = False
            elif asked and self._keeper.fileno() in files and not self._answer():
                return

    def _answer(self) -> bool:
        """Answer one question; whether there was one."""
        line, files = first.receive(self._keeper, 3)
        if not line:
            return False
        quick = None
        try:
            cell, answer = self._start(json.loads(line), line, [file.number for file in files])
            quick = cell.control.fileno() if cell.has_more() else None
        except NoSandboxError as error:
            answer = f"failed 0 {error}"
        except OSError as error:
            answer = f"failed {error.errno} {error.strerror}"
        self._keeper.sendall(f"{answer}\n".encode())
        if quick is not None:  # its end was told with its start
            self._has_ended(quick)
        return True

    def _start(self, ask: dict[str, Any], line: bytes, files: list[int]) -> tuple[Cell, str]:
        cell = self._cell(ask["sandbox"]["shows"])
        try:
            outside = cell.start(ask, line, files)
        except BaseException:
            self._leave(cell)
            raise
        self._started += 1
        name = f"{os.getpid()}.{self._started}"
        self._running[cell.control.fileno()] = cell, name
        self._poll.register(cell.control, select.POLLIN)
        return cell, f"running {name} {outside} {cell.outside}"

    def _cell(self, shows: list[str]) -> Cell:
        now = time.monotonic()
        if now - self._looked > FRESH:
            self._looked, self._seen = now, _identities(shows)
        while self._idle:
            cell = self._idle.pop()
            if cell.shows == shows and cell.seen == self._seen:
                return cell
            self._leave(cell)
        return Cell(shows, self._seen, network=self._network, numbers=self._numbers)

    def _has_ended(self, file: int) -> None:
        """A command has, and all that it had started."""
        cell, name = self._running.pop(file)
        self._poll.unregister(file)
        said = cell.hear()
        code = int(said[1]) if said[0] == b"ended" else 128 + signal.SIGKILL
        if said[0] == b"ended" and said[2] == b"1" and len(self._idle) < IDLE:
            self._idle.append(cell)
        else:
            self._leave(cell)
        self._keeper.sendall(f"ended {name} {code}\n".encode())

    def _leave(self, cell: Cell) -> None:
        """Use a cell no more, and return when all in it has ended."""
        cell.leave()
        os.waitpid(cell.first, 0)


def _identities(shows: list[str]) -> list[object]:
    """Which files and folders are at these paths: one that was replaced would be seen as it was."""
    found = list[object]()
    for path in shows:
        try:
            status = os.stat(path)
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return found


def mounts_of(table: File) -> set[tuple[bytes, ...]]:
    """What is mounted on the machine, save what engines mount for each container."""
    os.lseek(table.number, 0, os.SEEK_SET)
    text = b""
    while more := os.read(table.number, 1 << 16):
        text += more
    mounts = (tuple(line.split(b" ", 6)[:6]) for line in text.splitlines())
    return {mount for mount in mounts if not any(name in mount[4] for name in _ENGINES)}
