"""Parcels: what goes by HTTP between the service and one session at a broker that shares no disk with it.

The engine makes one before the session is accepted: a script, and what the session may fetch. The session
sends what its command left. A parcel is a folder beside the step's output, and a link to it by its name in
the service's state folder, so that its address says nothing of where it is. All of it blocks. It must not
know HTTP, nor what the parts mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

from pydantic import BaseModel, ValidationError

from wes_bridge.auth.signed_urls import SignedUrls
from wes_bridge.model.data_urls import DataPath
from wes_bridge.small_files import read_small

PARCEL = "step"
"""Name of the one output that a parcel has in its addresses."""
SENT = "sent"
"""Folder, in an address, of what the session sends."""
SCRIPT, ALL = "script", "all"
"""What the session runs; one tar archive of all inputs that go together."""
BEGAN, ALIVE, END = "began", "alive", "end"
"""Sent when the script begins, now and then while the command runs, and last of all."""
TAR, PACK, STDOUT, STDERR = "out.tar", "out.pack", "stdout", "stderr"
PARTS = frozenset({BEGAN, ALIVE, END, TAR, PACK, STDOUT, STDERR})
STOP = "stop"
"""Marks, in the folder, that the command is to end; the answer to a session that asks."""
LONGEST_WORD = 64 * 1024
"""Bytes of the parts that are words: BEGAN, ALIVE and END."""
WEEK = 7 * 86400.0
_INPUTS, _REFUSED = "inputs.json", "refused"
_PARCELS = "parcels"
_LONGEST_LIST = 64 << 20


class PartRefusedError(Exception):
    """A part cannot be taken; the text says why."""


class TooMuchError(PartRefusedError):
    """It has more bytes than it may have."""


class OverError(PartRefusedError):
    """The session has sent its last word."""


class WrongSumError(PartRefusedError):
    """Something else has come than was sent."""


@dataclass(frozen=True)
class Given:
    """Something that the session may fetch.

    Attributes:
        path: where it really is.
        directory: whether it is one.
        together: whether it is in the archive of all, and not to be had by itself.
    """

    path: str
    directory: bool
    together: bool


class _Inputs(BaseModel):
    given: dict[int, Given]


class Parcel:
    """One parcel.

    Args:
        folder: of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, script: bytes, given: dict[int, Given]) -> None:
        """Make its folder; what is there is made anew.

        Raises:
            OSError: it cannot be.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True)
        inputs = {"given": {number: asdict(item) for number, item in given.items()}}
        (self.folder / _INPUTS).write_text(json.dumps(inputs))
        (self.folder / SCRIPT).write_bytes(script)

    def given(self) -> dict[int, Given]:
        """What may be fetched.

        Raises:
            OSError: it cannot be read.
        """
        try:
            content = json.loads(read_small(self.folder / _INPUTS, _LONGEST_LIST, follow=False))
            return _Inputs.model_validate(content).given
        except (ValidationError, ValueError) as error:
            raise OSError(f"{self.folder / _INPUTS} is damaged") from error

    def word(self, name: str) -> str | None:
        """A part that is words; None when it is not there."""
        try:
            content = read_small(self.folder / name, LONGEST_WORD, follow=False)
        except OSError:
            return None
        return content.decode(errors="surrogateescape")

    def sent_at(self, name: str) -> float | None:
        """When a part came, seconds since the epoch; None: it has not."""
        try:
            found = (self.folder / name).lstat()
        except OSError:
            return None
        return found.st_mtime if stat.S_ISREG(found.st_mode) else None

    def has(self, name: str) -> bool:
        """Whether a part has come, or a mark is set."""
        return self.sent_at(name) is not None

    def open(self, name: str) -> IO[bytes] | None:
        """A part, to be read; None when it has not come."""
        try:
            found = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        return os.fdopen(found, "rb")

    def stop(self) -> None:
        """Let the session end its command."""
        with contextlib.suppress(OSError):
            (self.folder / STOP).touch()

    def empty(self) -> None:
        """Delete what was sent but the words: they go on telling how it ended."""
        for name in (TAR, PACK, STDOUT, STDERR, SCRIPT, _INPUTS):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    @property
    def refused(self) -> str | None:
        """Why a part was refused last."""
        return self.word(_REFUSED)

    def refuse(self, text: str) -> None:
        """Remember why a part is refused: the session's log may be nowhere."""
        with contextlib.suppress(OSError):
            (self.folder / _REFUSED).write_text(text)


class Coming:
    """A part that is being sent; nobody sees it before it is complete and right.

    Args:
        parcel: whose.
        name: of :data:`PARTS`.
        most: bytes that it may have.
        checksum: SHA-256, in hexadecimal, that it should have; None: its sender cannot say.
    """

    def __init__(self, parcel: Parcel, name: str, most: int, checksum: str | None) -> None:
        self._parcel = parcel
        self._name = name
        self._most = min(most, LONGEST_WORD) if name in (BEGAN, ALIVE, END) else most
        self._wanted = checksum.lower() if checksum is not None else None
        self._sum = hashlib.sha256()
        self._size = 0
        self._part = parcel.folder / f".{name}.{uuid4().hex}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._part, flags, 0o600), "wb", buffering=0)

    def take(self, piece: bytes) -> None:
        """Some of it.

        Raises:
            TooMuchError: it is longer than it may be.
            OSError: it cannot be stored.
        """
        self._size += len(piece)
        if self._size > self._most:
            raise TooMuchError(f"{self._name} has more than the {self._most} bytes that may be sent")
        if self._wanted is not None:
            self._sum.update(piece)
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]

    def done(self) -> None:
        """All of it has come.

        Raises:
            WrongSumError: something else has come than was sent.
            OverError: the session has sent its last word, and this is another.
            OSError: it cannot be stored.
        """
        if self._wanted is not None and not hmac.compare_digest(self._wanted, self._sum.hexdigest()):
            raise WrongSumError(
                f"{self._name} has the sha256 checksum {self._sum.hexdigest()} and not {self._wanted}"
            )
        self._file.close()
        if self._parcel.has(END):
            if self._name == END and self._parcel.word(END) == _text(self._part):
                self.discard()
                return
            raise OverError("the step has sent its last word: nothing can be changed any more")
        self._part.rename(self._parcel.folder / self._name)

    def discard(self) -> None:
        """Leave nothing of it."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class Parcels:
    """All parcels of a service.

    Args:
        state: the service's folder.
    """

    def __init__(self, state: Path) -> None:
        self._links = state / _PARCELS

    def make(self, name: str, folder: Path) -> Parcel:
        """A parcel with a name, in a folder that may not be there yet.

        Raises:
            OSError: it cannot be.
        """
        self._links.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = self._links / str(UUID(name))
        with contextlib.suppress(FileExistsError):
            link.symlink_to(folder)
        return Parcel(folder)

    def find(self, name: str) -> Parcel | None:
        """A parcel by its name; None: there is none, or no more."""
        try:
            folder = (self._links / str(UUID(name))).readlink()
        except (OSError, ValueError):
            return None
        return Parcel(folder) if folder.is_dir() else None

    def remove(self, name: str) -> None:
        """Delete a parcel, if it is there."""
        found = self.find(name)
        (self._links / str(UUID(name))).unlink(missing_ok=True)
        if found is not None:
            shutil.rmtree(found.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                found.folder.parent.rmdir()

    def remove_below(self, folder: Path) -> None:
        """Delete all that are below a folder, and what is left of those that are gone."""
        for link in self._all():
            with contextlib.suppress(OSError):
                target = link.readlink()
                if target.is_relative_to(folder) or not target.exists():
                    self.remove(link.name)

    def _all(self) -> Iterable[Path]:
        try:
            return sorted(self._links.iterdir())
        except FileNotFoundError:
            return []


class ParcelUrls:
    """Makes addresses.

    Args:
        signed: signs.
        base: gives what sessions call the service.
    """

    def __init__(self, signed: SignedUrls, base: Callable[[], str]) -> None:
        self._signed = signed
        self._base = base

    @property
    def host(self) -> str:
        """What sessions call the service, for people."""
        try:
            return self._base()
        except OSError:
            return "the service"

    def to_fetch(self, name: str, what: str) -> str:
        """The URL of something in a parcel, as short as may be; good for a week. May block.

        Raises:
            OSError: the keys cannot be read or written, or nobody knows what the service is called.
        """
        base = self._base().rstrip("/")
        place = DataPath(name, PARCEL, what, is_folder=False)
        return f"{base}{place}?{self._signed.sign_short(base, place, WEEK)}"

    def to_send(self, name: str, most: int) -> tuple[str, str]:
        """What comes before the name of a part, and what comes after it. As :meth:`to_fetch`."""
        base = self._base().rstrip("/")
        place = DataPath(name, PARCEL, SENT)
        return f"{base}{place}", "?" + self._signed.sign_upload(base, place, WEEK, most)


def chunks_of(file: IO[bytes], size: int = 256 * 1024) -> Iterator[bytes]:
    """A file in pieces."""
    return iter(lambda: file.read(size), b"")


def _text(path: Path) -> str | None:
    try:
        return read_small(path, LONGEST_WORD, follow=False).decode(errors="surrogateescape")
    except OSError:
        return None
