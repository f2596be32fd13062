"""What the links in a Directory lead to outside it: data that the Directory only refers to.

A folder of links to raw data is a Directory like any other for its user. Nodes follow no link out of what
they are given, so what the links lead to is staged by itself, at the links' own paths. It must not know what
a run may read.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

MOST_LINKS = 2000
"""Of one Directory."""
_MOST_ENTRIES = 300_000
"""Of a Directory that are looked at; links beyond them stay links."""
_SYSTEM = (
    *("/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/opt/"),
    *("/etc/", "/dev/", "/proc/", "/sys/", "/run/"),
)
"""Each machine, and each image, has its own: such a link stays a link."""


class TooManyLinksError(Exception):
    """A Directory holds more links than can be staged one by one."""


@dataclass(frozen=True)
class Linked:
    """A link that leads out of a Directory.

    Attributes:
        path: where it is, relative to the Directory; parts may be links.
        target: what it leads to, links followed.
        directory: whether that is a folder.
    """

    path: str
    target: str
    directory: bool


def links_out(top: str) -> list[Linked]:
    """The links in a Directory that lead to a file or a folder outside it, those in linked folders, too.

    Links that lead nowhere are left out, and those to a folder that is being looked through already.

    Args:
        top: its path, links followed.

    Raises:
        TooManyLinksError: there are more than :data:`MOST_LINKS`.
    """
    found: list[Linked] = []
    waiting: deque[tuple[str, str, tuple[str, ...]]] = deque([("", top, (top,))])
    left = _MOST_ENTRIES
    while waiting and left > 0:
        prefix, root, around = waiting.popleft()
        for path, relative in _links(root, left):
            left -= 1
            if relative is None:
                continue
            linked = _linked(path, root)
            if linked is None:
                continue
            target, directory = linked
            if any(f"{one}/".startswith(f"{target.rstrip('/')}/") for one in around):
                continue
            found.append(Linked(f"{prefix}{relative}", target, directory))
            if len(found) > MOST_LINKS:
                raise TooManyLinksError(
                    f"{top} holds more than {MOST_LINKS} links that lead out of it: give the folder that they"
                    " lead to as an input, or copies"
                )
            if directory:
                waiting.append((f"{prefix}{relative}/", target, (*around, target)))
    return found


def _links(root: str, most: int) -> Iterator[tuple[str, str | None]]:
    """What is below a folder: its path, and for a link its path from there."""
    folders = [root]
    while folders and most > 0:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    most -= 1
                    if entry.is_symlink():
                        yield entry.path, os.path.relpath(entry.path, root)
                    else:
                        yield entry.path, None
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
        except OSError:  # it cannot be looked into here: a command cannot, either
            continue


def _linked(path: str, root: str) -> tuple[str, bool] | None:
    """Where a link leads outside a folder, and whether to a folder; None where there is nothing to bring."""
    try:
        target = os.path.realpath(path, strict=True)
        mode = os.stat(target).st_mode  # noqa: PTH116
    except OSError:
        return None
    if f"{target}/".startswith((f"{root}/", *_SYSTEM)) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return None
    return target, stat.S_ISDIR(mode)
