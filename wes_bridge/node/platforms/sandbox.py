"""The sandbox around a plain process: what the command can see, write and reach.

It is made by bubblewrap, or, with ``sandbox: own``, by the node's keeper itself (``enclosing``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from wes_bridge.node.platforms import shown
from wes_bridge.node.platforms.base import PAUSES, Job
from wes_bridge.node.staging.plan import Kind

_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
"""What root inside may still do: treat files as root does, nothing to the machine."""
_BASE = ("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp")  # noqa: S108
_MACHINE = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
"""By these the machine is told what to do; root's user may, also without rights."""
_ROOTS = (
    *("/proc/acpi", "/proc/asound", "/proc/driver", "/proc/dynamic_debug", "/proc/latency_stats"),
    *("/proc/mtrr", "/proc/pressure", "/proc/scsi", "/proc/tty"),
)
"""What else of ``/proc`` root may write to."""
_OPTIONS = 3
"""The descriptor at which bubblewrap reads its options."""


FAILED = 1
"""What bubblewrap ends with when it cannot make the sandbox; commands do so, too."""
_PASSING = "No such file or directory"
"""The end of what it says of a mount that has gone meanwhile, unlike what it may not do at all."""
_LONGEST_EXCUSE = 2000
"""Bytes."""


@lru_cache(maxsize=8)
def bubblewrap(shows: tuple[str, ...] = ("/",)) -> tuple[str | None, str]:
    """The path of a bubblewrap that works here, and otherwise None and why not. Found out once, in 10 ms.

    Args:
        shows: what can be seen of the machine: too little, and no command can be started.
    """
    path = shutil.which("bwrap")
    if path is None:
        return None, "bubblewrap (bwrap) is not installed"
    reason = _tried(path, shows)
    for pause in PAUSES:
        if reason is None or not reason.endswith(_PASSING):
            break
        time.sleep(pause)
        reason = _tried(path, shows)
    return (path, "") if reason is None else (None, reason)


def _tried(path: str, shows: tuple[str, ...]) -> str | None:
    """Why it does not work here."""
    probe = [path, *_shown(shows), *_BASE, *_users(), "--unshare-pid", "--unshare-net", "--die-with-parent"]
    probe += ["/bin/sh", "-c", ":"]
    try:
        done = subprocess.run(probe, env={}, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run: {error}"
    if done.returncode != 0:
        return f"bubblewrap does not work here: {done.stderr.strip()[-300:]}"
    return None


@dataclass(frozen=True)
class View:
    """What commands see of the machine; the same for all commands of a node.

    Attributes:
        shows: paths that are seen, read-only.
        tools: what the programs on the node's own PATH need besides.
        state: the node's state directory, hidden.
    """

    shows: list[str]
    tools: list[str]
    state: Path

    @classmethod
    def of(cls, setting: Sequence[Path], state: Path) -> View:
        """What the setting ``sandbox_shows`` says, and what there is on our own PATH."""
        shows = shown.expanded([str(word) for word in setting])
        return cls(shows, shown.tools(os.environ.get("PATH", ""), shows, [state]), state)

    @cached_property
    def folders(self) -> list[str]:
        """What is seen before anything covers it."""
        return [*self.shows, *(tool for tool in self.tools if not shown.is_below(Path(tool), shown.COVERED))]

    @cached_property
    def uncovered(self) -> list[str]:
        """What is seen in a folder of the sandbox's own."""
        return [tool for tool in self.tools if shown.is_below(Path(tool), shown.COVERED)]

    def has(self, path: Path) -> bool:
        """Whether a path is seen, as it is written."""
        if shown.is_below(path, [self.state]):
            return False
        if shown.is_below(path, shown.COVERED):
            return shown.is_below(path, self.uncovered)
        return shown.is_below(path, self.folders)


def options(
    view: View, binds: list[tuple[str, bool]], env: Mapping[str, str], cwd: Path, *, network: bool
) -> list[str]:
    """What bubblewrap is told at a descriptor: other users of the machine can read a command line.

    What can be seen is read-only except the session's file system and what was asked for READWRITE in place;
    ``/tmp`` is private and empty; the node's other sessions and other processes cannot be seen. Bubblewrap's
    own environment is empty, so that what a step says of libraries to load is said to the step only.

    Args:
        view: what can be seen of the machine.
        binds: what the command sees besides.
        env: the command's environment.
        cwd: where it starts.
        network: whether there is one.
    """
    words = ["--clearenv"]
    for name, value in env.items():
        words += ["--setenv", name, value]
    words += [*_shown(view.folders), *_BASE]
    for path in _MACHINE:
        words += ["--ro-bind-try", path, path]
    if os.geteuid() == 0:  # whose files they are
        for path in _ROOTS:
            words += ["--ro-bind-try", path, path]
    words += ["--tmpfs", str(view.state)]
    for path, writable in binds:
        words += ["--bind" if writable else "--ro-bind", path, path]
    if view.shows != ["/"]:
        words += ["--remount-ro", "/"]
    words += ["--unshare-pid", "--unshare-ipc", "--die-with-parent", *_users()]
    words += ["--chdir", str(cwd)]
    return words if network else [*words, "--unshare-net"]


def command_line(bwrap: str, argv: list[str], stdin: Path | None) -> list[str]:
    """Bubblewrap's, which reads the rest at its descriptor.

    A shell in the sandbox opens what the command reads: by way of a descriptor from outside the machine's
    file could be opened again, to write, and its mode changed.
    """
    if stdin is None and os.geteuid() != 0:
        return [bwrap, "--args", str(_OPTIONS), "--", *argv]
    script = ["/bin/sh", "-c", 'input=$1; shift; exec "$@" <"$input"', "sh", str(stdin or os.devnull)]
    return [bwrap, "--args", str(_OPTIONS), "--", *script, *argv]


def enclosure(
    view: View, binds: list[tuple[str, bool]], stdin: Path | None, *, network: bool
) -> dict[str, object]:
    """What an ``enclosing`` is to put around a command; as :func:`options`.

    Args:
        view: what can be seen of the machine.
        binds: what the command sees besides.
        stdin: what it reads.
        network: whether there is one.
    """
    return {
        "stdin": str(stdin or os.devnull),
        "shows": view.folders,
        "hides": [str(view.state)],
        "binds": binds,
        "network": network,
    }


def binds_of(view: View, job: Job) -> list[tuple[str, bool]]:
    """Paths that the command of a job sees besides, and whether it may write there.

    They are those of the session's own files and of its data; nothing is there because a step names it.
    """
    linked = [entry for entry in job.tree.ordered() if entry.kind is Kind.LINK]
    inputs = str(job.folder.inputs)
    others = [entry for entry in linked if not str(entry.source).startswith(inputs + "/")]
    binds = [(str(job.folder.fs), True)]
    if len(others) < len(linked):
        binds.append((inputs, False))  # what was fetched, all at once
    for entry in others:
        if entry.writable or not view.has(entry.source):
            binds.append((str(entry.source), entry.writable))
    return binds + [(tool, False) for tool in view.uncovered]


def is_seen(view: View, binds: list[tuple[str, bool]], path: Path) -> bool:
    """Whether a command sees a path; links are not followed."""
    return view.has(path) or shown.is_below(path, [bound for bound, _ in binds])


def _users() -> list[str]:
    """A user namespace, in which root is root over its own files only."""
    if os.geteuid() != 0:
        return []  # it makes one by itself
    words = ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-drop", "ALL"]
    for capability in _KEPT:
        words += ["--cap-add", f"CAP_{capability}"]
    return words


def _shown(shows: Sequence[str]) -> list[str]:
    """For bubblewrap; links, as ``/bin`` is in many places, stay links if they lead to what is shown."""
    words: list[str] = []
    for path in shows:
        if shown.stays_link(path, shows):
            words += ["--symlink", os.readlink(path), path]  # noqa: PTH115 - as it is written
        else:
            words += ["--ro-bind-try", path, path]
    return words


def failure(stderr: Path) -> str | None:
    """Why there was no sandbox; None when the command was begun, or could not be for its own fault.

    Args:
        stderr: what bubblewrap and the command wrote; of an end with :data:`FAILED`.
    """
    try:
        flags = (
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )  # the command may put anything there
        with os.fdopen(os.open(stderr, flags), "rb") as file:
            text = file.read(_LONGEST_EXCUSE).decode(errors="replace").strip()
    except OSError:
        return None
    lines = text.splitlines()
    if not lines or not all(line.startswith("bwrap: ") for line in lines):
        return None
    reason = lines[-1].removeprefix("bwrap: ")
    return None if reason.startswith("execvp ") else reason
