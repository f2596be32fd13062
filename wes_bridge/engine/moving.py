"""What of ended runs is brought to the store (``outputs_store``), and then taken off this disk.

Outputs are there when a run is COMPLETE; here the rest follows: attachments, logs, streams of tasks, outputs
of runs that failed. Each part is there as a whole or not at all, so that all of this may be done again, and
by several workers at once. Until a run's own folder is removed (``retention.keep_local``) it is what is read.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from wes_bridge.data.downloads import NotThereError, locate, open_file
from wes_bridge.data.linking import tree_size
from wes_bridge.data.publishing import (
    ATTACHMENTS,
    LOGS,
    OUTPUTS,
    PARTS,
    TASKS,
    discard_logs,
    publish_part,
    stored_name,
)
from wes_bridge.data.workspace import RunFolder, Workspace, url_path
from wes_bridge.model.states import FINAL_STATES
from wes_bridge.storage.base import Storage
from wes_bridge.store import retention as store
from wes_bridge.store.database import Database
from wes_bridge.store.runs import journal

_logger = logging.getLogger(__name__)
_BATCH = 200
_FAILURES = 3
"""Runs that the store does not take until it is left alone for a while."""
_STREAMS = ("stdout", "stderr")


class Mover:
    """Brings and removes.

    Args:
        workspace: of all runs.
        database: of the service.
        storage: where to.
    """

    def __init__(self, workspace: Workspace, database: Database, storage: Storage) -> None:
        self._workspace = workspace
        self._database = database
        self._storage = storage

    def bring(self, before: float) -> None:
        """Bring what is left of runs that ended before a moment; where the store does not take it, later."""
        failures = 0
        for run_id in self._ended(before, store.STORED):
            try:
                self._bring(run_id)
            except OSError as error:
                _logger.warning("run %s cannot be brought to outputs_store now: %s", run_id, error)
                failures += 1
                if failures == _FAILURES:
                    return
                continue
            with self._database.write() as connection:
                store.set_cleaned(connection, run_id, store.STORED)

    def discard_logs(self, run_id: str) -> bool:
        """Remove what the store has of a run's logs; false where it cannot be removed now."""
        try:
            discard_logs(self._storage, run_id)
        except OSError as error:
            _logger.warning("logs of run %s cannot be removed from outputs_store now: %s", run_id, error)
            return False
        return True

    def removable(self, before: float) -> Iterator[tuple[str, int]]:
        """Runs that ended before a moment and of which the store has everything, and their bytes here."""
        for run_id in self._ended(before, store.LOCAL):
            with self._database.read() as connection:
                is_used = store.user_of(connection, run_id) is not None
            if not is_used and self._is_whole(run_id):
                yield run_id, tree_size(self._workspace.run(run_id).root)

    def remove(self, run_id: str) -> None:
        """Take a run's folder off this disk."""
        self._workspace.run(run_id).remove()
        with self._database.write() as connection:
            store.set_cleaned(connection, run_id, store.LOCAL)

    def _ended(self, before: float, lacking: int) -> Iterator[str]:
        after = 0
        while rows := store.ended_before(
            self._database, before, FINAL_STATES, lacking, after=after, limit=_BATCH
        ):
            for row in rows:
                after = row.seq
                yield row.run_id

    def _bring(self, run_id: str) -> None:
        folder = self._workspace.run(run_id)
        for part in (ATTACHMENTS, LOGS):
            if (folder.root / part).is_dir():
                publish_part(self._storage, folder, part)
        if folder.outputs.is_dir() and not self._storage.is_published(stored_name(run_id, OUTPUTS)):
            publish_part(self._storage, folder, OUTPUTS, partly=True)  # of a run that failed
        if folder.tasks.is_dir():
            self._storage.publish(stored_name(run_id, TASKS), self._streams(folder))

    def _streams(self, folder: RunFolder) -> Iterator[tuple[str, int]]:
        """Streams of all tasks, where tools have put them."""
        for row in journal(self._database, folder.root.name):
            for name in _STREAMS:
                stored = getattr(row, name)
                place = folder.task_stream(row.task_id, name)
                with contextlib.suppress(NotThereError, ValueError):
                    place = url_path(folder.url_now(stored)) if stored else place
                    with open_file(folder, locate(folder, _relative(folder, place))).file as file:
                        yield f"{row.task_id}/{name}", os.dup(file.fileno())

    def _is_whole(self, run_id: str) -> bool:
        folder = self._workspace.run(run_id)
        here = [part for part in PARTS if (folder.root / part).is_dir()]
        try:
            return all(self._storage.is_published(stored_name(run_id, part)) for part in here)
        except OSError as error:
            _logger.warning("outputs_store does not say what it has of run %s: %s", run_id, error)
            return False


def _relative(folder: RunFolder, path: Path) -> str:
    return path.relative_to(folder.root).as_posix()
