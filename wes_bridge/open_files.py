"""How many files and connections a process may have open. It must not know what for."""

from __future__ import annotations

import contextlib
import resource

MOST = 65536
"""Where there is no limit: some programs look at every number that could be open."""


def allow_many() -> None:
    """Raise the soft limit, often 1024: each client that waits, and each session that is followed, holds one.

    The hard limit is the administrator's word; what is started from here on has the raised one, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
