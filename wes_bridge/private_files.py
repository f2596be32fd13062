"""Folders of ours that are nobody else's business: state folders, and what is in them.

A folder is a fence: whoever cannot go through it reaches nothing below, whatever the modes are there. So the
files of runs and sessions keep ordinary modes, which a tool in a container that becomes another user needs,
and the folders above them are their owner's alone. It must not know what is kept in a folder.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_logger = logging.getLogger(__name__)

_OTHERS = 0o077
_DEEP = 2
"""Levels below a folder that are looked at when others could go into it so far."""
_MARKS = (
    *("serve.lock", "wes-bridge.db", "node.db", "keeper", "aggregator.db", "worker.json", "serve.log"),
    *("api-keys.json", ".api-keys.json.lock", "service-key", "delegation.key"),
)
"""Files by which a folder is known as one of ours."""
_COMMON = ("token", "audit.log")
"""Further files that we leave. Others use such names too: a folder is ours only if nothing else is there."""


class NotOursError(OSError):
    """A folder belongs to another user, who could read or replace what is put there."""


def private_folder(path: Path, *, public_place: bool = False) -> None:
    """Have a folder that only our user can look into, and make it so if it is there already.

    What is narrowed is told in the log, once: from then on it is narrow. A folder that was there and has
    other things than ours in it is left as it is, which is told at each start.

    Args:
        path: made if missing.
        public_place: whether anybody could have made it before us, as in a temporary folder.

    Raises:
        NotOursError: it belongs to another user.
        OSError: it cannot be made.
    """
    make_private(path)
    found = path.stat()
    if public_place:
        found = path.lstat()
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise NotOursError(f"{path} belongs to another user: remove it, or choose another state folder")
    if not found.st_mode & _OTHERS:
        return
    if not _is_ours(path, found):
        _logger.warning(
            "other users can look into the folder %s, and what is kept there is the user's own: give"
            " wes-bridge a folder for itself (--state), or run chmod 700 on this one",
            path,
        )
        _narrow_all(path, _known(path))
        return
    names = _narrow_all(path, [path, *_below(path, _DEEP)])
    _logger.warning(
        "other users could look into the folder %s; now only its user can (%d files and folders of it had"
        " too wide a mode, too)",
        path,
        names - 1,
    )


def make_private(path: Path) -> None:
    """Make a folder, and those above it, where they are missing: only our user can look into what is made.

    What is there stays as it is. Whoever makes a file in a state folder before its server runs
    :func:`private_folder` there uses this: no folder of ours has ever a wider mode.

    Raises:
        OSError: it cannot be made.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> None:
    """Have a file that only our user can read, empty if it was not there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if path.stat().st_mode & _OTHERS:
        path.chmod(0o600)


def _is_ours(path: Path, found: os.stat_result) -> bool:
    """Whether it is made for us: nothing else is in it, or what we leave is; never a place for everybody."""
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        return False
    names = set(os.listdir(path))  # noqa: PTH208
    return names.issubset(_COMMON) or not names.isdisjoint(_MARKS)


def _known(path: Path) -> list[Path]:
    return [path / name for name in (*_MARKS, *_COMMON) if (path / name).exists()]


def _below(path: Path, levels: int) -> Iterator[Path]:
    for entry in path.iterdir():
        if entry.is_symlink():
            continue
        yield entry
        if levels > 1 and entry.is_dir():
            yield from _below(entry, levels - 1)


def _narrow_all(root: Path, paths: list[Path]) -> int:
    """Take others' rights away; of how many. Those of other users stay as they are."""
    count = 0
    for path in paths:
        mode = path.lstat().st_mode
        if mode & _OTHERS and (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
            try:
                path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
                count += 1
            except OSError as error:
                _logger.warning("cannot keep other users from %s below %s: %s", path, root, error.strerror)
    return count
