"""A run's outputs, and what else is kept of it, in a store: each part is there as a whole or not at all.

A store has them by the names that clients know (``RUN/outputs/a/b.fits``). It must not know WES or CWL.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from wes_bridge.data.beneath import opened, parent_beneath, top_of
from wes_bridge.data.downloads import NotThereError, locate, open_file, walk
from wes_bridge.data.workspace import RunFolder
from wes_bridge.storage.base import Storage, Stored

_logger = logging.getLogger(__name__)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OUTPUTS, ATTACHMENTS, LOGS, TASKS = "outputs", "attachments", "logs", "tasks"
PARTS = (OUTPUTS, ATTACHMENTS, LOGS, TASKS)
"""Of a run's folder, as a store has them; of tasks it has the streams only."""


def stored_name(run_id: str, name: str) -> str:
    """What a store calls a file of a run."""
    return f"{run_id}/{name}"


def publish_outputs(storage: Storage, folder: RunFolder) -> list[Stored]:
    """Bring the outputs of a run to a store, links inside the run followed. Blocks; may be done again.

    Raises:
        OSError: they are not there now; the text says why.
    """
    return publish_part(storage, folder, OUTPUTS)


def publish_part(storage: Storage, folder: RunFolder, part: str, *, partly: bool = False) -> list[Stored]:
    """The same of another part of a run's folder.

    Args:
        storage: where to.
        folder: of the run.
        part: of :data:`PARTS`.
        partly: whether files that cannot be read are left out.
    """
    return storage.publish(stored_name(folder.root.name, part), _files(folder, part, partly=partly))


def fetch_part(storage: Storage, run_id: str, part: str, target: Path) -> None:
    """Bring a part of a run back from the store. Blocks.

    Args:
        storage: where it is.
        run_id: the run.
        part: of :data:`PARTS`.
        target: the new folder.

    Raises:
        OSError: it cannot be had, or cannot be written.
    """
    name = stored_name(run_id, part)
    target.mkdir(parents=True)
    with opened(top_of(target)) as top:
        for stat in storage.files(name):
            folder, last = parent_beneath(top, stat.name.removeprefix(f"{name}/"), make=True)
            with opened(folder):
                mode = 0o755 if stat.is_executable else 0o644
                with os.fdopen(os.open(last, _NEW, mode, dir_fd=folder), "wb") as file:
                    for piece in storage.read(stat.name):
                        file.write(piece)


def discard_outputs(storage: Storage, run_id: str) -> None:
    """Remove all that a store has of a run. Blocks.

    Raises:
        OSError: something may be left.
    """
    storage.delete(run_id)


def discard(storage: Storage, run_id: str) -> None:
    """The same of a run that is gone already; what cannot be removed is told in the log. Blocks."""
    try:
        discard_outputs(storage, run_id)
    except OSError as error:
        _logger.warning("outputs of the deleted run %s may be left in their store: %s", run_id, error)


def discard_logs(storage: Storage, run_id: str) -> None:
    """Remove the logs of a run, and the streams of its tasks. Blocks.

    Raises:
        OSError: something may be left.
    """
    for part in (LOGS, TASKS):
        storage.delete(stored_name(run_id, part))


def _files(folder: RunFolder, part: str, *, partly: bool) -> Iterator[tuple[str, int]]:
    try:
        top = locate(folder, part)
    except NotThereError:
        return
    for name, real in walk(folder, top, part):
        if real is None:
            continue
        try:
            found = open_file(folder, real)
        except NotThereError as error:
            if partly:
                continue
            raise FileNotFoundError(2, "a file was taken away while it was stored", name) from error
        with found.file:
            yield name.removeprefix(f"{part}/"), os.dup(found.file.fileno())
