"""What is neither a file nor a folder, in words: such things cannot be handed on to others.

What an output has and its node does not keep (pipes, links that lead out of it) has a link to nowhere where
the output is fetched to. So it is not missed without a word: whoever wants it is told.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the client reads only words here, and starts without pydantic
    from wes_bridge.model.manifest import ManifestEntry

_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

_NOT_KEPT = "/dev/null/not kept: "
"""Begins the target of a link that no system can follow; what it stands for comes behind it, in words."""
_LONGEST = 1000


def put_not_kept(path: str, entry: ManifestEntry) -> None:
    """Make the link that stands for a thing which its node does not keep.

    Args:
        path: where nothing is.
        entry: what the manifest says of the thing.

    Raises:
        OSError: it cannot be made.
    """
    target = entry.target or ""
    if not target.startswith(_NOT_KEPT):
        what = f"a link to {readable(target)}, which is not in the output" if target else (entry.note or "")
        target = _NOT_KEPT + (readable(what)[:_LONGEST] or "it is neither a file nor a folder")
    os.symlink(target, path)  # noqa: PTH211 - texts, as below


def not_kept(target: str) -> str | None:
    """The reason in a link's target why the node did not keep the thing; None: an ordinary link."""
    if not target.startswith(_NOT_KEPT):
        return None
    return f"not kept by the node that made it: {readable(target.removeprefix(_NOT_KEPT))}"


def special_kind(mode: int) -> str | None:
    """What a thing with this ``st_mode`` is; None for a file or a folder."""
    kind = stat.S_IFMT(mode)
    return None if kind in (stat.S_IFREG, stat.S_IFDIR) else _KINDS.get(kind, "neither a file nor a folder")


def broken_link(path: str, error: OSError) -> str:
    """A link that cannot be followed, in words."""
    target = os.readlink(path)  # noqa: PTH115 - texts, for each file
    if (words := not_kept(target)) is not None:
        return words
    why = "leads back to itself" if error.errno == errno.ELOOP else "is not there"
    return f"a link to {readable(target)}, which {why}"


def what_is_wrong(path: str) -> str | None:
    """Why the thing at ``path`` is no file and no folder; None when it is one, or nothing is there at all."""
    try:
        return special_kind(os.stat(path).st_mode)  # noqa: PTH116
    except OSError as error:
        return broken_link(path, error) if os.path.islink(path) else None  # noqa: PTH114


def readable(name: str) -> str:
    """A name as it can be shown: bytes that are no text, and control characters, are escaped."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return text if text.isprintable() else repr(text)[1:-1]
