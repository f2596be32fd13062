"""What a command left, sent by a script in its container as one stream, into a folder of ours.

Two forms are read: a tar archive (ustar, GNU and PAX names), and the pack that the script writes where there
is no ``tar``. Whoever sends may have made it up, so nothing in it is believed: no name leads out of the
folder, no link is followed, links are made last and only where they lead inside, nothing is written twice,
and no header makes us hold more than a few kB. It must not know where the stream came from.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import IO

from wes_bridge.data.beneath import (
    LinkInTheWayError,
    folder_beneath,
    open_beneath,
    opened,
    parent_beneath,
    top_of,
)
from wes_bridge.data.special import readable

_CHUNK = 256 * 1024
_BLOCK = tarfile.BLOCKSIZE
_LONGEST = 64 * 1024
"""Bytes of a name, or of what PAX says of one entry."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_MOST_NOTES = 20


class UnpackError(ValueError):
    """The stream is damaged, or made to do harm; the text says how."""


class Kind(Enum):
    """What an entry is."""

    FILE = auto()
    FOLDER = auto()
    LINK = auto()
    SAME = auto()
    """A further name of a file before it."""
    PIPE = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Entry:
    """One thing in a stream.

    Attributes:
        kind: what it is.
        path: below the folder, as :func:`os.fsdecode` gives it.
        size: of a file.
        mode: permissions.
        target: of links, and of further names.
        word: what something else is.
    """

    kind: Kind
    path: str
    size: int = 0
    mode: int = 0o644
    target: str = ""
    word: str = ""


Leads = Callable[[str, str], str | None]
"""From the path of a link and its target to the target that it gets here; None: it is left out."""


def leads_inside(path: str, target: str) -> str | None:
    """The target of a link that leads to something in the folder."""
    if target.startswith("/") or not target:
        return None
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return None if end == ".." or end.startswith("../") else target


def unpack(
    entries: Iterator[Entry], source: IO[bytes], folder: Path, leads: Leads = leads_inside
) -> list[str]:
    """Make a folder of what comes.

    Args:
        entries: of the stream; a file's bytes come from ``source`` before the next entry is asked for.
        source: the stream.
        folder: not there yet.
        leads: where links lead.

    Returns:
        In words, what was left out.

    Raises:
        UnpackError: the stream is not to be used.
        OSError: something cannot be written.
    """
    folder.mkdir(mode=0o700)
    notes: list[str] = []
    links: list[tuple[str, str]] = []
    with opened(top_of(folder)) as top:
        for entry in entries:
            if entry.kind is not Kind.LINK:
                with _placing(entry.path):
                    _place(top, entry, source, notes)
                continue
            target = leads(posixpath.normpath(entry.path), entry.target)
            if target is None:
                notes.append(f"{readable(entry.path)} is a link out of the output and was left out")
            else:
                links.append((entry.path, target))
        for path, target in links:
            _link(top, path, target)
    folder.chmod(0o755)
    more = len(notes) - _MOST_NOTES
    return [*notes[:_MOST_NOTES], f"and {more} more"] if more > 0 else notes


def _place(top: int, entry: Entry, source: IO[bytes], notes: list[str]) -> None:
    if entry.kind is Kind.FOLDER:
        with opened(folder_beneath(top, entry.path, make=True, mode=0o755)) as found:
            itself = Path(f"/proc/self/fd/{found}")
            if itself.exists():
                itself.chmod((entry.mode & 0o777) | 0o700)
        return
    above, name = parent_beneath(top, entry.path, make=True)
    with opened(above):
        if entry.kind is Kind.FILE:
            with os.fdopen(open_beneath(above, name, _NEW), "wb", buffering=0) as file:
                _copy(source, file, entry)
                os.fchmod(file.fileno(), (entry.mode & 0o777) | 0o600)
        elif entry.kind is Kind.SAME:
            _same(top, entry, above, name)
        elif entry.kind is Kind.PIPE:
            os.mkfifo(name, 0o600, dir_fd=above)
        else:
            notes.append(f"{readable(entry.path)} is {entry.word or 'no file'} and was left out")


def _copy(source: IO[bytes], file: IO[bytes], entry: Entry) -> None:
    left = entry.size
    while left:
        piece = source.read(min(left, _CHUNK))
        if not piece:
            raise UnpackError(f"it ends in the middle of {readable(entry.path)}")
        left -= len(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]


def _same(top: int, entry: Entry, above: int, name: str) -> None:
    try:
        other, first = parent_beneath(top, entry.target)
    except FileNotFoundError as error:
        raise UnpackError(f"{readable(entry.path)} is another name of what was not sent") from error
    with opened(other):
        try:
            is_file = stat.S_ISREG(os.lstat(first, dir_fd=other).st_mode)
        except FileNotFoundError:
            is_file = False
        if not is_file:
            raise UnpackError(f"{readable(entry.path)} is another name of what is no file")
        os.link(first, name, src_dir_fd=other, dst_dir_fd=above, follow_symlinks=False)


def _link(top: int, path: str, target: str) -> None:
    with _placing(path):
        above, name = parent_beneath(top, path, make=True)
        with opened(above):
            os.symlink(target, name, dir_fd=above)


@contextlib.contextmanager
def _placing(path: str) -> Iterator[None]:
    """Turn the refusal of an entry into an UnpackError that names it."""
    try:
        yield
    except FileExistsError as error:
        raise UnpackError(f"{readable(path)} is sent twice") from error
    except LinkInTheWayError as error:
        raise UnpackError(f"{readable(path)} leads out of the output") from error


# ---- tar ------------------------------------------------------------------------------------------

_TAR_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.LINK,
    tarfile.LNKTYPE: Kind.SAME,
    tarfile.FIFOTYPE: Kind.PIPE,
    tarfile.CHRTYPE: Kind.OTHER,
    tarfile.BLKTYPE: Kind.OTHER,
}
_WORDS = {tarfile.CHRTYPE: "a character device", tarfile.BLKTYPE: "a block device"}
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}


def tar_entries(source: IO[bytes]) -> Iterator[Entry]:
    """Of a tar archive. Python's own reader holds names of any length in memory.

    Raises:
        UnpackError: it is damaged, or holds what is not understood.
    """
    said: dict[str, str] = {}
    while True:
        block = _exactly(source, _BLOCK)
        if not block.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise UnpackError("it is no tar archive, or damaged") from error
        if info.size < 0:
            raise UnpackError("an entry has a size below zero")
        if info.type in _LONG:
            said[_LONG[info.type]] = os.fsdecode(_short(source, info.size).rstrip(b"\0"))
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            said |= _pax(_short(source, info.size))
        elif info.type == tarfile.XGLTYPE:
            _short(source, info.size)
        else:
            yield from _tar_entry(source, info, said)
            said = {}


def _tar_entry(source: IO[bytes], info: tarfile.TarInfo, said: dict[str, str]) -> Iterator[Entry]:
    kind = _TAR_KINDS.get(info.type)
    path, target = said.get("path", info.name), said.get("linkpath", info.linkname)
    if kind is None or any(name.startswith("GNU.sparse") for name in said):
        raise UnpackError(f"{readable(path)} is of a kind that is not understood")
    size = 0
    if kind is Kind.FILE:
        text = said.get("size", str(info.size))
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise UnpackError(f"{readable(path)} has no size")
        size = int(text)
        if path.endswith("/"):  # of old, a folder
            kind, size = Kind.FOLDER, 0
    yield Entry(kind, path, size, info.mode, target, _WORDS.get(info.type, ""))
    _exactly(source, -size % _BLOCK)


def _short(source: IO[bytes], size: int) -> bytes:
    if size > _LONGEST:
        raise UnpackError(f"a name has more than {_LONGEST} bytes")
    content = _exactly(source, size)
    _exactly(source, -size % _BLOCK)
    return content


def _pax(content: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    while content.strip(b"\0"):
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length) <= len(content):
            raise UnpackError("what PAX says of an entry cannot be read")
        record, content = content[len(length) + 1 : int(length) - 1], content[int(length) :]
        name, _, value = record.partition(b"=")
        found[os.fsdecode(name)] = os.fsdecode(value)
    return found


def _exactly(source: IO[bytes], size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = source.read(size - len(content))
        if not piece:
            raise UnpackError("it ends too early")
        content += piece
    return content


# ---- the pack -------------------------------------------------------------------------------------


def pack_entries(source: IO[bytes]) -> Iterator[Entry]:
    """Of a pack, which a shell can write: ``F MODE SIZE LENGTH``, ``D LENGTH``, ``L LENGTH TARGET-LENGTH`` or
    ``O WORD LENGTH``, each a line, and then the bytes it tells of; ``E`` is the end.

    Raises:
        UnpackError: it is damaged.
    """
    while True:
        words = _line(source)
        match words:
            case ["E"]:
                return
            case ["F", mode, size, length]:
                yield Entry(Kind.FILE, _name(source, length), _number(size), 0o755 if mode == "x" else 0o644)
            case ["D", length]:
                yield Entry(Kind.FOLDER, _name(source, length), mode=0o755)
            case ["L", length, other]:
                yield Entry(Kind.LINK, _name(source, length), target=_name(source, other))
            case ["O", word, length]:
                kind = Kind.PIPE if word == "fifo" else Kind.OTHER
                yield Entry(kind, _name(source, length), word="a socket or a device")
            case _:
                raise UnpackError("it is no pack, or damaged")


def _line(source: IO[bytes]) -> list[str]:
    line = source.readline(100)
    if not line.endswith(b"\n"):
        raise UnpackError("it ends too early")
    return line.decode("ascii", "replace").split()


def _name(source: IO[bytes], length: str) -> str:
    size = _number(length)
    if not 0 < size <= _LONGEST:
        raise UnpackError("a name has no length that a name can have")
    return os.fsdecode(_exactly(source, size))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UnpackError("a number cannot be read")
    return int(text)


def is_complete(source: IO[bytes]) -> bool:
    """Whether nothing but padding comes any more."""
    with contextlib.suppress(OSError):
        return not any(piece.strip(b"\0") for piece in iter(lambda: source.read(_CHUNK), b""))
    return False
