"""The sandbox around a plain process: what the command can see, write and reach.

It is made by bubblewrap, or, with ``sandbox: own``, by the node's keeper itself (``encloser``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from wes_bridge.node.platforms.base import PAUSES, Job
from wes_bridge.node.platforms.processes import MARKER
from wes_bridge.node.staging.plan import Kind

_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
"""What root inside may still do: treat files as root does, nothing to the machine."""
_BASE = ("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp")  # noqa: S108
_HIDDEN = (Path("/tmp"), Path("/dev"), Path("/proc"))  # noqa: S108


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
    probe = [path, *_shown(shows), *_BASE, "--unshare-pid", "--unshare-net", "--die-with-parent", "true"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run: {error}"
    if done.returncode != 0:
        return f"bubblewrap does not work here: {done.stderr.strip()[-300:]}"
    return None


def wrap(bwrap: str, argv: list[str], job: Job, state: Path, shows: list[str], *, network: bool) -> list[str]:
    """The command line that runs ``argv`` in a sandbox.

    What can be seen is read-only except the session's file system and what was asked for READWRITE in place;
    ``/tmp`` is private and empty; the node's other sessions and other processes cannot be seen.

    Args:
        bwrap: path of bubblewrap.
        argv: the command.
        job: of which session.
        state: the node's state directory, hidden.
        shows: what can be seen of the machine.
        network: whether there is one.
    """
    tree, folder = job.tree, job.folder
    words = [bwrap, *_shown(shows), *_BASE, "--tmpfs", str(state), "--bind", str(folder.fs), str(folder.fs)]
    for entry in tree.ordered():
        if entry.kind is not Kind.LINK:
            continue
        source = str(entry.source)
        if entry.writable:
            words += ["--bind", source, source]
        elif not _is_shown(entry.source, state, shows):
            words += ["--ro-bind", source, source]
    for tools in _tools(os.environ.get("PATH", ""), state, tuple(shows)):
        words += ["--ro-bind", tools, tools]
    words += [
        "--unshare-pid",
        "--die-with-parent",
        "--unsetenv",
        MARKER,
        "--chdir",
        str(tree.paths.host(tree.workdir)),
    ]
    if not network:
        words.append("--unshare-net")
    if os.geteuid() == 0:
        words += ["--cap-drop", "ALL"]
        for capability in _KEPT:
            words += ["--cap-add", f"CAP_{capability}"]
    return [*words, "--", *argv]


def enclosure(job: Job, state: Path, shows: list[str], *, network: bool) -> dict[str, object]:
    """What an ``encloser`` is to put around a command; as :func:`wrap`.

    Args:
        job: of which session.
        state: the node's state directory, hidden.
        shows: what can be seen of the machine.
        network: whether there is one.
    """
    binds = [(str(job.folder.fs), True)]
    for entry in job.tree.ordered():
        if entry.kind is Kind.LINK and (entry.writable or not _is_shown(entry.source, state, shows)):
            binds.append((str(entry.source), entry.writable))
    binds += [(tools, False) for tools in _tools(os.environ.get("PATH", ""), state, tuple(shows))]
    return {"shows": shows, "hides": [str(state)], "binds": binds, "network": network}


def _shown(shows: Sequence[str]) -> list[str]:
    """For bubblewrap; links, as ``/bin`` is in many places, stay links."""
    words: list[str] = []
    for path in shows:
        if Path(path).is_symlink():
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


@lru_cache(maxsize=8)
def _tools(path: str, state: Path, shows: tuple[str, ...]) -> list[str]:
    """Folders of programs on the node's own PATH that could not be seen: a virtual environment, for example.

    A command's PATH is what a step says: nothing is shown for that.
    """
    folders = (Path(entry) for entry in path.split(os.pathsep) if entry.startswith("/"))
    there = [folder for folder in folders if not _is_shown(folder, state, shows) and folder.is_dir()]
    found = (folder.parent if folder.name == "bin" and len(folder.parts) > 3 else folder for folder in there)
    return [str(folder) for folder in dict.fromkeys(found) if not _touch(folder, state)]


def _touch(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_shown(path: Path, state: Path, shows: Sequence[str]) -> bool:
    return not _is_hidden(path, state) and any(path.is_relative_to(shown) for shown in shows)


def _is_hidden(path: Path, state: Path) -> bool:
    return any(path.is_relative_to(hidden) for hidden in (*_HIDDEN, state))
