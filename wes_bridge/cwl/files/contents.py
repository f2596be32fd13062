"""``loadContents`` of files of more than 64 KiB: an error since CWL v1.2, the first 64 KiB before.

cwltool makes an error of it for all versions. What is read says nothing of the version, so it is noted for
the thread before a tool's inputs or outputs are looked at.
"""

from __future__ import annotations

import codecs
import threading
from typing import IO

from cwltool.errors import WorkflowException
from cwltool.utils import CONTENT_LIMIT

_FIRST_PART = ("v1.0", "v1.1")


class _Noted(threading.local):
    version: str | None = None


_noted = _Noted()


def note_version(version: str | None) -> None:
    """Say of which CWL version the document is that files are read for next, in this thread."""
    _noted.version = version


def read_bytes(file: IO[bytes]) -> bytes:
    """A file's contents as an expression may see them, ending with a whole character.

    Raises:
        WorkflowException: it is larger than CWL v1.2 allows.
    """
    contents = file.read(CONTENT_LIMIT + 1)
    if len(contents) <= CONTENT_LIMIT:
        return contents
    if _noted.version not in _FIRST_PART:
        raise WorkflowException(
            f"the file is larger than 64 KiB ({CONTENT_LIMIT} bytes), the most that loadContents reads"
        )
    whole = codecs.getincrementaldecoder("utf-8")().decode(contents[:CONTENT_LIMIT])
    return whole.encode()


def read_text(file: IO[bytes]) -> str:
    """As text.

    Raises:
        WorkflowException: see :func:`read_bytes`.
    """
    return read_bytes(file).decode()
