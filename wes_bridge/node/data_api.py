"""A node's data API: what is in its kept outputs, their leases, and signed URLs of them.

Whoever may see the session that made an output may do all of it. The bearer of a signed URL may read what the
URL is for, and nothing else. To all others an output is not there.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.acting import may_see
from wes_bridge.auth.identity import principal_of
from wes_bridge.auth.signed_urls import is_signed, raw_path
from wes_bridge.data.beneath import opened
from wes_bridge.data.special import readable
from wes_bridge.model.data_urls import DataPath, read_data_path, read_path
from wes_bridge.model.execution_broker import Instant
from wes_bridge.model.manifest import EntryKind, ManifestEntry
from wes_bridge.node.admin import Admin
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.kept.asking import lease_seconds
from wes_bridge.node.kept.index import Index
from wes_bridge.node.kept.keeper import lease
from wes_bridge.node.kept.serving import send_file, send_folder, send_manifest
from wes_bridge.node.kept.store import KeptNote
from wes_bridge.node.live import as_uuid
from wes_bridge.node.node import Node
from wes_bridge.surface import http

_LIMIT = 64 * 1024
_Model = TypeVar("_Model", bound=BaseModel)


class LeaseWish(BaseModel):
    """Body of ``POST /leases/{uuid}/{output}``; may be left out.

    Attributes:
        lease: ISO 8601 duration from now; absent: what the node thinks best.
    """

    model_config = ConfigDict(extra="forbid")

    lease: str | None = None


class UrlWish(BaseModel):
    """Body of ``POST /urls/{uuid}/{output}``; may be left out.

    Attributes:
        path: percent-encoded path of what may be read; with a ``/`` at its end, or empty, all in a folder.
        lifetime: ISO 8601 duration.
    """

    model_config = ConfigDict(extra="forbid")

    path: str = ""
    lifetime: str | None = None


class SignedUrl(BaseModel):
    """A signed URL.

    Attributes:
        url: of what may be read; of a folder it gives the manifest.
        template: of a folder: URL of everything in it, ``{+path}`` being a percent-encoded path (RFC 6570).
        expires: until when it works.
    """

    url: str
    template: str | None = None
    expires: Instant


class Lease(BaseModel):
    """What is kept of an output, and until when."""

    session: str
    output: str
    entries: int
    files: int
    bytes: int
    expires: Instant


class DataApi(Admin):
    """Handlers, those of :class:`Admin` too.

    Args:
        node: what they work on.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._public = str(node.config.public_url) if node.config.public_url else None

    async def get_manifest(self, request: Request) -> Response:
        """``GET /data/{uuid}/{output}``: what is in the output."""
        return await self._read(request)

    async def get_data(self, request: Request) -> Response:
        """``GET /data/{uuid}/{output}/{path}``: a file of it, or what is in a folder of it."""
        return await self._read(request)

    async def release_output(self, request: Request) -> Response:
        """``DELETE /data/{uuid}/{output}``: it is not needed any more."""
        note = self._own(request)
        store = self._node.kept.store
        await asyncio.to_thread(store.release, note.session, note.output)
        self._node.kept.look()
        return Response(status_code=204)

    async def get_lease(self, request: Request) -> Response:
        """``GET /leases/{uuid}/{output}``: until when it is kept."""
        return _answer(request, _lease(self._own(request)))

    async def renew_lease(self, request: Request) -> Response:
        """``POST /leases/{uuid}/{output}``: keep it until so long from now."""
        note = self._own(request)
        wish = await _body(request, LeaseWish)
        seconds = lease(self._node.config.kept, wish.lease)
        try:
            note = await asyncio.to_thread(self._node.kept.store.renew, note, seconds)
        except FileNotFoundError as error:
            raise _gone(note.session, note.output) from error
        self._node.kept.look()
        return _answer(request, _lease(note))

    async def sign_url(self, request: Request) -> Response:
        """``POST /urls/{uuid}/{output}``: a URL with which anybody can read of it, for a while."""
        note = self._own(request)
        wish = await _body(request, UrlWish)
        inside = read_path(wish.path)
        if inside is None:
            raise BadRequestError(f"path: not a relative, percent-encoded path: {wish.path[:200]!r}")
        config = self._node.config.kept
        seconds = config.url_lifetime.total_seconds()
        if wish.lifetime is not None:
            seconds = lease_seconds(wish.lifetime, "lifetime")
        place = DataPath(note.session, note.output, *inside)
        base = self._base(request)
        query, expires = await asyncio.to_thread(self._node.signed.sign, base, place, seconds)
        folder = f"{base}{place}"
        signed = SignedUrl(
            url=f"{folder}?{query}",
            template=f"{folder}{{+path}}?{query}" if place.is_folder else None,
            expires=datetime.fromtimestamp(expires, UTC),
        )
        return _answer(request, signed)

    async def _read(self, request: Request) -> Response:
        place = read_data_path(raw_path(request.scope))
        if place is None:
            raise BadRequestError("this is no address of a kept output: /data/SESSION/OUTPUT/PATH", 404)
        note = self._found(request, place.session, place.output)
        store, kept = self._node.kept.store, self._node.kept
        try:
            if not place.path:
                manifest = await self._node.runner.in_thread(lambda: store.open_manifest(note))
                return await send_manifest(request, manifest, note.sealed)
            entry = await self._node.runner.in_thread(lambda: self._entry(note, place))
            if entry.kind is EntryKind.DIRECTORY:
                manifest = await self._node.runner.in_thread(lambda: store.open_manifest(note))
                return await send_folder(request, manifest, place.path)
            file = await self._node.runner.in_thread(lambda: self._open(note, entry))
        except FileNotFoundError as error:
            raise _gone(place.session, place.output) from error
        return await send_file(request, file, entry, kept.count_served)

    def _entry(self, note: KeptNote, place: DataPath) -> ManifestEntry:
        """What the manifest says of a path. Blocks.

        Raises:
            BadRequestError: 404: there is nothing that could be sent.
        """
        with opened(self._node.kept.store.open_manifest(note)) as file:
            entry = Index(file).find(place.path)
        shown = readable(place.path)[:200]
        if entry is None or (place.is_folder and entry.kind is not EntryKind.DIRECTORY):
            what = "folder" if place.is_folder else "file"
            raise BadRequestError(f"the output {note.output!r} has no {what} {shown}; see its manifest", 404)
        if entry.kind is EntryKind.LINK:
            text = (
                f"{shown} is a link to {readable(entry.target or '')[:200]}, and links are not followed here"
            )
            raise BadRequestError(f"{text}; ask for what it leads to, where that is in the output", 404)
        if entry.kind is EntryKind.OTHER:
            raise BadRequestError(f"{shown} is no file: {entry.note}", 404)
        return entry

    def _open(self, note: KeptNote, entry: ManifestEntry) -> int:
        """A descriptor of a file. Blocks.

        Raises:
            BadRequestError: 410: it is not the one that was listed.
        """
        file = self._node.kept.store.open_file(note, entry.path)
        status = os.fstat(file)
        if status.st_size == entry.size and status.st_ctime_ns <= note.sealed:
            return file
        os.close(file)
        text = (
            f"{readable(entry.path)[:200]} was changed after its checksum had been computed, and is not sent"
        )
        raise BadRequestError(f"{text}; the step that made it must be run again", 410)

    def _found(self, request: Request, session: str, output: str) -> KeptNote:
        """A kept output that the caller may read.

        Raises:
            BadRequestError: 404.
        """
        note = self._node.kept.store.find(session, output)
        if note is None or not (is_signed(request.scope) or may_see(principal_of(request), note.owner)):
            raise _gone(session, output)
        return note

    def _own(self, request: Request) -> KeptNote:
        """A kept output that the caller may do everything with.

        Raises:
            BadRequestError: 404.
        """
        session, output = request.path_params["uuid"], request.path_params["output"]
        note = self._node.kept.store.find(as_uuid(session) or "", output)
        if note is None or not may_see(principal_of(request), note.owner):
            raise _gone(session, output)
        return note

    def _base(self, request: Request) -> str:
        return http.base_url(request, self._public)


def _gone(session: str, output: str) -> BadRequestError:
    text = f"no output {output[:128]!r} of session {session[:36]} is kept here"
    return BadRequestError(f"{text}: it was released, its lease ran out, or it is not yours to see", 404)


def _lease(note: KeptNote) -> Lease:
    return Lease(
        session=note.session,
        output=note.output,
        entries=note.entries,
        files=note.files,
        bytes=note.size,
        expires=datetime.fromtimestamp(note.until, UTC),
    )


async def _body(request: Request, model: type[_Model]) -> _Model:
    """A body that may be left out."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return model()
    return await http.read_model(request, model, _LIMIT)


def _answer(request: Request, model: BaseModel) -> Response:
    return http.answer(request, model.model_dump_json(exclude_none=True).encode())
