"""Object stores (S3, and compatible with it): clients made of the configuration, URLs, and errors in words.

The client is ``obstore``; what it finds in the environment by itself is overruled by the configuration, so
that a variable left there by somebody leads nowhere else. It must not know who reads or writes, nor why.
"""

from __future__ import annotations

import configparser
import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from wes_bridge.data.plain_files import CHUNK, chunks_of
from wes_bridge.model.stores import S3CredentialsConfig, S3StoreConfig
from wes_bridge.storage.base import StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

KEPT = timedelta(minutes=5)
"""How long keys are used until they are looked for again."""
RETRIES = 4
PART = 8 * 1024**2
"""Bytes of one part of an upload, unless there would be too many of them."""
_MOST_PARTS = 9_000
"""Stores take 10,000."""
_MOST_SENT = 32 * 1024**2
"""Bytes of parts of one upload that are under way at once."""
_LARGE_AT_ONCE = 2
"""Uploads of several parts."""
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_STATUS = re.compile(r"status(?: code)?:? (\d{3}\b[^:\n]{0,40})")


@dataclass(frozen=True)
class Times:
    """How long a store may take.

    Attributes:
        timeout: seconds without any progress.
        deadline: seconds for one object.
    """

    timeout: float = 30.0
    deadline: float = 86400.0


@dataclass(frozen=True)
class ObjectUrl:
    """An ``s3:`` URL in parts.

    Attributes:
        bucket: its bucket.
        key: of the object, as the store names it; without a slash at its end.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{quote(self.key)}"

    @property
    def path(self) -> str:
        """Bucket and key."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket


def parse_object_url(text: str) -> ObjectUrl:
    """Read an ``s3:`` URL; as in every URL, ``%`` and two hex digits are a byte of the object's name.

    Raises:
        ValueError: it is none, or names no object that can be asked for.
    """
    scheme, sep, rest = text.partition("://")
    bucket, _, written = rest.partition("/")
    if scheme.lower() != "s3" or not sep or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
        raise ValueError("it is no URL of the form s3://BUCKET/KEY")
    try:
        key = unquote(written, errors="strict").removesuffix("/")
    except UnicodeDecodeError:
        raise ValueError("the name of the object is no UTF-8, which stores want") from None
    check_key(key)
    return ObjectUrl(bucket, key)


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


class Keys:
    """The keys of a store, as its client asks for them.

    Args:
        config: where they are.
    """

    def __init__(self, config: S3CredentialsConfig) -> None:
        self._config = config

    def __call__(self) -> S3Credential:
        """Look them up."""
        key, secret, token = self.look_up()
        return {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": token,
            "expires_at": datetime.now(UTC) + KEPT,
        }

    def look_up(self) -> tuple[str, str, str | None]:
        """The two keys, and a session's token where there is one.

        Raises:
            OSError: they are not there; the text says where they should be.
        """
        found = self._of_file(self._config.file) if self._config.file else self._of_environment()
        key, secret, token = (text.strip() if text else None for text in found)
        if not key or not secret:
            raise StoreError(f"{self._place} holds no pair of keys")
        return key, secret, token or None

    @property
    def _place(self) -> str:
        if self._config.file is not None:
            return f"section [{self._config.profile}] of {self._config.file}"
        name = self._config.env
        return f"the environment ({name}_ACCESS_KEY_ID and {name}_SECRET_ACCESS_KEY)"

    def _of_environment(self) -> tuple[str | None, ...]:
        names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
        return tuple(os.environ.get(f"{self._config.env}_{name}") for name in names)

    def _of_file(self, path: Path) -> tuple[str | None, ...]:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (configparser.Error, UnicodeDecodeError):
            raise StoreError(f"{path} is no file of keys as the AWS tools write it") from None
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        profile = self._config.profile
        return tuple(parser.get(profile, name, fallback=None) for name in names)


def bucket_of(config: S3StoreConfig, bucket: str, times: Times) -> S3Store:
    """A client of one bucket.

    Args:
        config: of the store.
        bucket: its name.
        times: how long it may take.

    Raises:
        OSError: the file of authorities cannot be read.
        ValueError: it cannot be made of these settings.
    """
    endpoint = None if config.endpoint is None else str(config.endpoint).rstrip("/")
    settings: S3Config = {
        "region": config.region,
        "virtual_hosted_style_request": not config.path_style,
        "skip_signature": config.credentials is None,
        "endpoint": endpoint or f"https://s3.{config.region}.amazonaws.com",
        "unsigned_payload": False,
    }
    if endpoint is None and not config.path_style:
        settings["endpoint"] = f"https://{bucket}.s3.{config.region}.amazonaws.com"
    elif endpoint is not None and not config.path_style:
        scheme, _, host = endpoint.partition("://")
        settings["endpoint"] = f"{scheme}://{bucket}.{host}"
    client: ClientConfig = {
        "allow_http": endpoint is not None and endpoint.startswith("http:"),
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=min(times.timeout, 30.0)),
        "read_timeout": timedelta(seconds=times.timeout),
        "timeout": timedelta(seconds=times.deadline),
        "user_agent": "wes-bridge",
    }
    if config.ca_file is not None:
        client["root_certificate"] = config.ca_file.read_bytes()
    retry: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=4 * times.timeout),
        "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 3},
    }
    keys = Keys(config.credentials) if config.credentials is not None else None
    try:
        return S3Store(
            bucket, config=settings, client_options=client, retry_config=retry, credential_provider=keys
        )
    except BaseError as error:
        raise ValueError(words(error)) from error


def part_size(size: int) -> tuple[int, int]:
    """How an upload of ``size`` bytes is cut: bytes of a part, and parts at once."""
    part = max(PART, -(-size // _MOST_PARTS))
    return part, max(2, min(8, _MOST_SENT // part))


class Uploads:
    """Sends open files; what is under way of all of them together is bounded."""

    def __init__(self) -> None:
        self._large = BoundedSemaphore(_LARGE_AT_ONCE)

    def put(self, store: S3Store, key: str, file: int, look: Callable[[bytes], None] | None = None) -> None:
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
        code = _CODE.search(str(error))
        is_bucket = code is not None and code[1] == "NoSuchBucket"
        raise StoreError(
            "the store has no such bucket" if is_bucket else "the store has no such object"
        ) from error
    except (BaseError, ValueError) as error:
        raise StoreError(words(error)) from error


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


def stat(store: S3Store, key: str) -> tuple[int, str]:
    """Size and version of an object.

    Raises:
        OSError: there is none, or it cannot be asked for.
    """
    with told():
        found = obstore.head(store, key)
    return found["size"], found["e_tag"] or ""
