"""A database that does not answer, told once a process, whoever finds out: a loop, a request, a library.

It must not know any table, nor which database it is: a process has one.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from wes_bridge.lasting import Lasting

_logger = logging.getLogger("wes_bridge.store")
_SQLITE_PASSING = ("locked", "busy", "disk is full", "disk I/O error", "unable to open")
OUTAGE: Final = Lasting(
    _logger,
    "the database does not answer; writes wait for it, and what looks into it tries again",
    "the database answers again",
    settling=2.0,
    traceback_once=False,  # its own line is not to be taken for a library's
)


def is_passing(error: BaseException) -> bool:
    """Whether a database's error is one of the moment: it is down, starting, full, or another has a lock.

    The same work, done again later, can succeed. Takes SQLAlchemy's errors and the drivers' own.
    """
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    if isinstance(error, sqlite3.Error):
        return any(words in str(error) for words in _SQLITE_PASSING)
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("psycopg")}
    return not names.isdisjoint(("OperationalError", "InterfaceError"))


class Trouble(Lasting):
    """What a loop that uses the database may run into: its own faults, and those of the database, which are
    told for the whole process."""

    _is_outage = False

    def seen(self, error: object, level: int = logging.WARNING) -> None:
        """It went wrong."""
        if isinstance(error, BaseException) and is_passing(error):
            self._is_outage = True
            OUTAGE.seen(error)
        else:
            super().seen(error, level)

    def over(self) -> None:
        """It went well."""
        if self._is_outage:
            self._is_outage = False
            OUTAGE.over()
        super().over()


class _Filter(logging.Filter):
    """Takes the errors that libraries log of a database that is gone, each with its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not is_passing(error):
            return True
        OUTAGE.seen(error)
        return False


def tell_once() -> None:
    """Have all handlers of this process leave an outage to :data:`OUTAGE`: after logging was set up."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("uvicorn", "uvicorn.error"))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if not any(isinstance(known, _Filter) for known in handler.filters):
            handler.addFilter(_Filter())
