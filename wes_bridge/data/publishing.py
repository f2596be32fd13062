"""A run's outputs in a store of their own: brought there when the run ends, as a whole or not at all.

A store has them by the names that clients know (``RUN/outputs/a/b.fits``). It must not know WES or CWL.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from wes_bridge.data.downloads import NotThereError, locate, open_file, walk
from wes_bridge.data.workspace import RunFolder
from wes_bridge.storage.base import Storage, Stored

_logger = logging.getLogger(__name__)
OUTPUTS = "outputs"


def stored_name(run_id: str, name: str) -> str:
    """What a store calls a file of a run."""
    return f"{run_id}/{name}"


def publish_outputs(storage: Storage, folder: RunFolder) -> list[Stored]:
    """Bring the outputs of a run to a store, links inside the run followed. Blocks; may be done again.

    Raises:
        OSError: they are not there now; the text says why.
    """
    return storage.publish(stored_name(folder.root.name, OUTPUTS), _files(folder))


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


def _files(folder: RunFolder) -> Iterator[tuple[str, int]]:
    try:
        top = locate(folder, OUTPUTS)
    except NotThereError:
        return
    for name, real in walk(folder, top, OUTPUTS):
        if real is None:
            continue
        try:
            opened = open_file(folder, real)
        except NotThereError as error:
            raise FileNotFoundError(2, "an output was taken away while it was stored", name) from error
        with opened.file:
            yield name.removeprefix(f"{OUTPUTS}/"), os.dup(opened.file.fileno())
