"""Object stores (S3, and compatible with it): clients made of the configuration, and URLs.

The client is ``obstore``; what it finds in the environment by itself is overruled by the configuration, so
that a variable left there by somebody leads nowhere else. It must not know who reads or writes, nor why.
"""

from __future__ import annotations

import configparser
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from obstore.exceptions import BaseError
from obstore.store import S3Store

from wes_bridge.model.stores import S3CredentialsConfig, S3StoreConfig
from wes_bridge.storage.base import StoreError
from wes_bridge.storage.obstores import Times, check_key, client_options, retries, words

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential

KEPT = timedelta(minutes=5)
"""How long keys are used until they are looked for again."""


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
    encrypted = endpoint is None or not endpoint.startswith("http:")
    keys = Keys(config.credentials) if config.credentials is not None else None
    try:
        return S3Store(
            bucket,
            config=settings,
            client_options=client_options(times, encrypted=encrypted, ca_file=config.ca_file),
            retry_config=retries(times),
            credential_provider=keys,
        )
    except BaseError as error:
        raise ValueError(words(error)) from error
