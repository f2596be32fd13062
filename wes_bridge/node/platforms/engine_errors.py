"""Whether the container engine failed or the command in the container: both have the same exit codes.

The command lines of podman and docker end with 125, 126 or 127 when they, or the OCI runtime below them,
could not start a container. A command may end with any of these as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from wes_bridge.node.platforms.images import last_line
from wes_bridge.small_files import read_end

AMBIGUOUS = frozenset({125, 126, 127})
"""Exit codes that an engine has of its own."""
_TAIL = 4096
_VERSION = re.compile(r"^Version:\s+(\d+)\.(\d+)", re.MULTILINE)
_FIRST_WITH_PIDFILE = (3, 3)
_PREFIXES = ("Error:", "docker:")
_COMMAND = re.compile(r"exec: \"|executable file .* not found|: open executable")
"""How runc and crun say that it is the command that is missing or may not be executed."""

_PASSING = re.compile(r"netns|network namespace|cni plugin|netavark|loopback adapter|final child's PID")
"""What engines say of a network that another container, begun or ended at the same time, spoiled; and runc of
a process that it lost while it made a container."""


def is_passing(reason: str) -> bool:
    """Whether the same container can be begun a moment later.

    Args:
        reason: the engine's words, of a container that was not begun.
    """
    return _PASSING.search(reason) is not None


def tells_when_started(version: str) -> bool:
    """Whether ``run --pidfile`` works, by what ``podman version`` wrote: not in old or remote ones."""
    found = _VERSION.search(version)
    new = found is not None and (int(found[1]), int(found[2])) >= _FIRST_WITH_PIDFILE
    return new and "Server:" not in version


def engines_failure(stderr: Path, started: bool | None) -> str | None:
    """What the engine says of its own failure; None when the failure is the command's.

    Args:
        stderr: where the engine and the command wrote to.
        started: whether the command was started; None where the engine does not tell: its words decide then.
    """
    if started:
        return None
    text = _end_of(stderr)
    said = [line.strip() for line in text.splitlines() if line.startswith(_PREFIXES)]
    if started is None and not said:
        return None
    reason = last_line(said[-1] if said else text)
    return None if _COMMAND.search(reason) else reason or "no reason given"


def _end_of(path: Path) -> str:
    try:
        return read_end(path, _TAIL).decode(errors="replace")
    except OSError:
        return ""
