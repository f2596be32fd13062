"""``/data/``: files of runs and steps, by signed URL, for nodes and brokers that see no disk of ours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.signed_urls import is_signed, raw_path
from wes_bridge.data.downloads import NotThereError
from wes_bridge.data.handing_out import FILES, handed_folder, open_handed
from wes_bridge.data.parcels import PARCEL, Parcels
from wes_bridge.model.data_urls import DataPath, read_data_path
from wes_bridge.model.manifest import MEDIA_TYPE, ManifestEntry, write_entry
from wes_bridge.wes.errors import NotFoundError
from wes_bridge.wes.parcels import ParcelHandlers
from wes_bridge.wes.sending import MadeBody, send_file
from wes_bridge.wes.service import Service

_LINES = 100


class HandedHandlers:
    """They know whether a request's signature is good, and nothing of runs: the signature says it all."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parcels = ParcelHandlers(Parcels(service.config.state_dir.absolute()), service.threads)

    async def answer(self, request: Request) -> Response:
        """A file, the manifest of a folder, or whatever a step fetches or sends."""
        place = read_data_path(raw_path(request.scope))
        reads = request.method in ("GET", "HEAD")
        if place is not None and place.output == PARCEL:
            return await (self._parcels.get if reads else self._parcels.put)(request, place)
        if not reads:
            raise NotFoundError("there is nothing to send here without a signed URL")
        if place is None or place.output != FILES or not is_signed(request.scope):
            raise NotFoundError("there is nothing here without a signed URL")
        threads = self._service.threads
        try:
            if place.is_folder:
                headers = {"Content-Type": MEDIA_TYPE, "X-Content-Type-Options": "nosniff"}
                lines = await threads.files(_lines, place)
                return MadeBody(lines, headers, threads)
            opened = await threads.files(open_handed, place)
        except NotThereError as error:
            name = place.path.rpartition("/")[2][:200]
            raise NotFoundError(f"{name!r} is not there any more") from error
        return send_file(request, opened, place.path.rpartition("/")[2], threads)


def _lines(place: DataPath) -> Iterator[bytes]:
    return _gathered(handed_folder(place))


def _gathered(entries: Iterator[ManifestEntry]) -> Iterator[bytes]:
    while some := list(itertools.islice(entries, _LINES)):
        yield b"".join(map(write_entry, some))
