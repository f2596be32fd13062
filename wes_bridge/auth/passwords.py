"""Names and passwords (HTTP Basic), from a file of hashes: for small sites.

A line is ``NAME:HASH``; a hash is scrypt's, with its own salt. Checking one takes 50 ms and 16 MiB on
purpose, so it is done in a thread, few at a time, and a pair that was right is remembered for a minute.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wes_bridge.auth.authenticator import Call, Method, RefusedError, UnavailableError
from wes_bridge.auth.principal import Principal
from wes_bridge.model.access import BasicConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
RESERVED = frozenset({"local", "nobody"})
_N, _R, _P = 2**14, 8, 1
_MEMORY = 64 * 1024**2
_REMEMBERED = 60.0
_LOOK = 1.0
"""Seconds between looks at the file."""
_MOST_FAILURES, _PERIOD = 10, 60.0
_AT_ONCE, _WAITING = 2, 20
_MANY = 10_000


def hashed(password: str) -> str:
    """A password's hash, with a salt of its own."""
    salt = secrets.token_bytes(16)
    return f"$scrypt$n={_N},r={_R},p={_P}${_text(salt)}${_text(_scrypt(password, salt, (_N, _R, _P)))}"


def is_right(password: str, stored: str) -> bool:
    """Whether a password is the one whose hash is stored."""
    match = re.fullmatch(r"\$scrypt\$n=(\d+),r=(\d+),p=(\d+)\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)", stored)
    if match is None:
        return False
    costs = int(match[1]), int(match[2]), int(match[3])
    try:
        salt, wanted = base64.b64decode(match[4]), base64.b64decode(match[5])
        return hmac.compare_digest(_scrypt(password, salt, costs), wanted)
    except (ValueError, MemoryError):
        return False


def read_users(path: Path) -> dict[str, str]:
    """The hashes of a file, by name.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is not as it should be; the text says which.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, stored = line.strip().partition(":")
        if not colon or NAME.fullmatch(name) is None or not stored.startswith("$scrypt$"):
            raise ValueError(
                f"{path}:{number}: must be NAME:HASH as 'wes-bridge users add' writes it (hashes by scrypt)"
            )
        if name in RESERVED or name in users:
            raise ValueError(f"{path}:{number}: the name {name} is taken")
        users[name] = stored
    return users


class Passwords:
    """Knows the names and passwords of a file; a changed file counts within a second.

    Args:
        path: of the file.
        clock: seconds, monotonic.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._users: dict[str, str] = {}
        self._version: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._secret = os.urandom(32)
        self._known: dict[bytes, tuple[Principal, float]] = {}
        self._failures: dict[tuple[str, str], list[float]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._dummy = hashed(secrets.token_urlsafe())

    async def authenticate(self, call: Call) -> Principal | None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        if call.scheme != "basic":
            return None
        self._look()
        key = hmac.digest(self._secret, call.secret.encode("utf-8", "surrogateescape"), "sha256")
        known = self._known.get(key)
        if known is not None and self._clock() < known[1]:
            return known[0]
        name, password = _pair(call.secret)
        whose = (name, call.connection.remote[0] if call.connection else "")
        self._check_patience(whose)
        if not await self._is_right(name, password):
            self._note_failure(whose)
            raise RefusedError("the name or the password is wrong")
        principal = Principal(name=name, display=name)
        if len(self._known) >= _MANY:
            self._known.clear()
        self._known[key] = principal, self._clock() + _REMEMBERED
        return principal

    def challenges(self) -> Sequence[str]:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        return ('Basic realm="wes-bridge", charset="UTF-8"',)

    async def close(self) -> None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""

    async def _is_right(self, name: str, password: str) -> bool:
        """A name that is not there takes as long as one that is."""
        if self._waiting >= _WAITING:
            raise UnavailableError("too many passwords are being checked; try again in a moment")
        self._waiting += 1
        try:
            async with self._turns:
                stored = self._users.get(name)
                is_it = await asyncio.to_thread(is_right, password, stored or self._dummy)
                return is_it and stored is not None
        finally:
            self._waiting -= 1

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK:
            return
        try:
            status = os.stat(self._path)  # noqa: PTH116
            version = status.st_mtime_ns, status.st_ino, status.st_size
            if version != self._version:
                self._users, self._version = read_users(self._path), version
                self._known.clear()
        except (OSError, ValueError) as error:
            raise UnavailableError(
                "the file of passwords cannot be read; the server's log says more"
            ) from error
        self._looked = now

    def _check_patience(self, whose: tuple[str, str]) -> None:
        since = self._clock() - _PERIOD
        recent = [moment for moment in self._failures.get(whose, ()) if moment > since]
        if len(recent) >= _MOST_FAILURES:
            raise RefusedError("too many wrong passwords; try again in a minute", status=429)

    def _note_failure(self, whose: tuple[str, str]) -> None:
        if len(self._failures) >= _MANY:
            self._failures.clear()
        self._failures[whose] = [*self._failures.get(whose, [])[-_MOST_FAILURES:], self._clock()]


def _pair(secret: str) -> tuple[str, str]:
    try:
        name, colon, password = base64.b64decode(secret, validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise RefusedError("the name and the password are not sent as they should be") from error
    if not colon or len(password) > 1024:
        raise RefusedError("the name and the password are not sent as they should be")
    return name[:100], password


def _scrypt(password: str, salt: bytes, costs: tuple[int, int, int]) -> bytes:
    n, r, p = costs
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _made(config: BasicConfig, _state: Path) -> Passwords:
    read_users(config.file)
    return Passwords(config.file)


METHOD = Method(BasicConfig, _made, lambda config: read_users(config.file))
