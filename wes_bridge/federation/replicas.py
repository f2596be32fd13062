"""Where else the bytes of a run's files are: outputs that nodes keep, by the folder that they have here.

A file's name is its path in the workspace, and never changes; where its bytes are is a replica. An output
that is fetched as a whole has two, here and at its node. One that is not has stand-ins here
(:mod:`wes_bridge.data.stand_ins`), and beside its folder a note of what its node says is in it, which is all
that a worker needs that takes the run up. It must not know how a replica is chosen or fetched.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from wes_bridge.model.data_urls import quote_path
from wes_bridge.model.manifest import EntryKind, ManifestEntry, ManifestError, read_manifest

_LOADED = 8
"""Manifests that are held in memory."""
_LONGEST_NOTE = 16384
_CHUNK = 1 << 18


class Note(BaseModel):
    """The first line of a note: whose replica it is.

    Attributes:
        broker: its name.
        location: URL of the output at the broker, with a slash at its end.
        until: when its lease ends, in seconds since the epoch, as far as we know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    broker: str
    location: str
    until: float


@dataclass
class Replica:
    """An output that a node keeps.

    Attributes:
        folder: real path of the output in the workspace.
        note: whose it is.
        whole: whether all its bytes are in the workspace, too.
        signed: a URL of it for those without credentials, good until ``signed_until``.
        doubted: whether a session failed that should have found it: it may be lost.
        is_freed: whether its node need not keep it any more.
        lock: held by who fetches from it.
    """

    folder: str
    note: Note
    whole: bool = True
    signed: str = ""
    signed_until: float = 0.0
    doubted: bool = False
    is_freed: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)

    def location(self, inside: str, *, directory: bool) -> str:
        """URL at its node of something in it."""
        return f"{self.note.location}{quote_path(inside)}{'/' if directory and inside else ''}"

    def signed_location(self, inside: str, *, directory: bool) -> str:
        """The same for those without credentials."""
        base, _, query = self.signed.partition("?")
        base = base if base.endswith("/") else f"{base}/"
        return f"{base}{quote_path(inside)}{'/' if directory and inside else ''}?{query}"


def note_of(folder: Path) -> Path:
    """The note of an output, beside its folder."""
    return folder.with_name(f".{folder.name}.kept")


class Replicas:
    """Those of all runs of a worker. Asked from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Replica] = {}
        self._manifests: OrderedDict[str, dict[str, ManifestEntry]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._known)

    def put(self, replica: Replica) -> None:
        """Know of one; it takes the place of another of the same folder."""
        with self._lock:
            self._known[replica.folder] = replica
            self._manifests.pop(replica.folder, None)

    def drop(self, replica: Replica) -> None:
        """Forget one: the files are in the workspace, or lost."""
        with self._lock:
            if self._known.get(replica.folder) is replica:
                del self._known[replica.folder]

    def find(self, real: str) -> tuple[Replica, str] | None:
        """The replica that has what is at a real path, and the path in it."""
        if not self._known:
            return None
        folder, inside = real, ""
        while folder:
            found = self._known.get(folder)
            if found is not None:
                return found, inside
            folder, _, name = folder.rpartition("/")
            inside = f"{name}/{inside}" if inside else name
        return None

    def below(self, folder: str) -> list[Replica]:
        """All in a folder."""
        start = f"{folder}/"
        with self._lock:
            return [one for path, one in self._known.items() if path.startswith(start)]

    def at_or_below(self, folder: str) -> list[Replica]:
        """The one of a folder, and all in it."""
        known = self._known.get(folder)
        return [*([known] if known is not None else []), *self.below(folder)]

    def load(self, tasks: Path, task_id: str = "*") -> None:
        """Read the notes of a run that another worker has begun. Blocks.

        Args:
            tasks: folder of its tasks.
            task_id: the one that is looked at; ``*``: all.
        """
        for path in tasks.glob(f"{task_id}/.*.kept"):
            with suppress(OSError, ValueError):
                folder = path.with_name(path.name[1:].removesuffix(".kept")).resolve(strict=True)
                note = read_note(path)
                if not self.find(str(folder)):
                    self.put(Replica(str(folder), note, whole=False))

    # ---- what is in one ----------------------------------------------------------------------------

    def entries(self, replica: Replica, inside: str = "") -> list[ManifestEntry]:
        """The files at or below a path in an output. Blocks.

        Raises:
            OSError: its note is gone.
            ManifestError: or damaged.
        """
        known = self._manifest(replica)
        if not inside:
            return list(known.values())
        one = known.get(inside)
        start = f"{inside}/"
        return (
            [one] if one is not None else [entry for path, entry in known.items() if path.startswith(start)]
        )

    def checksum(self, real: str) -> str | None:
        """The checksum of a file from its node's manifest, as CWL writes it; None: not known. Blocks."""
        found = self.find(real)
        if found is None or found[0].whole:
            return None
        with suppress(OSError, ManifestError):
            entry = self._manifest(found[0]).get(found[1])
            return None if entry is None else entry.checksum
        return None

    def size(self, real: str) -> int | None:
        """Bytes of a file or a folder in an output that is at its node. Blocks."""
        found = self.find(real)
        if found is None or found[0].whole:
            return None
        with suppress(OSError, ManifestError):
            return sum(entry.size or 0 for entry in self.entries(*found))
        return None

    def _manifest(self, replica: Replica) -> dict[str, ManifestEntry]:
        with self._lock:
            known = self._manifests.get(replica.folder)
            if known is not None:
                self._manifests.move_to_end(replica.folder)
                return known
        with note_of(Path(replica.folder)).open("rb") as file:
            file.readline(_LONGEST_NOTE)
            found = read_manifest(iter(lambda: file.read(_CHUNK), b""))
            known = {entry.path: entry for entry in found if entry.kind is EntryKind.FILE}
        with self._lock:
            self._manifests[replica.folder] = known
            while len(self._manifests) > _LOADED:
                self._manifests.popitem(last=False)
        return known


def read_note(path: Path) -> Note:
    """Whose replica a note tells of. Blocks.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    with path.open("rb") as file:
        return Note.model_validate_json(file.readline(_LONGEST_NOTE))


def write_note(path: Path, note: Note, manifest: Iterable[bytes]) -> None:
    """Write the note of an output. Blocks.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(note.model_dump_json().encode() + b"\n")
        for piece in manifest:
            file.write(piece)
    part.replace(path)


def manifest_of(path: Path) -> Iterator[bytes]:
    """The manifest in a note, as it came. Blocks."""
    with path.open("rb") as file:
        file.readline(_LONGEST_NOTE)
        yield from iter(lambda: file.read(_CHUNK), b"")
