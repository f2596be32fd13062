"""Files of a run whose bytes are still at the node that made them: read there, and passed on.

The note beside an output says where it is. Notes are believed only where no command can write them: beside
the folders into which outputs are received, never inside of one.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.data.downloads import NotThereError
from wes_bridge.data.publishing import TASKS
from wes_bridge.data.workspace import RunFolder
from wes_bridge.federation.replicas import note_of, read_note
from wes_bridge.model.data_urls import quote_path
from wes_bridge.wes.proxy import pass_through
from wes_bridge.wes.service import Service

_OUTPUT = 3
"""Parts of the path of an output's folder in a run's: ``tasks/TASK/out``."""


async def send_from_node(
    request: Request, service: Service, folder: RunFolder, path: Path, owner: str
) -> Response:
    """A file that stands in for one at a node.

    Args:
        request: its range and conditions count.
        service: with the client for nodes.
        folder: of the run.
        path: real path of the stand-in.
        owner: of the run.

    Raises:
        NotThereError: nothing says which node has it.
        NotFoundError: the node does not keep it any more.
        UpstreamError: the node does not answer.
    """
    url = await service.threads.files(_place, folder, path)
    return await pass_through(request, url, service.http, owner, is_kept=True)


def _place(folder: RunFolder, path: Path) -> str:
    """The URL at the node. Blocks."""
    parts = path.relative_to(folder.real_root).parts
    if parts[0] != TASKS or len(parts) <= _OUTPUT:
        raise NotThereError(str(path))
    output = folder.real_root.joinpath(*parts[:_OUTPUT])
    try:
        note = read_note(note_of(output))
    except (OSError, ValueError) as error:
        raise NotThereError(str(path)) from error
    return note.location + quote_path("/".join(parts[_OUTPUT:]))
