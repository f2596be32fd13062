"""What is fetched for sessions: once where several want the same at once, and kept for later ones.

Each thing is fetched to a folder of our own, and put where a session wants it only when it is complete and
checked. What is kept is asked for again by its version, so the server says whether it is still so; what
comes with a checksum that is known needs no question. The total is limited: those not used for longest go
first. Things are told apart by URL, by what was expected, and by the user whose rights were used to fetch
them. It must not know sessions, nor URLs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Event, Lock
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from wes_bridge.node.staging.arriving import check, digest_of
from wes_bridge.node.staging.schemes import Scheme, Wanted
from wes_bridge.small_files import read_small

log = logging.getLogger(__name__)

_LOOK = 0.2
"""Seconds between looks whether a session that waits for another one's download was stopped."""
_CONTENT, _ENTRY = "content", "entry.json"
_LONGEST_ENTRY = 65_536

Place = Callable[[Path, bool], None]
"""Puts what has come where it is wanted: its path, and whether it may be taken away rather than shared."""


class FetchedByOtherError(OSError):
    """A download that this session waited for has failed; the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


class _Entry(BaseModel):
    """What is written beside what is kept."""

    model_config = ConfigDict(frozen=True)

    version: str
    size: int
    digests: dict[str, str]


@dataclass
class _Kept:
    """Something that is kept.

    Attributes:
        entry: of it.
        users: threads that put it somewhere now.
    """

    folder: Path
    entry: _Entry
    used: float
    users: int = 0

    @property
    def content(self) -> Path:
        return self.folder / _CONTENT


@dataclass
class _Flight:
    """A download under way; all is read and changed while ``changed`` is held.

    Attributes:
        over: whether it has ended.
        kept: what has come; None: nothing yet, it has failed, or was stopped.
        error: why it has failed.
        waiting: sessions that want it, the one that fetches included.
    """

    changed: Condition = field(default_factory=Condition)
    over: bool = False
    kept: _Kept | None = None
    error: str | None = None
    waiting: int = 1


class Incoming:
    """The downloads of a node.

    Args:
        folder: for them, on the same disk as the sessions; made when it is needed.
        most: bytes that are kept for later; 0: nothing is.
    """

    def __init__(self, folder: Path, most: int = 0) -> None:
        self._folder = folder
        self._most = most
        self._lock = Lock()
        self._flights: dict[str, _Flight] = {}
        self._kept: dict[str, _Kept] | None = None
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes that are kept."""
        return self._total

    def bring(self, scheme: Scheme, wanted: Wanted, stop: Event, place: Place) -> None:
        """Fetch something, or wait for who does, and put it where it is wanted. Blocks.

        Args:
            scheme: fetches.
            wanted: what.
            stop: set to give up.
            place: puts it there.

        Raises:
            OSError, ValueError: it cannot be had; the text says why.
        """
        self._open()
        key = _key(scheme.scope(wanted), wanted)
        flight_key = f"{key} {wanted.expected}"
        while not stop.is_set():
            flight, is_first = self._join(flight_key)
            try:
                if is_first:
                    self._fly(flight_key, flight, scheme, key=key, wanted=wanted, stop=stop)
                else:
                    _await(flight, stop)
                if flight.kept is not None:
                    place(flight.kept.content, self._may_be_taken(flight, flight.kept))
                    return
                if flight.error is not None:
                    raise FetchedByOtherError(flight.error)
            finally:
                self._leave(flight)
        raise InterruptedError("stopped")

    # ---- one download for several -----------------------------------------------------------------

    def _join(self, key: str) -> tuple[_Flight, bool]:
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
                return flight, True
            with flight.changed:
                flight.waiting += 1
            return flight, False

    def _fly(
        self, flight_key: str, flight: _Flight, scheme: Scheme, *, key: str, wanted: Wanted, stop: Event
    ) -> None:
        """Fetch for all who have joined. One that was stopped leaves it to another of them."""
        kept, problem = None, None
        try:
            kept = self._fetch(scheme, key, wanted, stop)
        except InterruptedError:
            raise
        except BaseException as error:
            problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise
        finally:
            with self._lock:
                del self._flights[flight_key]
            with flight.changed:
                flight.over, flight.kept, flight.error = True, kept, problem
                flight.changed.notify_all()

    def _may_be_taken(self, flight: _Flight, kept: _Kept) -> bool:
        """Whether nobody else wants it, now or later."""
        with self._lock, flight.changed:
            is_kept = self._table.get(kept.folder.name) is kept
            return not is_kept and flight.waiting == 1

    def _leave(self, flight: _Flight) -> None:
        """A session is through; after the last one, what is not kept goes."""
        with flight.changed:
            flight.waiting -= 1
            kept = flight.kept if flight.over and flight.waiting == 0 else None
        if kept is not None:
            self._let_go(kept)

    # ---- fetching -----------------------------------------------------------------------------------

    def _fetch(self, scheme: Scheme, key: str, wanted: Wanted, stop: Event) -> _Kept:
        """What is wanted, held for those who wait for it."""
        old = self._hold(key)
        found: _Kept | None = None
        try:
            if old is not None and self._is_known(old, wanted):
                found = old
            else:
                found = self._ask(scheme, key, wanted, stop=stop, unless=old.entry.version if old else "")
            if found is None and old is not None:
                self._check_old(old, wanted)
                found = old
            if found is None:
                raise OSError("nothing has come")
            self._touch(found)
            return found
        finally:
            if old is not None and found is not old:
                self._let_go(old)

    def _ask(self, scheme: Scheme, key: str, wanted: Wanted, *, stop: Event, unless: str) -> _Kept | None:
        """What a scheme brings; None: the version ``unless`` is still so."""
        new = self._folder / f".new-{uuid4().hex}"
        new.mkdir()
        try:
            fetched = scheme.fetch(wanted, new / _CONTENT, stop, unless)
            if fetched is None:
                shutil.rmtree(new, ignore_errors=True)
                return None
            size = _seal(new / _CONTENT)
            entry = _Entry(version=fetched.version, size=size, digests=dict(fetched.digests))
            return self._keep(key, new, entry)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    @staticmethod
    def _is_known(old: _Kept, wanted: Wanted) -> bool:
        """Whether it is what is wanted by its checksum, whatever its server would say now."""
        expected = wanted.expected
        if expected.checksum is None or expected.size not in (None, old.entry.size):
            return False
        algorithm, value = expected.checksum
        return old.entry.digests.get(algorithm) == value

    @staticmethod
    def _check_old(old: _Kept, wanted: Wanted) -> None:
        """Compare what is here, and still good, with what this request expects."""
        expected = wanted.expected
        if wanted.directory:
            return
        digests = dict(old.entry.digests)
        if expected.checksum is not None and expected.checksum[0] not in digests:
            digests[expected.checksum[0]] = digest_of(old.content, expected.checksum[0])
        check(expected, old.entry.size, digests)

    # ---- what is kept -------------------------------------------------------------------------------

    def _open(self) -> None:
        """Find what an earlier process of the node has kept; what it left half done goes."""
        with self._lock:
            if self._kept is not None:
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._kept = {}
            for folder in self._folder.iterdir():
                kept = _read(folder) if self._most else None
                if kept is None:
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    self._kept[folder.name] = kept
                    self._total += kept.entry.size
        self._make_room([])

    def _hold(self, key: str) -> _Kept | None:
        with self._lock:
            found = self._table.get(key)
            if found is not None:
                found.users += 1
            return found

    def _touch(self, kept: _Kept) -> None:
        kept.used = time.time()
        with contextlib.suppress(OSError):
            os.utime(kept.folder)

    def _keep(self, key: str, new: Path, entry: _Entry) -> _Kept:
        """Keep what has come, where it may be used again; else it is there until all have it who wait."""
        kept = _Kept(new, entry, time.time(), users=1)
        if not (entry.version or entry.digests) or entry.size > self._most or not self._most:
            return kept
        (new / _ENTRY).write_text(entry.model_dump_json())
        with self._lock:
            table = self._table
            away = [self._retire(key)] if key in table else []
            kept.folder = self._folder / key
            new.rename(kept.folder)
            table[key] = kept
            self._total += entry.size
        self._make_room(away)
        return kept

    def _let_go(self, kept: _Kept) -> None:
        """Somebody is through with it; what is not kept goes with the last one."""
        with self._lock:
            kept.users -= 1
            is_over = kept.users <= 0 and self._table.get(kept.folder.name) is not kept
        if is_over:
            shutil.rmtree(kept.folder, ignore_errors=True)

    def _retire(self, key: str) -> _Kept:
        """Keep something no longer; it is removed when the last one who uses it is through."""
        old = self._table.pop(key)
        self._total -= old.entry.size
        away = self._folder / f".old-{uuid4().hex}"
        old.folder.rename(away)
        old.folder = away
        return old

    def _make_room(self, away: list[_Kept]) -> None:
        """Let those go that were not used for longest; they and ``away`` are removed unless in use."""
        with self._lock:
            table = self._table
            for key in sorted(table, key=lambda key: table[key].used):
                if self._total <= self._most:
                    break
                if table[key].users <= 0:
                    away.append(self._retire(key))
            unused = [old.folder for old in away if old.users <= 0]
        for folder in unused:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _table(self) -> dict[str, _Kept]:
        if self._kept is None:
            raise RuntimeError("it is not open")
        return self._kept


def _await(flight: _Flight, stop: Event) -> None:
    with flight.changed:
        while not flight.over and not stop.is_set():
            flight.changed.wait(_LOOK)


def _key(scope: str, wanted: Wanted) -> str:
    """Names a thing; no two have one name, and nobody can choose theirs to be another's."""
    parts = json.dumps([scope, wanted.location, wanted.directory])
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


def _read(folder: Path) -> _Kept | None:
    """What was kept in a folder; None when that is not whole."""
    try:
        entry = _Entry.model_validate_json(read_small(folder / _ENTRY, _LONGEST_ENTRY, follow=False))
        if folder.name.startswith(".") or not (folder / _CONTENT).exists():
            return None
        return _Kept(folder, entry, folder.stat().st_mtime)
    except (OSError, ValidationError, ValueError):
        return None


def _seal(content: Path) -> int:
    """Make what has come read-only, for it may be shared; the folders stay as they are.

    Returns:
        Its bytes.
    """
    size = 0
    for path in (content, *(content.rglob("*") if content.is_dir() else ())):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            path.chmod(0o444 | (status.st_mode & 0o111))
            size += status.st_size
    return size
