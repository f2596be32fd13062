"""Why a command in a sandbox may have failed: what it could not see or reach, in words for its user.

That a file is on the machine is told only where the node serves nobody but its own user.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from wes_bridge.model.execution_broker import Message
from wes_bridge.node import messages

_TAIL = 8192
"""Bytes of standard error that are looked at."""
_MOST = 3
"""Paths that are told of."""
_PATH = re.compile(r"""(?<![\w.$}/])/[^\s'"`=:;|&<>(){}*?\[\]$,]+""")
_MACHINE = ("/dev/", "/proc/", "/sys/")
_NO_NETWORK = re.compile(
    r"name resolution|name or service not known|could ?n.t resolve|could not resolve|network is unreachable"
    r"|unable to resolve|nodename nor servname|getaddrinfo|no such host",
    re.IGNORECASE,
)


def unseen(command: Iterable[str], is_seen: Callable[[Path], bool]) -> list[Message]:
    """What a command line names that is on this machine, and that the command did not see.

    Args:
        command: its words; a script's text counts.
        is_seen: whether the command sees a path.
    """
    found: list[Message] = []
    told: set[str] = set()
    for word in command:
        for path in _PATH.findall(word):
            path = path.rstrip("/.")  # noqa: PLW2901 - the end of a sentence
            if len(found) == _MOST:
                return found
            if path in told or path.startswith(_MACHINE) or is_seen(Path(path)) or not os.path.exists(path):  # noqa: PTH110
                continue
            told.add(path)
            text = (
                "{path} is on this machine, but steps see their inputs only: make it a File or Directory"
                " input, or show it (wes-bridge run --show {path}, or the node's setting sandbox_shows)"
            )
            found.append(messages.message(messages.UNSEEN, text, path=path))
    return found


def unreached(stderr: Path) -> list[Message]:
    """That a command had no network, if what it said last looks as if it missed it."""
    try:  # the command may put anything there
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(stderr, flags), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read(_TAIL).decode(errors="replace")
    except OSError:
        return []
    if not _NO_NETWORK.search(text):
        return []
    words = "the step had no network: a tool gets one by the requirement NetworkAccess (networkAccess: true)"
    return [messages.message(messages.NO_NETWORK, words)]
