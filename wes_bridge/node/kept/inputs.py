"""Inputs that are kept outputs of the same node and the same owner: they are used where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wes_bridge.data.beneath import opened
from wes_bridge.model.data_urls import DataPath, data_path_of
from wes_bridge.model.execution_broker import Data, ExecutionRequest, Message, Session
from wes_bridge.model.manifest import EntryKind, parse_entry
from wes_bridge.node import messages
from wes_bridge.node.kept.index import Index
from wes_bridge.node.kept.store import FILES, KeptNote, KeptStore
from wes_bridge.node.messages import message
from wes_bridge.node.staging.plan import Kind, Tree, resources

IsKept = Callable[[str], bool]


class KeptInputs:
    """What of a node's kept outputs one owner may use.

    Args:
        store: has the outputs.
        owner: see :func:`wes_bridge.auth.acting.owner_key`.
        user: UUID of the session that uses them, once there is one; what it holds is there for it, whatever
            has become of the lease.
    """

    def __init__(self, store: KeptStore, owner: str, user: str | None = None) -> None:
        self._store = store
        self._owner = owner
        self._user = user

    def note(self, location: str) -> tuple[KeptNote, DataPath] | None:
        """The output that a URL is of; None where it is of no output that may be used here."""
        place = data_path_of(location)
        if place is None:
            return None
        note = self._store.find(place.session, place.output)
        if note is None and self._user is not None:
            note = self._store.held_by(place.session, place.output, self._user)
        if note is None or note.owner != self._owner:
            return None
        return note, place

    def is_kept(self, location: str) -> bool:
        """Whether a URL is of such an output."""
        return self.note(location) is not None

    def path(self, location: str) -> Path | None:
        """Where on this machine something of an output is; None where it is none of them. Blocks.

        Raises:
            FileNotFoundError: the output has nothing there.
            ValueError: it is a link that leads out of the output.
        """
        found = self.note(location)
        if found is None:
            return None
        note, place = found
        top = self._store.folder(note) / FILES
        real = Path(os.path.realpath(top / place.path, strict=True))
        if not real.is_relative_to(os.path.realpath(top)):
            raise ValueError("it is a link that leads out of the output")
        return real

    def size(self, location: str) -> int:
        """Bytes of what a URL names. Blocks.

        Raises:
            OSError: it has just been removed.
        """
        found = self.note(location)
        if found is None:
            return 0
        note, place = found
        if not place.path:
            return note.size
        with opened(self._store.open_manifest(note)) as file:
            index = Index(file)
            entry = index.find(place.path)
            if entry is not None and entry.kind is EntryKind.FILE:
                return entry.size or 0
            return sum(parse_entry(line).size or 0 for line in index.lines(*index.below(place.path)))

    def hold(self, session: Session) -> None:
        """Keep what a session uses until the session lets go of it."""
        for data in session.data or ():
            place = data_path_of(data.location or "") if is_input(data) else None
            if place is not None and self._user is not None:
                self._store.use(place.session, place.output, self._owner, self._user)

    def linked(self, tree: Tree) -> int:
        """Bytes of outputs that a session's tree has links to. Blocks."""
        total = 0
        for entry in tree.entries.values():
            if entry.kind is Kind.LINK and entry.location.startswith("http"):
                total += self.size(entry.location)
        return total


def is_input(data: Data) -> bool:
    """Whether a data resource is read."""
    return data.access != "WRITE"


def check_inputs(request: ExecutionRequest, is_kept: IsKept) -> list[Message]:
    """Why kept outputs cannot be used as a request wants to: they are never changed."""
    known = resources(request.data or [])
    found = []
    for volume in (request.compute.volumes or []) if request.compute else []:
        data = known.get(volume.resource or "")
        if data is None or not is_input(data) or not is_kept(data.location or ""):
            continue
        if volume.mode == "READWRITE" and not volume.private_copy:
            text = (
                "volume at {path}: {resource} is an output that this node keeps, and is not changed in place:"
                " mount it READONLY, or ask for a copy"
            )
            values = {"path": volume.path, "resource": volume.resource}
            found.append(message(messages.INVALID_VALUE, text, **values))
    return found
