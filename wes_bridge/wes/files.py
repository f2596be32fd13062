"""Downloads: logs of runs and tasks, and a run's files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.data.archive import members_of, tar_stream, zip_stream
from wes_bridge.data.downloads import (
    SHOWN,
    Entry,
    NotThereError,
    Opened,
    StandInError,
    list_folder,
    locate,
    open_file,
)
from wes_bridge.data.publishing import LOGS, OUTPUTS, TASKS
from wes_bridge.data.workspace import RunFolder, url_path
from wes_bridge.wes.at_nodes import send_from_node
from wes_bridge.wes.errors import BadRequestError, NotFoundError, UpstreamError
from wes_bridge.wes.proxy import TEXT, pass_through
from wes_bridge.wes.sending import send_archive, send_file, send_nothing
from wes_bridge.wes.service import Service, json_response

_STREAMS = ("stdout", "stderr")
_ARCHIVES = {"tar": (tar_stream, "application/x-tar"), "zip": (zip_stream, "application/zip")}


class FileHandlers:
    """Everything that is sent as bytes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def run_stream(self, request: Request) -> Response:
        """GetRunStream."""
        name = _stream(request)
        run = await self._service.state_of(request)
        folder = self._service.workspace.run(run.run_id)
        return await self._send_log(request, folder, folder.logs / name, f"{LOGS}/{name}", run.owner)

    async def task_stream(self, request: Request) -> Response:
        """GetTaskStream."""
        name = _stream(request)
        row, owner = await self._service.task_of(request)
        folder = self._service.workspace.run(row.run_id)
        url = row.stdout if name == "stdout" else row.stderr
        if url and urlsplit(url).scheme in ("http", "https"):
            return await pass_through(request, url, self._service.http, owner)
        stored = f"{TASKS}/{row.task_id}/{name}"
        return await self._send_log(request, folder, _log_path(row, folder, url, name), stored, owner)

    async def run_file(self, request: Request) -> Response:
        """GetRunFile."""
        run = await self._service.state_of(request)
        run_id = run.run_id
        archive = request.query_params.get("archive")
        if archive is not None and archive not in _ARCHIVES:
            raise BadRequestError("archive must be tar or zip")
        folder = self._service.workspace.run(run_id)
        name = request.path_params["path"].strip("/")
        is_output = name.partition("/")[0] == OUTPUTS
        try:
            if is_output and (stored := await self._send_stored(request, run_id, name, archive)) is not None:
                return stored
            try:
                return await self._send_path(request, run_id, folder, name, archive)
            except StandInError as error:
                return await send_from_node(request, self._service, folder, error.path, run.owner)
            except NotThereError:
                if is_output or (stored := await self._send_stored(request, run_id, name, archive)) is None:
                    raise
                return stored
        except NotThereError as error:
            raise NotFoundError(f"run {run_id} has no file or folder {name[:200]!r}") from error

    async def _send_log(
        self, request: Request, folder: RunFolder, path: Path, stored: str, owner: str
    ) -> Response:
        try:
            opened = await self._service.threads.files(_open_log, folder, path)
        except StandInError as error:
            try:
                return await send_from_node(request, self._service, folder, error.path, owner)
            except NotThereError:
                return await self._send_stored_log(request, folder, stored)
        except NotThereError:
            return await self._send_stored_log(request, folder, stored)
        return send_file(request, opened, path.name, self._service.threads, TEXT)

    async def _send_stored_log(self, request: Request, folder: RunFolder, name: str) -> Response:
        """A log that is not in the workspace: where all of the run has gone to the store, the one there."""
        if self._service.stored is None or await self._service.threads.files(folder.root.exists):
            return send_nothing(request)
        try:
            return await self._service.stored.log(request, folder.root.name, name, TEXT)
        except NotThereError:
            return send_nothing(request)
        except OSError as error:
            raise UpstreamError(f"the store does not give {name[:200]!r}: {error}") from error

    async def _send_stored(
        self, request: Request, run_id: str, name: str, archive: str | None
    ) -> Response | None:
        """A file or folder that is in a store; None where there is none."""
        if self._service.stored is None:
            return None
        try:
            if archive:
                pack, media_type = _ARCHIVES[archive]
                chunks = pack(await self._service.stored.members(run_id, name))
                full = f"{name.rpartition('/')[2]}.{archive}"
                return send_archive(chunks, full, media_type, self._service.stored.threads)
            found = await self._service.stored.answer(request, run_id, name)
        except NotThereError:
            return None
        except OSError as error:
            raise UpstreamError(f"the store of outputs does not give {name[:200]!r}: {error}") from error
        if isinstance(found, Response):
            return found
        return json_response(self._listing(request, run_id, name, found))

    async def _send_path(
        self, request: Request, run_id: str, folder: RunFolder, name: str, archive: str | None
    ) -> Response:
        threads = self._service.threads
        if archive:
            pack, media_type = _ARCHIVES[archive]
            real = await threads.files(_folder, folder, name)
            return send_archive(pack(members_of(folder, real)), f"{real.name}.{archive}", media_type, threads)
        found = await threads.files(_look, folder, name)
        if isinstance(found, Opened):
            return send_file(request, found, name.rpartition("/")[2], threads)
        return json_response(self._listing(request, run_id, name, found))

    def _listing(self, request: Request, run_id: str, name: str, found: list[Entry]) -> dict[str, object]:
        links = self._service.links(request)
        prefix = f"{name}/" if name else ""
        return {
            "path": name,
            "entries": [
                {"name": entry.name, "type": "folder" if entry.is_folder else "file"}
                | ({} if entry.size is None else {"size": entry.size})
                | ({"executable": True} if entry.is_executable else {})
                | {"url": links.file(run_id, prefix + entry.name)}
                for entry in found
            ],
        }


def _folder(folder: RunFolder, name: str) -> Path:
    """The real path of a folder of a run."""
    path = locate(folder, name)
    if not path.is_dir():
        raise BadRequestError("archive packs folders; this is a file: ask for it as it is")
    return path


def _look(folder: RunFolder, name: str) -> Opened | list[Entry]:
    """Open the file, or list the folder; the empty name is the run's own folder."""
    if not name:
        return [Entry(part, True, None) for part in SHOWN if (folder.root / part).is_dir()]
    path = locate(folder, name)
    return list_folder(folder, path) if path.is_dir() else open_file(folder, path)


def _open_log(folder: RunFolder, path: Path) -> Opened:
    try:
        relative = path.relative_to(folder.root).as_posix()
    except ValueError as error:
        raise NotThereError(str(path)) from error
    return open_file(folder, locate(folder, relative))


def _log_path(row: Row[object], folder: RunFolder, url: str | None, name: str) -> Path:
    """Where a task's stream is; before the engine has said so, where it will be."""
    if url:
        try:
            return url_path(folder.url_now(url))
        except ValueError:
            return folder.root / "nowhere"
    return folder.task_stream(row.task_id, name)


def _stream(request: Request) -> str:
    name: str = request.path_params["stream"]
    if name not in _STREAMS:
        raise NotFoundError(f"there is no stream {name[:40]!r}; there are {' and '.join(_STREAMS)}")
    return name
