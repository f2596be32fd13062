"""What is neither a file nor a folder, in words: such things cannot be handed on to others."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def special_kind(mode: int) -> str | None:
    """What a thing with this ``st_mode`` is; None for a file or a folder."""
    kind = stat.S_IFMT(mode)
    return None if kind in (stat.S_IFREG, stat.S_IFDIR) else _KINDS.get(kind, "neither a file nor a folder")


def broken_link(path: str, error: OSError) -> str:
    """A link that cannot be followed, in words."""
    why = "leads back to itself" if error.errno == errno.ELOOP else "is not there"
    return f"a link to {readable(os.readlink(path))}, which {why}"  # noqa: PTH115 - texts, for each file


def what_is_wrong(path: str) -> str | None:
    """Why the thing at ``path`` is no file and no folder; None when it is one, or nothing is there at all."""
    try:
        return special_kind(os.stat(path).st_mode)  # noqa: PTH116
    except OSError as error:
        return broken_link(path, error) if os.path.islink(path) else None  # noqa: PTH114


def put_special(path: Path, words: str) -> None:
    """Something that is neither file nor folder: a socket, where the words say so, else a pipe."""
    kind = stat.S_IFSOCK if _KINDS[stat.S_IFSOCK] in words else stat.S_IFIFO
    os.mknod(path, 0o600 | kind)


def readable(name: str) -> str:
    """A name as it can be shown: bytes that are no text, and control characters, are escaped."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]
