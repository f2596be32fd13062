"""What cwltool and its relatives say, given to whoever listens for one run.

They log to process-wide loggers. A context variable says which log a thread works for, and one handler gives
each record to that log. The API server writes logs, too, so importing this module must not import cwltool.
"""

from __future__ import annotations

import contextvars
import logging
import re
from pathlib import Path

from wes_bridge.cwl.errors import InvalidWorkflowError, unexpected
from wes_bridge.data.readable import Readable
from wes_bridge.redaction import redacted

_current: contextvars.ContextVar[Overheard | None] = contextvars.ContextVar("run_log", default=None)
_OWN_FIELDS = tuple(f"Warning: invalid field {name!r}" for name in ("nameroot", "nameext", "dirname"))
"""What cwltool says of fields that it has given to a File itself: no user can do anything about it."""
_SAME_NAME = re.compile(r"object id '?\S+ previously defined")
"""What schema-salad says of an input that has the name of an output or of a step, which CWL allows. For two
inputs of one name :mod:`wes_bridge.cwl.loading.document_checks` gives a warning of its own."""
_ANNOUNCING = ("Exception on step ", "Unexpected exception")
"""cwltool's words before it tells what went wrong, which it then does."""
_SERIAL = re.compile(r"^(\[(?:step|workflow|job) [^\]#]*)#\d+\]")
"""A number that cwltool's name of a step gets here, to be like no other: it means nothing to a user."""
_LOGGERS = ("cwltool", "salad", "cwl_utils", "schema_salad", "rdflib.term")


class Overheard:
    """A log that keeps errors and warnings and writes nothing.

    Args:
        base: folder whose path is left out of messages: users know their files by their own names.

    Attributes:
        readable: gives a message without the service's own paths.
        errors: the error lines so far.
        warnings: the warnings so far, each once.
    """

    def __init__(self, base: Path) -> None:
        self.readable = Readable(base)
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._told: set[str] = set()

    def write(self, level: int, text: str) -> None:
        """Take one message; errors and warnings are remembered, and a warning is not said twice."""
        text = redacted(_SERIAL.sub(r"\1]", self.readable(text)))
        if level >= logging.ERROR:
            self.errors.append(text)
        elif level >= logging.WARNING and not (text.startswith(_OWN_FIELDS) or _SAME_NAME.search(text)):
            if text in self._told:  # of a schema that cannot be had, by each document that names it
                return
            self._told.add(text)
            self.warnings.append(text)
        self._append(level, text)

    def _append(self, level: int, text: str) -> None:
        """Write the message down; there is nothing to write it to here."""

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


class ToCurrentLog(logging.Handler):
    """Gives records to the log that the current context works for."""

    def emit(self, record: logging.LogRecord) -> None:
        """Give one."""
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
    """Errors whose words are for users."""
    from cwltool.errors import WorkflowException  # noqa: PLC0415
    from schema_salad.exceptions import ValidationException  # noqa: PLC0415

    return ValidationException, WorkflowException, InvalidWorkflowError


def install() -> None:
    """Send cwltool's log records to the current log and nowhere else, once per process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [ToCurrentLog(logging.INFO)]
        logger.setLevel(logging.INFO)
        logger.propagate = False
