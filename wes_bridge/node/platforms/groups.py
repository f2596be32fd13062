"""Control groups: where the system lets us have them, they hold the number of a command's processes, and its
memory.

Version 2 as systemd delegates it (``Delegate=pids memory`` in the unit), or as root; and the controllers
``pids`` and ``memory`` of version 1, as root. Where there are none, both are looked at now and then
(``watch``), and :attr:`Groups.why` and :attr:`Groups.why_no_memory` say why. What a command has used before
it is put into its group is not counted there, so it is looked at in any case. It must not know what a session
is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from wes_bridge.node.platforms.processes import Roots, descendants

Controller = Literal["pids", "memory"]
_MOUNT = Path("/sys/fs/cgroup")
_NODE = "wes-bridge-node"
"""The group of the node itself: one with groups below it has no processes of its own."""
_PREFIX = "wes-bridge-session-"
_ROUNDS = 50
"""Of moving what was started while others were moved."""
_CONTROLLERS: tuple[Controller, ...] = ("pids", "memory")
_LIMITS: dict[Controller, tuple[str, ...]] = {
    "pids": ("pids.max",),
    "memory": ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
}
"""Files with limits, of both versions, in the order in which they are written."""
_EVENTS: dict[Controller, tuple[tuple[str, str], ...]] = {
    "pids": (("pids.events", "max"),),
    "memory": (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")),
}
"""Files with counts of what the system has refused, and the word before the count."""
_AS_ONE = (("memory.swap.max", "0"), ("memory.oom.group", "1"))
"""What makes memory a limit: there is no other room for it, and no part of a command goes on alone."""


class Groups:
    """Makes a group for each command.

    Args:
        mount: where control groups are.
        own: what ``/proc/self/cgroup`` says.

    Attributes:
        why: why none holds the number of processes; None when they do.
        why_no_memory: the same of memory.
    """

    def __init__(self, mount: Path = _MOUNT, own: str | None = None) -> None:
        self._why: dict[Controller, str] = {}
        self._parents: dict[Controller, Path] = {}
        try:
            lines = (Path("/proc/self/cgroup").read_text() if own is None else own).splitlines()
            self._find(mount, [line.split(":", 2) for line in lines])
        except OSError as error:
            for controller in _CONTROLLERS:
                self._lacks(controller, f"control groups cannot be made here: {error.strerror}")
        self.why = self._why.get("pids")
        self.why_no_memory = self._why.get("memory")

    def _lacks(self, controller: Controller, why: str) -> None:
        if controller not in self._parents:
            self._why.setdefault(controller, why)

    def _find(self, mount: Path, lines: list[list[str]]) -> None:
        two = next((path for number, _, path in lines if number == "0"), None)
        if two is not None and (mount / "cgroup.controllers").exists():
            self._delegated(mount / two.lstrip("/"))
            return
        for controller in _CONTROLLERS:
            one = next((path for _, names, path in lines if controller in names.split(",")), None)
            if one is None:
                what = "processes" if controller == "pids" else "memory"
                self._lacks(controller, f"the system has no control groups for {what}")
                continue
            parent = mount / controller / one.lstrip("/")
            try:
                _probe(parent, [controller])
            except OSError as error:
                self._lacks(controller, f"control groups cannot be made here: {error.strerror}")
            else:
                self._parents[controller] = parent

    def _delegated(self, own: Path) -> None:
        """Version 2: what is below a group that is ours."""
        parent = own.parent if own.name == _NODE else own
        known = (parent / "cgroup.controllers").read_text().split()
        for controller in _CONTROLLERS:
            if controller not in known:
                wanted = "Delegate=pids memory"
                self._lacks(
                    controller,
                    f"the control group {parent} has no {controller} controller (systemd: {wanted})",
                )
        found = [controller for controller in _CONTROLLERS if controller in known]
        given = (parent / "cgroup.subtree_control").read_text().split() if found else []
        missing = [controller for controller in found if controller not in given]
        if missing:
            self._move_ourselves(parent)
            words = " ".join(f"+{controller}" for controller in missing)
            (parent / "cgroup.subtree_control").write_text(words)
        if found:
            _probe(parent, found)
        self._parents = dict.fromkeys(found, parent)

    @staticmethod
    def _move_ourselves(parent: Path) -> None:
        if not (parent / "cgroup.type").exists():  # the root may have both
            return
        (parent / _NODE).mkdir(exist_ok=True)
        for pid in (parent / "cgroup.procs").read_text().split():
            (parent / _NODE / "cgroup.procs").write_text(pid)

    def _of(self, name: str) -> Iterator[tuple[Path, list[Controller]]]:
        """The groups of a command, and what each is for: one in version 2, one for each controller in 1."""
        for parent in dict.fromkeys(self._parents.values()):
            yield (
                parent / f"{_PREFIX}{name}",
                [each for each in _CONTROLLERS if self._parents.get(each) == parent],
            )

    def hold(self, name: str, roots: Roots, processes: int | None, memory: int | None = None) -> bool:
        """Put a command, with all that it has started, into a group of its own; whether that was done.

        Args:
            name: of the group.
            roots: where its processes are found.
            processes: how many it may have; None: as many as it likes.
            memory: bytes that they may have together; None: as many as they like.
        """
        limits: dict[Controller, int | None] = {"pids": processes, "memory": memory}
        is_held = False
        for group, controllers in self._of(name):
            wanted = {each: limit for each in controllers if (limit := limits[each]) is not None}
            if not wanted:
                continue
            try:
                group.mkdir(exist_ok=True)
                for controller, limit in wanted.items():
                    _limit(group, controller, limit)
                _move(group, roots)
                is_held = True
            except OSError:
                _remove(group)
        return is_held

    def has_refused(self, name: str) -> bool:
        """Whether a command wanted more processes than it may have."""
        return self._has_happened(name, "pids")

    def has_run_out(self, name: str) -> bool:
        """Whether the system has ended something of a command, since it had no memory left of its own."""
        return self._has_happened(name, "memory")

    def _has_happened(self, name: str, controller: Controller) -> bool:
        parent = self._parents.get(controller)
        return parent is not None and _count(parent / f"{_PREFIX}{name}", controller) > 0

    def let_go(self, name: str) -> None:
        """Remove the group of a command that has ended; what is left in it goes to its parent's."""
        for group, _ in self._of(name):
            _remove(group)

    def tidy(self) -> None:
        """Remove the groups of commands that ended while nobody looked."""
        for parent in set(self._parents.values()):
            for group in parent.glob(f"{_PREFIX}*"):
                _remove(group)


def _limit(group: Path, controller: Controller, limit: int) -> None:
    for file in _LIMITS[controller]:
        if (group / file).exists():
            (group / file).write_text(str(limit))
    for file, text in _AS_ONE if controller == "memory" else ():
        if (group / file).exists():
            (group / file).write_text(text)


def _count(group: Path, controller: Controller) -> int:
    for file, word in _EVENTS[controller]:
        with contextlib.suppress(OSError, ValueError):
            for line in (group / file).read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == word:
                    return int(count)
    return 0


def _remove(group: Path) -> None:
    with contextlib.suppress(OSError):
        group.rmdir()


def _probe(parent: Path, controllers: Sequence[Controller]) -> None:
    """See that groups can be made.

    Raises:
        OSError: they cannot.
    """
    probe = parent / f"{_PREFIX}probe-{os.getpid()}"
    probe.mkdir()
    try:
        for controller in controllers:
            if not any((probe / file).exists() for file in _LIMITS[controller]):
                raise OSError(errno.ENOENT, f"a new group has no limit of {controller}")
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
