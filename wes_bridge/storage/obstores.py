"""What the clients of all kinds of object store have in common: times, reading, sending, and errors in words.

The clients are ``obstore``'s. It must not know how one of them is made, who reads or writes, nor why.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from wes_bridge.data.plain_files import CHUNK, chunks_of
from wes_bridge.storage.base import StoreError

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_RETRIES = 4
_MIB = 1024**2
PART = 8 * _MIB
"""Bytes of one part of a small upload."""
_LARGE_PART = 16 * _MIB
"""Bytes of one part, unless there would be more than stores take: two of them, twice, may be in memory."""
_FEW_PARTS = 500
"""Parts, where larger ones keep their number so: some gateways note them all in one small place."""
_MOST_PARTS = 9_000
"""Parts in any case: stores take 10,000."""
_MOST_SENT = 32 * _MIB
"""Bytes of parts of one upload that are under way at once."""
_LARGE_AT_ONCE = 2
"""Uploads of several parts."""
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_STATUS = re.compile(r"status(?: code)?:? (\d{3}\b[^:\n]{0,40})")
LISTED = 1000
"""Objects of which a store tells, and that it removes, at once."""


class NoObjectError(StoreError):
    """There is no such object."""


@dataclass(frozen=True)
class Times:
    """How long a store may take.

    Attributes:
        timeout: seconds without any progress.
        deadline: seconds for one object.
    """

    timeout: float = 30.0
    deadline: float = 86400.0


def client_options(times: Times, *, encrypted: bool, ca_file: Path | None) -> ClientConfig:
    """How a client asks.

    Args:
        times: how long it may take.
        encrypted: whether the store is asked by https only.
        ca_file: authorities that are believed beside the public ones.

    Raises:
        OSError: that file cannot be read.
    """
    options: ClientConfig = {
        "allow_http": not encrypted,
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=min(times.timeout, 30.0)),
        "read_timeout": timedelta(seconds=times.timeout),
        "timeout": timedelta(seconds=times.deadline),
        "user_agent": "wes-bridge",
    }
    if ca_file is not None:
        options["root_certificate"] = ca_file.read_bytes()
    return options


def retries(times: Times) -> RetryConfig:
    """How often a store that does not answer, or answers that it cannot now, is asked again."""
    return {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=4 * times.timeout),
        "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 3},
    }


def check_key(key: str) -> None:
    """Refuse names of objects that could not be told from others, or not be files.

    Raises:
        ValueError: says what is wrong.
    """
    parts = key.split("/") if key else []
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the object name {key[:200]!r} has '.', '..' or nothing between slashes")
    if any(letter < " " or letter == "\x7f" for letter in key):
        raise ValueError(f"the object name {key[:200]!r} has control characters")


def pieces(found: GetResult, size: int = CHUNK) -> Iterator[bytes]:
    """The content of an object as it comes.

    Args:
        found: the answer.
        size: bytes that come at once, about.

    Raises:
        OSError: it breaks off.
    """
    with told():
        stream = iter(found.stream(size))
    while True:
        with told():
            piece = next(stream, None)
        if piece is None:
            return
        yield bytes(piece)


def listed(store: ObjectStore, prefix: str) -> Iterator[ObjectMeta]:
    """All objects below a prefix, which ends between slashes; empty: all there are.

    Raises:
        OSError: the store does not say.
    """
    with told():
        pages = iter(obstore.list(store, prefix or None, chunk_size=LISTED))
    while True:
        with told():
            page = next(pages, None)
        if page is None:
            return
        yield from page


def part_size(size: int) -> tuple[int, int]:
    """How an upload of ``size`` bytes is cut: bytes of a part, whole MiB, and parts at once."""
    part = max(PART, min(_LARGE_PART, -(-size // _FEW_PARTS)), -(-size // _MOST_PARTS))
    part = -(-part // _MIB) * _MIB
    return part, max(1 if part > _MOST_SENT else 2, min(8, _MOST_SENT // part))


class Uploads:
    """Sends open files; what is under way of all of them together is bounded."""

    def __init__(self) -> None:
        self._large = BoundedSemaphore(_LARGE_AT_ONCE)

    def put(
        self, store: ObjectStore, key: str, file: int, look: Callable[[bytes], None] | None = None
    ) -> None:
        """Send a file; it is there as a whole, or not at all.

        Args:
            store: where to.
            key: what it is called there.
            file: descriptor; read from its beginning, and not closed.
            look: sees each piece as it passes.

        Raises:
            OSError: it was not taken.
        """
        size = os.fstat(file).st_size
        part, at_once = part_size(size)
        pieces = _seen(chunks_of(file), look)
        if size < part:
            content = b"".join(itertools.islice(pieces, part // CHUNK + 1))
            with told():
                obstore.put(store, key, content, use_multipart=False)
            return
        with self._large, told():
            obstore.put(store, key, pieces, chunk_size=part, max_concurrency=at_once)


def _seen(pieces: Iterator[bytes], look: Callable[[bytes], None] | None) -> Iterator[bytes]:
    for piece in pieces:
        if look is not None:
            look(piece)
        yield piece


@contextlib.contextmanager
def told() -> Iterator[None]:
    """The client's errors as ours.

    Raises:
        OSError: instead of them.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise _missing(str(error)) from error
    except (BaseError, ValueError) as error:
        raise StoreError(words(error)) from error


def _missing(text: str) -> StoreError:
    """What a store says with status 404, which is not always that there is no object."""
    code = _CODE.search(text)
    if code is None or code[1] == "NoSuchKey":
        return NoObjectError("the store has no such object")
    if code[1] == "NoSuchBucket":
        return StoreError("the store has no such bucket")
    return StoreError(f"the store answers {code[1]}")


def words(error: Exception) -> str:
    """What a client's error says to a person: one line, no dump of its insides, no signed URLs."""
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return f"the store refuses access ({code[1] if code else 'no permission'})"
    if isinstance(error, InvalidPathError):
        return "the store's client takes no object of such a name"
    if isinstance(error, PreconditionError):
        return "the object was changed meanwhile"
    if code:
        return f"the store answers {code[1]}"
    if status:
        return f"the store answers HTTP {status[1].strip()}"
    return _short(text)


def _short(text: str) -> str:
    line = re.split(r"\n\s*\n|Debug source", text, maxsplit=1)[0].replace("\n", " ")
    line = re.sub(r"\?[^\s)]*", "", line).strip()
    lowered = text.lower()
    if "timed out" in lowered or "timedout" in lowered:
        return f"the store is too slow or silent: {line[:200]}"
    return f"the store cannot be asked: {line[:300]}"
