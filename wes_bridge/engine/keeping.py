"""Cleaning up: runs that ended long ago, their intermediate files and logs, and what crashes left behind.

Each thing is removed in an order that a crash, or two cleaners at once, cannot harm: first the rows that lead
to files, then the files; files without rows are found by a later look. What a run that has not ended may read
is left alone. Blocking code for a thread of its own; it must not know HTTP.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wes_bridge.config import RetentionConfig
from wes_bridge.data.beneath import kind_beneath, opened, parent_beneath, top_of
from wes_bridge.data.linking import tree_size
from wes_bridge.data.publishing import discard
from wes_bridge.data.workspace import RunFolder, Workspace, file_url, url_path
from wes_bridge.engine.moving import Mover
from wes_bridge.engine.stored_results import results_in
from wes_bridge.model.states import FINAL_STATES, State
from wes_bridge.storage.base import Storage
from wes_bridge.store import retention as store
from wes_bridge.store.database import Database
from wes_bridge.store.reuse import forget, known_keys
from wes_bridge.store.runs import journal

_DAY = 86400.0
_BATCH = 200
_STALE = 86400.0
"""Seconds after which files that nobody knows are taken for what a crash left."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_FAILED = FINAL_STATES - {State.COMPLETE}


@dataclass(frozen=True)
class Removal:
    """Something that was, or would be, removed: what, of which run, and its bytes."""

    what: str
    run_id: str
    size: int


class Keeper:
    """Removes what the site does not want to keep any longer.

    Args:
        config: how long what is kept.
        workspace: of all runs.
        database: of the service.
        dry_run: only look.
        now: the time, seconds since the epoch.
    """

    def __init__(
        self,
        config: RetentionConfig,
        workspace: Workspace,
        database: Database,
        *,
        dry_run: bool = False,
        now: Callable[[], float] = time.time,
        outputs_store: Storage | None = None,
    ) -> None:
        self._outputs_store = outputs_store
        self._mover = Mover(workspace, database, outputs_store) if outputs_store is not None else None
        self._config = config
        self._workspace = workspace
        self._database = database
        self._dry_run = dry_run
        self._now = now

    def sweep(self) -> Iterator[Removal]:
        """Look once at everything; what is given was removed just then."""
        config, intermediates = self._config, self._config.keep_intermediates
        if self._mover is not None and not self._dry_run:
            self._mover.bring(self._now())
        gone: set[str] = set()
        for removal in self._each(config.keep_runs, FINAL_STATES, None, self._run):
            gone.add(removal.run_id)
            yield removal
        parts = (
            (intermediates.after_success, {State.COMPLETE}, store.INTERMEDIATES, self._intermediates),
            (intermediates.after_failure, _FAILED, store.INTERMEDIATES, self._intermediates),
            (config.keep_logs, FINAL_STATES, store.LOGS, self._logs),
        )
        for days, states, bit, remove in parts:
            yield from (found for found in self._each(days, states, bit, remove) if found.run_id not in gone)
        yield from self._local()
        yield from self._strays()
        if not self._dry_run:
            self._results()

    def _each(
        self,
        days: float | None,
        states: set[State] | frozenset[State],
        bit: int | None,
        remove: Callable[[str], Removal | None],
    ) -> Iterator[Removal]:
        if days is None:
            return
        moment, after = self._now() - days * _DAY, 0
        while rows := store.ended_before(self._database, moment, states, bit, after=after, limit=_BATCH):
            for row in rows:
                after = row.seq
                removal = remove(row.run_id)
                if removal is not None:
                    yield removal

    def _run(self, run_id: str) -> Removal | None:
        folder = self._workspace.run(run_id)
        size = tree_size(folder.root)
        if self._dry_run:
            return None if self._is_used(run_id) else Removal("run", run_id, size)
        try:
            with self._database.write() as connection:
                store.delete_ended(connection, run_id)
        except store.InUseError:
            return None
        folder.remove()
        if self._outputs_store is not None:
            discard(self._outputs_store, run_id)
        return Removal("run", run_id, size)

    def _intermediates(self, run_id: str) -> Removal | None:
        """What tasks left; their streams stay, and so do the run's outputs, which are linked elsewhere."""
        folder = self._workspace.run(run_id)
        found = [path for path in _inside(folder.tasks) for path in _inside(path) if path.is_dir()]
        return self._part("intermediate files", run_id, store.INTERMEDIATES, found)

    def _logs(self, run_id: str) -> Removal | None:
        folder = self._workspace.run(run_id)
        if self._mover is not None and not self._dry_run and not self._mover.discard_logs(run_id):
            return None
        found = [path for task in _inside(folder.tasks) for path in _inside(task) if not path.is_dir()]
        return self._part("logs", run_id, store.LOGS, [*_inside(folder.logs), *found])

    def _part(self, what: str, run_id: str, bit: int, paths: list[Path]) -> Removal | None:
        if self._is_used(run_id):
            return None
        size = sum(map(tree_size, paths))
        if not self._dry_run:
            if bit == store.INTERMEDIATES:
                self._save_streams(run_id)
            for path in paths:
                _remove(path)
            with self._database.write() as connection:
                store.set_cleaned(connection, run_id, bit)
        return Removal(what, run_id, size) if paths else None

    def _save_streams(self, run_id: str) -> None:
        """A stream that the tool wanted in a file of its output is kept where other streams are."""
        folder: RunFolder = self._workspace.run(run_id)
        for row in journal(self._database, run_id):
            for name in ("stdout", "stderr"):
                stored, place = getattr(row, name), folder.task_stream(row.task_id, name)
                url = stored and folder.url_now(stored)
                if url is None or not url.startswith("file:") or url == file_url(place):
                    continue
                with contextlib.suppress(OSError, ValueError):
                    _bring(folder, url_path(url), place)
                if place.is_file() and not place.is_symlink():
                    self._move_stream(run_id, row.task_id, name, file_url(place))

    def _move_stream(self, run_id: str, task_id: str, name: str, url: str) -> None:
        with self._database.write() as connection:
            store.set_stream(connection, run_id, task_id, name, url)

    def _is_used(self, run_id: str) -> bool:
        with self._database.read() as connection:
            return store.user_of(connection, run_id) is not None

    def _local(self) -> Iterator[Removal]:
        """Folders of runs of which the store has everything."""
        if self._mover is None or self._config.keep_local is None:
            return
        for run_id, size in self._mover.removable(self._now() - self._config.keep_local * _DAY):
            if not self._dry_run:
                self._mover.remove(run_id)
            yield Removal("local files", run_id, size)

    def _strays(self) -> Iterator[Removal]:
        """Folders of runs that nobody knows."""
        before = self._now() - _STALE
        found = [path for path in _inside(self._workspace.root) if _RUN_ID.fullmatch(path.name)]
        known = store.known_runs(self._database, (path.name for path in found))
        for path in found:
            if path.name not in known and _changed(path) < before:
                size = tree_size(path)
                if not self._dry_run:
                    _remove(path)
                yield Removal("stray folder", path.name, size)

    def _results(self) -> None:
        results = results_in(self._workspace.root, self._outputs_store)
        missing = results.sweep(known_keys(self._database), self._now() - _STALE)
        with self._database.write() as connection:
            forget(connection, missing)


def _bring(folder: RunFolder, stream: Path, place: Path) -> None:
    """Move a stream within a run's folder. A command may have put links on the way to it, or in its place:
    none is followed."""
    with opened(top_of(folder.root)) as top:
        relative = str(stream.relative_to(folder.root))
        if kind_beneath(top, relative) != stat.S_IFREG:
            return
        there, name = parent_beneath(top, relative)
        with opened(there):
            here, new_name = parent_beneath(top, str(place.relative_to(folder.root)))
            with opened(here):
                os.rename(name, new_name, src_dir_fd=there, dst_dir_fd=here)


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
