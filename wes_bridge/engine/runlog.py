"""The engine's words about one run, and cwltool's, in the run's own log file."""

from __future__ import annotations

import contextlib
import logging
import time
from io import FileIO
from pathlib import Path

from wes_bridge.cwl.log import Overheard


class RunLog(Overheard):
    """Appends lines to a run's log.

    Args:
        path: the file; its folder is made, once: a thread that still works for a run that was deleted does
            not bring it back. One that cannot be written (the disk is full) stops nobody: the
            run's state and its system_logs are in the database.
        base: folder whose path is left out of messages: users know their files by their own names.
    """

    def __init__(self, path: Path, base: Path) -> None:
        super().__init__(base)
        self._path = path
        self._file: FileIO | None = None
        self._made = False

    def _append(self, level: int, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{stamp} {logging.getLevelName(level)} {text}\n"
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed, by the run's end, just now
            self._opened().write(line.encode(errors="replace"))

    def _opened(self) -> FileIO:
        """The file, kept open: cwltool says three lines of each step."""
        if self._file is None:
            if not self._made:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._made = True
            self._file = FileIO(self._path, "a")
        return self._file

    def close(self) -> None:
        """Let go of the file; a line more opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
