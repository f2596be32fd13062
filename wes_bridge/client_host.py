"""Which machine is this? Client and service that agree on it can share files instead of uploading them.

Standard library only: the small client imports it.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

SHARED_FILES_TAG = "wes-bridge.shared-files"
"""Key in service-info's ``tags``; its value is the :func:`host_id` of a service that reads file:// URLs."""

EVENTS_TAG = "wes-bridge.events"
"""Key in service-info's ``tags`` of a service that has ``GET /runs/{id}/events``; its value: the version."""


@cache
def host_id() -> str:
    """A name for this machine's file system: 32 hexadecimal digits.

    The same for every process on one host, until it boots again; different in a container, which has
    another host name and another root directory. Nothing can be learnt of the host from it.
    """
    root = Path("/").stat()
    parts = [
        _text("/etc/machine-id"),
        _text("/proc/sys/kernel/random/boot_id"),
        platform.node(),
        f"{root.st_dev}:{root.st_ino}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def shares_files(tags: dict[str, str], protocols: list[str]) -> bool:
    """Whether the service that says this in its service-info reads this machine's files itself."""
    return tags.get(SHARED_FILES_TAG) == host_id() and "file" in protocols and os.name == "posix"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
