"""Which runs a worker was busy with when it died: a run that worker after worker dies of is given up, so that
it does not stop everybody's runs for good.

A worker notes in a file of its own which runs its threads work for; the file goes when the worker ends in
order. Whoever finds the file of a worker that is no more notes the death with these runs, and only with them:
the others were under way in the same worker, and had no part in it. A run that gets further is innocent.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from wes_bridge.data.workspace import RunFolder, Workspace
from wes_bridge.engine.identity import is_gone
from wes_bridge.private_files import make_private

_WIDTH = 64
"""Bytes of a note, which are the most that a run's id has."""
_SLOTS = 64
_FILE = "deaths"


class AtWork:
    """The notes of one worker.

    Args:
        folder: of all workers of this machine that have the same state folder; made if missing.
        worker: this one's name.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        make_private(folder)
        self._path = folder / worker
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._free = list(range(_SLOTS))
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def on(self, run_id: str) -> Iterator[None]:
        """While this thread works for a run."""
        with self._lock:
            slot = self._free.pop() if self._free else None
        if slot is None:  # more threads than there are
            yield
            return
        with contextlib.suppress(OSError):  # a full disk stops nobody's work
            os.pwrite(self._file, run_id.encode().ljust(_WIDTH), slot * _WIDTH)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.pwrite(self._file, b" " * _WIDTH, slot * _WIDTH)
            with self._lock:
                self._free.append(slot)

    def close(self) -> None:
        """Leave in order."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def note_deaths(folder: Path, workspace: Workspace) -> None:
    """Note the deaths of workers that are no more with the runs that they were busy with."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            if is_gone(path.name):
                _note(path, workspace)


def _note(path: Path, workspace: Workspace) -> None:
    taken = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # another worker was quicker, or the run is gone
        path.rename(taken)
        runs = set(taken.read_bytes()[: _SLOTS * _WIDTH].replace(b"\0", b" ").decode().split())
        taken.unlink()
        for run_id in runs:
            with contextlib.suppress(OSError), (workspace.run(run_id).logs / _FILE).open("a") as file:
                file.write(".")


def deaths(run: RunFolder) -> int:
    """How many workers died of a run since it last got further."""
    try:
        return (run.logs / _FILE).stat().st_size
    except OSError:
        return 0


def forget_deaths(run: RunFolder) -> None:
    """The run got further."""
    with contextlib.suppress(OSError):
        (run.logs / _FILE).unlink(missing_ok=True)
