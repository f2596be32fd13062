"""The outputs that a node keeps: folders, each with its manifest and a note of whose it is and until when.

An output appears here by one rename, with everything that belongs to it; what a crash leaves is either that,
or a beginning that is taken up again. The notes are read when the node starts, and nothing else remembers.
This module must not know HTTP, nor how a command is run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wes_bridge.data.beneath import open_beneath, opened, regular_file, top_of
from wes_bridge.data.copying import move, remove
from wes_bridge.model.manifest import write_entry
from wes_bridge.node.kept.listing import Listing, seal
from wes_bridge.node.kept.settling import own
from wes_bridge.small_files import read_small

log = logging.getLogger(__name__)

FILES, MANIFEST, NOTE = "files", "manifest.ndjson", "note.json"
_NEW, _GONE, _ONE, _SCRATCH = ".new-", ".gone", ".one", ".scratch"
_LONGEST_NOTE = 64 * 1024
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_GATHERED = 256 * 1024


class NoRoomError(OSError):
    """The node keeps as much as it may."""


class KeptNote(BaseModel):
    """What is remembered of a kept output.

    Attributes:
        session: that made it.
        output: its name.
        owner: whose it is (see :func:`wes_bridge.auth.acting.owner_key`).
        file: name of the one file that the output is; None: it is a directory.
        entries, files, size: lines of its manifest, its regular files, and their bytes.
        sealed: nanoseconds since the epoch: what has changed since is not what was listed.
        made: seconds since the epoch.
        until: when its lease runs out.
        released: whether nobody wants it any more, and it stays only for a session that uses it.
    """

    model_config = ConfigDict(extra="ignore")

    session: str
    output: str
    owner: str
    file: str | None = None
    entries: int = Field(ge=0)
    files: int = Field(ge=0)
    size: int = Field(ge=0)
    sealed: int
    made: float
    until: float
    released: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a request wants kept.

    Attributes:
        session: that makes it.
        output: its name.
        owner: whose it is.
        lease: seconds from now.
        algorithms: checksums beside SHA-1.
        stop: set when it is not wanted any more.
    """

    session: str
    output: str
    owner: str
    lease: float
    algorithms: tuple[str, ...] = ()
    stop: threading.Event | None = None


@dataclass
class _Held:
    note: KeptNote
    users: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Totals:
    """What is kept in all: outputs, files and bytes."""

    outputs: int
    files: int
    size: int


class KeptStore:
    """The outputs that one node keeps. For all of its threads.

    Args:
        root: folder of them all; only the node's user can look into it.
        most: bytes that may be kept in all; None: as many as there is room for.
        clock: seconds since the epoch.
    """

    def __init__(self, root: Path, most: int | None = None, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _Held] = {}
        self._uses: dict[str, set[tuple[str, str]]] = {}
        self._size = 0

    # ---- coming and going --------------------------------------------------------------------------

    def load(self) -> None:
        """Find what is kept. Blocks."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        (self.root / _GONE).mkdir(mode=0o700, exist_ok=True)
        for session in sorted(self.root.iterdir()):
            if session.name == _GONE or session.is_symlink() or not session.is_dir():
                continue
            for folder in session.iterdir():
                if not folder.name.startswith("."):
                    self._load(folder)

    def _load(self, folder: Path) -> None:
        try:
            note = KeptNote.model_validate_json(read_small(folder / NOTE, _LONGEST_NOTE, follow=False))
        except (OSError, ValidationError) as error:
            log.warning("the kept output in %s cannot be read, and is removed: %s", folder, error)
            self._discard(folder)
            return
        self._enter(note)

    def _enter(self, note: KeptNote) -> None:
        with self._lock:
            self._kept[note.session, note.output] = _Held(note)
            self._size += note.size

    def tidy(self, live: Iterable[str]) -> None:
        """Remove what crashes have left. Blocks.

        Args:
            live: the sessions that have not ended.
        """
        known = set(live)
        for session in list(self.root.iterdir()):
            if session.name == _GONE:
                for thing in list(session.iterdir()):
                    shutil.rmtree(thing, ignore_errors=True)
                continue
            if session.name in known:
                continue
            for folder in list(session.iterdir()):
                if folder.name.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                session.rmdir()

    # ---- keeping -----------------------------------------------------------------------------------

    def keep(self, wanted: Wanted, folder: int | None, name: str) -> KeptNote:
        """Keep an output, or go on where a crash has ended that. Blocks.

        Args:
            wanted: what is asked for.
            folder: descriptor of the folder the output is in; None: it is not there any more.
            name: its name there. No link is followed.

        Raises:
            FileNotFoundError: there is nothing to keep.
            NoRoomError: more is kept than may be.
            UnusableError: it is changed by somebody else, or cannot be listed.
            OSError: there is no room on the disk, something cannot be read, or it is not wanted any more.
        """
        place = self.root / wanted.session
        place.mkdir(mode=0o700, exist_ok=True)
        done = self._kept.get((wanted.session, wanted.output))
        if done is not None:  # a crash came between this and the session's end
            return self.renew(done.note, wanted.lease)
        with opened(top_of(place)) as session:
            new = f"{_NEW}{wanted.output}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(new, 0o700, dir_fd=session)
            with opened(open_beneath(session, new, os.O_RDONLY | os.O_DIRECTORY)) as beginning:
                file = _bring(beginning, folder, name)
                note = self._listed(wanted, beginning, file)
            try:
                self._take_room(note)
            except NoRoomError:
                self._discard(place / new)
                raise
            try:
                os.rename(new, wanted.output, src_dir_fd=session, dst_dir_fd=session)
            except OSError:
                with self._lock:
                    self._size -= note.size
                raise
        with self._lock:
            self._kept[note.session, note.output] = _Held(note)
        return note

    def _listed(self, wanted: Wanted, beginning: int, file: str | None) -> KeptNote:
        with opened(open_beneath(beginning, FILES, os.O_RDONLY | os.O_DIRECTORY)) as files:
            os.fchmod(files, stat.S_IMODE(os.fstat(files).st_mode) & 0o777 | stat.S_IRWXU)
            with contextlib.suppress(FileExistsError):
                os.mkdir(_SCRATCH, 0o700, dir_fd=beginning)
            with opened(open_beneath(beginning, _SCRATCH, os.O_RDONLY | os.O_DIRECTORY)) as scratch:
                own(files, scratch)
            remove(beginning, _SCRATCH)
            listing = Listing(seal(), wanted.algorithms, wanted.stop)
            with os.fdopen(os.open(MANIFEST, _WRITE, 0o600, dir_fd=beginning), "wb", _GATHERED) as manifest:
                for entry in listing.entries(files):
                    manifest.write(write_entry(entry))
        now, counted = self._clock(), listing.counted
        note = KeptNote(
            session=wanted.session,
            output=wanted.output,
            owner=wanted.owner,
            file=file,
            entries=counted.entries,
            files=counted.files,
            size=counted.size,
            sealed=listing.sealed,
            made=now,
            until=now + wanted.lease,
        )
        _write_note(beginning, note)
        return note

    def _take_room(self, note: KeptNote) -> None:
        with self._lock:
            if self._most is not None and self._size + note.size > self._most:
                raise NoRoomError(
                    f"it has {note.size} bytes, and this node keeps {self._size} of at most {self._most}"
                    " already: release outputs that nobody needs any more, or wait until their leases run out"
                )
            self._size += note.size

    def forget(self, session: str) -> None:
        """Remove what is kept of a session that was cancelled, finished or not. Blocks."""
        for key in [key for key in list(self._kept) if key[0] == session]:
            self.release(*key)
        place = self.root / session
        if place.is_dir():
            for folder in list(place.iterdir()):
                if folder.name.startswith(_NEW):
                    self._discard(folder)
            with contextlib.suppress(OSError):
                place.rmdir()

    # ---- finding -----------------------------------------------------------------------------------

    def find(self, session: str, output: str) -> KeptNote | None:
        """A kept output; None when it is not there, was released, or its lease has run out."""
        held = self._kept.get((session, output))
        if held is None or held.note.released or held.note.until <= self._clock():
            return None
        return held.note

    def folder(self, note: KeptNote) -> Path:
        """Where a kept output is: a folder with :data:`FILES` and :data:`MANIFEST`."""
        return self.root / note.session / note.output

    def open_manifest(self, note: KeptNote) -> int:
        """A descriptor of a manifest, to read.

        Raises:
            FileNotFoundError: it has just been removed.
        """
        return self._open(note, MANIFEST)

    def open_file(self, note: KeptNote, path: str) -> int:
        """A descriptor of a file of a kept output, to read; no link is followed.

        Raises:
            FileNotFoundError: there is no such regular file.
        """
        return self._open(note, f"{FILES}/{path}")

    def _open(self, note: KeptNote, relative: str) -> int:
        with opened(top_of(self.folder(note))) as top:
            found = regular_file(top, relative)
        if found is None:
            raise FileNotFoundError(2, "it is not there", relative)
        return found

    def all(self) -> list[KeptNote]:
        """Everything that is kept, also what is kept only for sessions that use it."""
        return [held.note for held in list(self._kept.values())]

    @property
    def totals(self) -> Totals:
        """What is kept in all."""
        notes = self.all()
        return Totals(len(notes), sum(note.files for note in notes), self._size)

    @property
    def size(self) -> int:
        """Bytes that are kept in all."""
        return self._size

    @property
    def most(self) -> int | None:
        """Bytes that may be kept."""
        return self._most

    # ---- leases ------------------------------------------------------------------------------------

    def renew(self, note: KeptNote, lease: float) -> KeptNote:
        """Let a lease run for so many seconds from now. Blocks.

        Raises:
            FileNotFoundError: it was released meanwhile.
        """
        return self._change(note, {"until": self._clock() + lease})

    def release(self, session: str, output: str) -> None:
        """Keep an output no longer; while a session uses it, its files stay. Blocks."""
        with self._lock:
            held = self._kept.get((session, output))
            if held is None:
                return
            in_use = bool(held.users)
        if in_use:
            with contextlib.suppress(FileNotFoundError):
                self._change(held.note, {"released": True})
            return
        self._remove(session, output)

    def _change(self, note: KeptNote, update: dict[str, object]) -> KeptNote:
        key = note.session, note.output
        with self._lock:
            held = self._kept.get(key)
            if held is None:
                raise FileNotFoundError(2, "it was released", note.output)
            changed = held.note.model_copy(update=update)
            with opened(top_of(self.folder(note))) as folder:
                _write_note(folder, changed)
            held.note = changed
        return changed

    def sweep(self, live: Container[str] = ()) -> int:
        """Remove what nobody holds any more: how many outputs. Blocks.

        Args:
            live: the sessions that have not ended: what they have made stays until they have.
        """
        now = self._clock()
        due = [
            key
            for key, held in list(self._kept.items())
            if not held.users and key[0] not in live and (held.note.released or held.note.until <= now)
        ]
        for session, output in due:
            self._remove(session, output)
        return len(due)

    def next_end(self) -> float | None:
        """When the next lease runs out; None when nothing is kept."""
        return min((held.note.until for held in list(self._kept.values())), default=None)

    def _remove(self, session: str, output: str) -> None:
        with self._lock:
            held = self._kept.get((session, output))
            if held is None or held.users:
                return
            del self._kept[session, output]
            self._size -= held.note.size
        self._discard(self.root / session / output)
        with contextlib.suppress(OSError):
            (self.root / session).rmdir()

    def _discard(self, folder: Path) -> None:
        """Take a folder out of sight at once, and then apart."""
        gone = self.root / _GONE / uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    # ---- users -------------------------------------------------------------------------------------

    def use(self, session: str, output: str, owner: str, user: str) -> bool:
        """Hold an output for a session of the same owner that has it as an input; whether it is there.

        A session that was accepted before the node was restarted gets it also when its lease has run out.
        """
        with self._lock:
            held = self._kept.get((session, output))
            if held is None or held.note.owner != owner:
                return False
            held.users.add(user)
            self._uses.setdefault(user, set()).add((session, output))
            return True

    def held_by(self, session: str, output: str, user: str) -> KeptNote | None:
        """An output that a session holds; None where it does not."""
        held = self._kept.get((session, output))
        return held.note if held is not None and user in held.users else None

    def let_go(self, user: str) -> bool:
        """A session needs nothing any more; whether it held anything."""
        with self._lock:
            keys = self._uses.pop(user, set())
            for key in keys:
                if (held := self._kept.get(key)) is not None:
                    held.users.discard(user)
        return bool(keys)


def _bring(beginning: int, folder: int | None, name: str) -> str | None:
    """Move an output below the folder that it is kept in; its name, where it is one file.

    Raises:
        FileNotFoundError: it is neither here nor there.
    """
    kind = _kind(folder, name) if folder is not None else None
    if folder is not None and kind == stat.S_IFDIR:
        move(folder, name, beginning, FILES)
    elif folder is not None and kind is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(FILES, 0o700, dir_fd=beginning)
        os.close(os.open(_ONE, _WRITE, 0o600, dir_fd=beginning))
        with opened(open_beneath(beginning, FILES, os.O_RDONLY | os.O_DIRECTORY)) as files:
            move(folder, name, files, name)
    if _kind(beginning, FILES) != stat.S_IFDIR:
        raise FileNotFoundError(2, "the command left nothing there")
    if _kind(beginning, _ONE) is None:
        return None
    files = open_beneath(beginning, FILES, os.O_RDONLY | os.O_DIRECTORY)
    with opened(files), os.scandir(files) as found:
        names = [entry.name for entry in found]
    if not names:
        raise FileNotFoundError(2, "the command left nothing there")
    return names[0]


def _kind(folder: int, name: str) -> int | None:
    try:
        return stat.S_IFMT(os.lstat(name, dir_fd=folder).st_mode)
    except FileNotFoundError:
        return None


def _write_note(folder: int, note: KeptNote) -> None:
    new = f".{NOTE}"
    with os.fdopen(os.open(new, _WRITE, 0o600, dir_fd=folder), "wb") as file:
        file.write(note.model_dump_json().encode())
    os.rename(new, NOTE, src_dir_fd=folder, dst_dir_fd=folder)
