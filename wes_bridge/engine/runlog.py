"""The engine's words about one run, in the run's own log file.

cwltool and its relatives log to process-wide loggers; a context variable says which run a thread works for,
and one handler writes each record to that run's file.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import re
import time
from io import FileIO
from pathlib import Path

from wes_bridge.cwl.errors import InvalidWorkflowError, unexpected
from wes_bridge.data.readable import Readable
from wes_bridge.redaction import redacted

_current: contextvars.ContextVar[RunLog | None] = contextvars.ContextVar("run_log", default=None)
_OWN_FIELDS = tuple(f"Warning: invalid field {name!r}" for name in ("nameroot", "nameext", "dirname"))
"""What cwltool says of fields that it has given to a File itself: no user can do anything about it."""
_SAME_NAME = re.compile(r"object id '?\S+ previously defined")
"""What schema-salad says of an input that has the name of an output or of a step, which CWL allows. For two
inputs of one name :mod:`wes_bridge.cwl.loading.document_checks` gives a warning of its own."""
_ANNOUNCING = ("Exception on step ", "Unexpected exception")
"""cwltool's words before it tells what went wrong, which it then does."""
_SERIAL = re.compile(r"^(\[(?:step|workflow|job) [^\]#]*)#\d+\]")
"""A number that cwltool's name of a step gets here, to be like no other: it means nothing to a user."""
"""Errors whose text is for the author of the document."""
_LOGGERS = ("cwltool", "salad", "cwl_utils", "schema_salad", "rdflib.term")


class RunLog:
    """Appends lines to a run's log.

    Args:
        path: the file; its folder is made, once: a thread that still works for a run that was deleted does
            not bring it back. One that cannot be written (the disk is full) stops nobody: the
            run's state and its system_logs are in the database.
        base: folder whose path is left out of messages: users know their files by their own names.

    Attributes:
        readable: gives a message without the service's own paths.
        errors: the error lines so far, for the run's system_logs.
    """

    def __init__(self, path: Path, base: Path) -> None:
        self.readable = Readable(base)
        self._path = path
        self._file: FileIO | None = None
        self._made = False
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._told: set[str] = set()

    def write(self, level: int, text: str) -> None:
        """Append one message; errors and warnings are remembered too, and a warning is not said twice."""
        text = redacted(_SERIAL.sub(r"\1]", self.readable(text)))
        if level >= logging.ERROR:
            self.errors.append(text)
        elif level >= logging.WARNING and not (text.startswith(_OWN_FIELDS) or _SAME_NAME.search(text)):
            if text in self._told:  # of a schema that cannot be had, by each document that names it
                return
            self._told.add(text)
            self.warnings.append(text)
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

    def info(self, text: str) -> None:
        """Append an ordinary line."""
        self.write(logging.INFO, text)

    def warning(self, text: str) -> None:
        """Append a warning."""
        self.write(logging.WARNING, text)

    def error(self, text: str) -> None:
        """Append an error."""
        self.write(logging.ERROR, text)

    def activate(self) -> None:
        """Make this the log of everything done in the current context."""
        _current.set(self)


class Overheard(RunLog):
    """What cwltool says where there is no run: its errors and warnings, kept and not written."""

    def __init__(self, base: Path) -> None:
        super().__init__(Path(os.devnull), base)


class ToRunLog(logging.Handler):
    """Writes records to the log of the run that the current context works for."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        log = _current.get()
        if log is not None and not str(record.msg).startswith(_ANNOUNCING):
            log.write(record.levelno, _text(record))


def _text(record: logging.LogRecord) -> str:
    """What a record says; cwltool says "Unhandled exception" and leaves the rest to a traceback."""
    message, error = record.getMessage(), record.exc_info and record.exc_info[1]
    if not error or str(error) in message:
        return message
    # of a refusal the words are enough, our own of files among them: it is nobody's fault but the document's
    return str(error) if isinstance(error, _told()) else unexpected(error)


def _told() -> tuple[type[Exception], ...]:
    """Errors whose words are for users. The API server writes logs, too, and does without cwltool."""
    from cwltool.errors import WorkflowException  # noqa: PLC0415
    from schema_salad.exceptions import ValidationException  # noqa: PLC0415

    return ValidationException, WorkflowException, InvalidWorkflowError


def install() -> None:
    """Send cwltool's log records to the current run's log and nowhere else, once per process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [ToRunLog(logging.INFO)]
        logger.setLevel(logging.INFO)
        logger.propagate = False
