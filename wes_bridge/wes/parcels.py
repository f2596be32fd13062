"""``/data/PARCEL/step/...``: what a session at a broker without our disk fetches, and what it sends.

All of it by signed URL. A part that is sent is hashed while it comes, and is there as a whole or not at all;
it may come again until the session has said its last word. It must not know what the parts are for.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from wes_bridge.auth.signed_urls import is_signed, signed_upload
from wes_bridge.data.archive import ChangedError
from wes_bridge.data.bundling import bundle
from wes_bridge.data.downloads import NotThereError
from wes_bridge.data.handing_out import FILES, open_handed
from wes_bridge.data.parcels import (
    ALIVE,
    ALL,
    PARTS,
    SCRIPT,
    SENT,
    STOP,
    Coming,
    OverError,
    Parcel,
    Parcels,
    PartRefusedError,
    TooMuchError,
)
from wes_bridge.model.data_urls import DataPath
from wes_bridge.wes.errors import (
    ApiError,
    BadRequestError,
    BusyError,
    ConflictError,
    NotFoundError,
    TooLargeError,
)
from wes_bridge.wes.sending import MadeBody, send_file
from wes_bridge.wes.threads import Threads

_AT_ONCE = 2
"""Requests that may be sending one part: one may be a connection that broke and of which we do not know."""
_GATHER = 512 * 1024
_GO = "go\n"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHECKSUM = 64


class GoneError(ApiError):
    """410: nobody waits for it any more."""

    status = 410


class FullError(ApiError):
    """507: there is no room for it."""

    status = 507


class ParcelHandlers:
    """They know whether a request's signature is good; the signature says what may be done.

    Args:
        parcels: of the service.
        threads: where files are read and written.
    """

    def __init__(self, parcels: Parcels, threads: Threads) -> None:
        self._parcels = parcels
        self._threads = threads
        self._coming: Counter[tuple[str, str]] = Counter()

    async def get(self, request: Request, place: DataPath) -> Response:
        """The script, an input, or the archive of those that go together."""
        if not is_signed(request.scope):
            raise NotFoundError("there is nothing here without a signed URL")
        files = self._threads.files
        parcel = await files(self._parcels.find, place.session)
        try:
            if parcel is not None and place.path == SCRIPT:
                opened = await files(open_handed, _handed(str(parcel.folder / SCRIPT)))
                return send_file(request, opened, SCRIPT, self._threads)
            given = await files(parcel.given) if parcel is not None else {}
            if place.path == ALL and given:
                members = [(str(number), item.path) for number, item in given.items() if item.together]
                headers = {"Content-Type": "application/x-tar", "X-Content-Type-Options": "nosniff"}
                return MadeBody(_read(bundle(members)), headers, self._threads)
            item = given.get(int(place.path)) if place.path.isascii() and place.path.isdigit() else None
            if item is None or item.together:
                raise NotFoundError("the step that this was for has ended, or never needed it")
            opened = await files(open_handed, _handed(item.path))
            return send_file(request, opened, item.path.rpartition("/")[2], self._threads)
        except (NotThereError, OSError) as error:
            raise NotFoundError("an input of the step is not there any more") from error

    async def put(self, request: Request, place: DataPath) -> Response:
        """A part comes. The answer is ``stop`` when the command is to be ended."""
        most = signed_upload(request.scope)
        folder, _, name = place.path.partition("/")
        if most is None or folder != SENT or name not in PARTS:
            raise NotFoundError("there is nothing to send here without a signed URL")
        parcel = await self._threads.files(self._parcels.find, place.session)
        if parcel is None:
            if name == ALIVE:
                return PlainTextResponse(f"{STOP}\n")
            raise GoneError("the step that this is for has ended, or was cancelled")
        key = (place.session, name)
        if self._coming[key] >= _AT_ONCE:
            raise BusyError(f"{name} is being sent already", {"Retry-After": "5"})
        self._coming[key] += 1
        try:
            await self._take(request, parcel, name, most)
        except ApiError as error:
            await self._threads.files(parcel.refuse, f"{name}: {error}")
            raise
        finally:
            self._coming[key] -= 1
            if not self._coming[key]:
                del self._coming[key]
        is_over = await self._threads.files(parcel.has, STOP)
        return PlainTextResponse(f"{STOP}\n" if is_over else _GO)

    async def _take(self, request: Request, parcel: Parcel, name: str, most: int) -> None:
        files = self._threads.files
        length = request.headers.get("content-length", "")
        checksum = request.query_params.get("sha256")
        if checksum is not None and len(checksum) != _CHECKSUM:
            raise BadRequestError("sha256 is no checksum: 64 hexadecimal digits are one")
        if length.isdigit() and int(length) > most:
            raise TooLargeError(
                f"{name} has {length} bytes; {most} may be sent (max_output_gib of the broker)"
            )
        coming = None
        try:
            coming = await files(Coming, parcel, name, most, checksum)
            gathered = bytearray()
            async for piece in request.stream():
                gathered += piece
                if len(gathered) >= _GATHER:
                    await files(coming.take, bytes(gathered))
                    gathered.clear()
            await files(coming.take, bytes(gathered))
            await files(coming.done)
            coming = None
        except TooMuchError as error:
            raise TooLargeError(f"{error} (max_output_gib of the broker)") from error
        except OverError as error:
            raise ConflictError(str(error)) from error
        except PartRefusedError as error:
            raise BadRequestError(str(error)) from error
        except FileNotFoundError as error:
            raise GoneError("the step that this is for has ended, or was cancelled") from error
        except OSError as error:
            if error.errno in _FULL:
                raise FullError(
                    "the service's disk is full: nothing can be sent until there is room"
                ) from error
            raise
        finally:
            if coming is not None:
                await files(coming.discard)


def _handed(path: str) -> DataPath:
    """As :func:`open_handed` takes a path: by descriptors, and no link is followed."""
    return DataPath("", FILES, path.strip("/"), is_folder=False)


def _read(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """An archive; where a file is gone or changes, the answer breaks off, and whoever reads it sees that."""
    try:
        yield from chunks
    except ChangedError as error:
        raise EOFError("a file changed while it was packed") from error
