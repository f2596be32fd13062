"""What a worker is called: enough to find out, on its own machine, whether it is still alive.

A lease runs out by itself, but that takes its time; a worker of the same machine whose process is gone can be
followed at once.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def own_name() -> str:
    """This process's name: machine (as booted, and its process numbers), number, and start."""
    return f"{_machine()}-{os.getpid()}-{_started(os.getpid()) or 0}"


def is_gone(name: str) -> bool:
    """Whether a worker is known to be dead; False also when it cannot be known from here."""
    machine, _, rest = name.partition("-")
    pid, _, started = rest.partition("-")
    if machine != _machine() or not (pid.isdigit() and started.isdigit()):
        return False
    return _started(int(pid)) != int(started)


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return "unknown"  # not Linux: only leases tell
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:12]


def _started(pid: int) -> int | None:
    """When a process was started, in ticks since boot; None when there is none, or only its remains."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in ("Z", "X") else int(words[19])
