"""What a broker wants to see before it answers: a bearer token or a name and password.

Secrets come from the environment or a file, never from the configuration itself; a file is read again
now and then, since tokens are renewed under us.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path

from wes_bridge.config import CredentialsConfig

REREAD = 10.0
"""Seconds after which a file is looked at again."""


class CredentialsError(Exception):
    """A secret is not where the configuration says; the text names the place."""


class Credentials:
    """Makes the ``Authorization`` header.

    Args:
        config: where the secret is.
        clock: seconds, monotonic.
    """

    def __init__(self, config: CredentialsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._header = ""
        self._read_at = float("-inf")

    def header(self) -> str:
        """The header's value.

        Raises:
            CredentialsError: there is no secret, or it cannot be one.
        """
        now = self._clock()
        if now - self._read_at > REREAD:
            self._header = self._made()
            self._read_at = now
        return self._header

    def is_renewed(self) -> bool:
        """Whether there is another secret now than the one that was sent last: then it is worth a try.

        Raises:
            CredentialsError: there is none any more.
        """
        sent, self._header = self._header, self._made()
        self._read_at = self._clock()
        return self._header != sent

    def _made(self) -> str:
        secret = self._secret()
        if self._config.username is not None:
            pair = f"{self._config.username}:{secret}".encode()
            return "Basic " + base64.b64encode(pair).decode()
        return f"Bearer {secret}"

    def _secret(self) -> str:
        if self._config.env is not None:
            secret, place = os.environ.get(self._config.env, ""), f"the variable {self._config.env}"
        else:
            path = self._config.file or Path()
            place = f"the file {path}"
            try:
                secret = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise CredentialsError(f"{place} cannot be read: {error}") from error
        secret = secret.strip()
        if not secret or not secret.isprintable():
            raise CredentialsError(f"{place} holds no secret of one printable line")
        return secret
