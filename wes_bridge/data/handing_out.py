"""Files of the service that nodes fetch which see no disk of ours: their addresses, and what is behind them.

An address is ``/data/RUN/files/ABSOLUTE/PATH``, with a signature for it. Whoever signs has checked that the
run may have the file, and signs where it really is: nothing that is behind an address is reached by a link.
It must not know how it is sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from uuid import UUID

from wes_bridge.auth.shared_keys import SharedKeys
from wes_bridge.auth.signed_urls import KeyRing, SignedUrls
from wes_bridge.data.beneath import folder_beneath, folders_below, open_beneath, opened, regular_file, top_of
from wes_bridge.data.downloads import NotThereError, Opened
from wes_bridge.data.hashing import hash_file
from wes_bridge.data.stand_ins import ElsewhereError, is_stand_in
from wes_bridge.model.data_urls import DataPath
from wes_bridge.model.manifest import EntryKind, ManifestEntry

FILES = "files"
"""Name of the one output that a run has here."""
KEYS = "url-keys.json"
ROTATE, LONGEST = 86400.0, 7 * 86400.0
"""Seconds for which one key signs, and that a URL lives at most: a session may wait in a queue for days."""


def signed_urls(
    state: Path, public: str | None, secrets: Callable[[], Sequence[bytes]] | None = None
) -> SignedUrls:
    """What signs and checks the URLs of a service; workers and the server have the same keys.

    Args:
        state: the service's folder.
        public: what clients call it, where it is behind a proxy.
        secrets: what keys are made of that workers on other machines have, too; None: keys are in ``state``.
    """
    if secrets is not None:
        return SignedUrls(SharedKeys(secrets, ROTATE, LONGEST), public)
    return SignedUrls(KeyRing(state / KEYS, ROTATE, LONGEST), public)


class HandingOut:
    """Makes the addresses.

    Args:
        signed: signs.
        base: gives what nodes call the service.
    """

    def __init__(self, signed: SignedUrls, base: Callable[[], str]) -> None:
        self._signed = signed
        self._base = base

    def url(self, run_id: str, real: str, *, directory: bool) -> str:
        """A URL with which a node can fetch what is at a path, for a week. May block.

        Args:
            run_id: for whom.
            real: absolute path, links followed; the run may have what is there.
            directory: whether it is one.

        Raises:
            OSError: the keys cannot be read or written.
        """
        base = self._base().rstrip("/")
        place = DataPath(str(UUID(run_id)), FILES, real.strip("/"), directory)
        query, _ = self._signed.sign(base, place, LONGEST)
        return f"{base}{place}?{query}"


def open_handed(place: DataPath) -> Opened:
    """Open the file at an address. Blocks.

    Raises:
        NotThereError: there is no regular file.
    """
    with opened(top_of("/")) as top:
        found = regular_file(top, place.path)
    if found is None:
        raise NotThereError(place.path)
    status = os.fstat(found)
    if is_stand_in(status):
        os.close(found)
        raise NotThereError(place.path)
    is_executable = bool(status.st_mode & 0o100)
    return Opened(FileIO(found, "rb"), status.st_size, status.st_mtime_ns, status.st_ino, is_executable)


def handed_folder(place: DataPath) -> Iterator[ManifestEntry]:
    """What is in the folder at an address, in the order of a manifest; each file is read for its checksum.

    Raises:
        NotThereError: there is no such folder.
    """
    try:
        with opened(top_of("/")) as top:
            folder = folder_beneath(top, place.path)
    except OSError as error:
        raise NotThereError(place.path) from error
    return _entries(folder)


def _entries(folder: int) -> Iterator[ManifestEntry]:
    with opened(folder):
        names = sorted(
            (f"{relative}/{entry.name}" if relative else entry.name for _, relative, entries in
             folders_below(folder) for entry in entries),
            key=lambda path: os.fsencode(path).replace(b"/", b"\0"),
        )  # fmt: skip
        for path in names:
            entry = _entry(folder, path)
            if entry is not None:
                yield entry


def _entry(folder: int, path: str) -> ManifestEntry | None:
    parent, _, name = path.rpartition("/")
    with opened(folder_beneath(folder, parent)) as above:
        status = os.lstat(name, dir_fd=above)
        if stat.S_ISLNK(status.st_mode):
            return ManifestEntry(path, EntryKind.LINK, target=os.readlink(name, dir_fd=above))
        mode = status.st_mode & 0o777
        if stat.S_ISDIR(status.st_mode):
            return ManifestEntry(path, EntryKind.DIRECTORY, mode=mode)
        if not stat.S_ISREG(status.st_mode):
            return None
        if is_stand_in(status):
            raise ElsewhereError(path)
        with opened(open_beneath(above, name)) as file:
            size, sums = hash_file(file)
        return ManifestEntry(path, EntryKind.FILE, size, mode, checksum=sums.checksum)
