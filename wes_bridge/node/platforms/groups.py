"""Control groups: where the system lets us have them, it keeps a command from making too many processes.

Version 2 as systemd delegates it (``Delegate=pids`` in the unit), or as root; and the ``pids`` controller of
version 1, as root. Where there are none, processes are counted now and then (``watch``), and
:attr:`Groups.why` says why. It must not know what a session is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from wes_bridge.node.platforms.processes import Roots, descendants

_MOUNT = Path("/sys/fs/cgroup")
_NODE = "wes-bridge-node"
"""The group of the node itself: one with groups below it has no processes of its own."""
_PREFIX = "wes-bridge-session-"
_ROUNDS = 50
"""Of moving what was started while others were moved."""


class Groups:
    """Makes a group for each command.

    Args:
        mount: where control groups are.
        own: what ``/proc/self/cgroup`` says.

    Attributes:
        why: why there are none; None when there are.
    """

    def __init__(self, mount: Path = _MOUNT, own: str | None = None) -> None:
        self.why: str | None = None
        self._parent: Path | None = None
        try:
            lines = (Path("/proc/self/cgroup").read_text() if own is None else own).splitlines()
            self._find(mount, [line.split(":", 2) for line in lines])
        except OSError as error:
            self.why = f"control groups cannot be made here: {error.strerror}"

    def _find(self, mount: Path, lines: list[list[str]]) -> None:
        two = next((path for number, _, path in lines if number == "0"), None)
        if two is not None and (mount / "cgroup.controllers").exists():
            self._delegated(mount / two.lstrip("/"))
            return
        one = next((path for _, names, path in lines if "pids" in names.split(",")), None)
        if one is None:
            self.why = "the system has no control groups for processes"
            return
        parent = mount / "pids" / one.lstrip("/")
        _probe(parent)
        self._parent = parent

    def _delegated(self, own: Path) -> None:
        """Version 2: what is below a group that is ours."""
        parent = own.parent if own.name == _NODE else own
        if "pids" not in (parent / "cgroup.controllers").read_text().split():
            self.why = (
                f"the control group {parent} has no pids controller (systemd: Delegate=pids in the unit)"
            )
            return
        if "pids" not in (parent / "cgroup.subtree_control").read_text().split():
            self._move_ourselves(parent)
            (parent / "cgroup.subtree_control").write_text("+pids")
        _probe(parent)
        self._parent = parent

    @staticmethod
    def _move_ourselves(parent: Path) -> None:
        if not (parent / "cgroup.type").exists():  # the root may have both
            return
        (parent / _NODE).mkdir(exist_ok=True)
        for pid in (parent / "cgroup.procs").read_text().split():
            (parent / _NODE / "cgroup.procs").write_text(pid)

    def hold(self, name: str, roots: Roots, processes: int) -> bool:
        """Put a command, with all that it has started, into a group of its own; whether that was done.

        Args:
            name: of the group.
            roots: where its processes are found.
            processes: how many it may have.
        """
        if self._parent is None:
            return False
        group = self._parent / f"{_PREFIX}{name}"
        try:
            group.mkdir(exist_ok=True)
            (group / "pids.max").write_text(str(processes))
            _move(group, roots)
        except OSError:
            self.let_go(name)
            return False
        return True

    def has_refused(self, name: str) -> bool:
        """Whether a command wanted more processes than it may have."""
        if self._parent is None:
            return False
        with contextlib.suppress(OSError, ValueError):
            events = (self._parent / f"{_PREFIX}{name}" / "pids.events").read_text().split()
            return int(events[1]) > 0
        return False

    def let_go(self, name: str) -> None:
        """Remove the group of a command that has ended; what is left in it goes to its parent's."""
        if self._parent is None:
            return
        with contextlib.suppress(OSError):
            (self._parent / f"{_PREFIX}{name}").rmdir()

    def tidy(self) -> None:
        """Remove the groups of commands that ended while nobody looked."""
        if self._parent is not None:
            for group in self._parent.glob(f"{_PREFIX}*"):
                with contextlib.suppress(OSError):
                    group.rmdir()


def _probe(parent: Path) -> None:
    """See that groups can be made.

    Raises:
        OSError: they cannot.
    """
    probe = parent / f"{_PREFIX}probe-{os.getpid()}"
    probe.mkdir()
    try:
        if not (probe / "pids.max").exists():
            raise OSError(errno.ENOENT, "a new group has no pids.max")
    finally:
        probe.rmdir()


def _move(group: Path, roots: Roots) -> None:
    moved: set[int] = set()
    for _ in range(_ROUNDS):
        tree = _tree(roots)
        new = [pid for pid in tree if pid not in moved]
        if not new:
            return
        for pid in new:
            moved.add(pid)
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))


def _tree(roots: Roots) -> Iterable[int]:
    found = {roots.command, *descendants(roots.command)}
    return found | set(descendants(roots.first)) if roots.first is not None else found
