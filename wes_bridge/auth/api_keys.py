"""API keys for machines: random, kept as hashes in a file of the state folder, with a name, roles and an end.

A key is ``wbk_ID_SECRET``; whoever reads the file learns no key. A changed file counts within a second.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wes_bridge.auth.authenticator import Call, Method, RefusedError, UnavailableError
from wes_bridge.auth.principal import Principal
from wes_bridge.model.access import NoSettings, Role
from wes_bridge.private_files import make_private

FILE = "api-keys.json"
"""Its name in the state folder."""
_PREFIX = "wbk_"
_LOOK = 1.0


class ApiKey(BaseModel):
    """What is stored of a key.

    Attributes:
        id: the key's public part.
        name: whose it is; the principal is called ``key:NAME``.
        hash: of the secret part, SHA-256: the secret is random, so nobody can guess it.
        roles, groups: of the principal.
        created, expires: when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    hash: str
    roles: list[Role]
    groups: list[str] = []
    created: AwareDatetime
    expires: AwareDatetime | None = None


_LIST = TypeAdapter(list[ApiKey])


class KeyFile:
    """The file of keys.

    Args:
        state: the server's folder.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / FILE

    def read(self) -> list[ApiKey]:
        """All keys.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not as it should be.
        """
        try:
            return _LIST.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except ValidationError as error:
            raise ValueError(f"{self.path} is no file of API keys") from error

    def create(
        self, name: str, roles: Sequence[Role], groups: Sequence[str], expires: datetime | None
    ) -> tuple[ApiKey, str]:
        """Make a key; its text is not kept, so it is shown now or never.

        Raises:
            OSError: the file cannot be written.
            ValueError: the name is none.
        """
        secret = secrets.token_urlsafe(32)
        key = ApiKey(
            id=secrets.token_hex(6),
            name=name,
            hash=_hash(secret),
            roles=list(roles),
            groups=list(groups),
            created=datetime.now(UTC),
            expires=expires,
        )
        with self._alone():
            self._write([*self.read(), key])
        return key, f"{_PREFIX}{key.id}_{secret}"

    def revoke(self, which: str) -> list[ApiKey]:
        """Take keys away, by id or name; returns them.

        Raises:
            OSError: the file cannot be written.
        """
        with self._alone():
            keys = self.read()
            gone = [key for key in keys if which in (key.id, key.name)]
            if gone:
                self._write([key for key in keys if key not in gone])
        return gone

    @contextmanager
    def _alone(self) -> Iterator[None]:
        make_private(self.path.parent)
        lock = os.open(self.path.with_name(f".{FILE}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, keys: list[ApiKey]) -> None:
        new = self.path.with_name(f".{FILE}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(_LIST.dump_python(keys, mode="json"), file, indent=1)
        new.replace(self.path)


class ApiKeys:
    """Knows API keys.

    Args:
        file: of them.
        clock: seconds, monotonic.
    """

    def __init__(self, file: KeyFile, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._keys: dict[str, tuple[ApiKey, Principal]] = {}
        self._version: tuple[int, int, int] | None = None
        self._looked = float("-inf")

    async def authenticate(self, call: Call) -> Principal | None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        if call.scheme != "bearer" or not call.secret.startswith(_PREFIX):
            return None
        self._look()
        name, _, secret = call.secret.removeprefix(_PREFIX).partition("_")
        found = self._keys.get(name)
        if found is None or not hmac.compare_digest(found[0].hash, _hash(secret)):
            raise RefusedError("this API key is not known, or was revoked")
        if found[0].expires is not None and found[0].expires <= datetime.now(UTC):
            raise RefusedError("this API key has expired")
        return found[1]

    def challenges(self) -> Sequence[str]:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        return ('Bearer realm="wes-bridge"',)

    async def close(self) -> None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK:
            return
        try:
            status = os.stat(self._file.path)  # noqa: PTH116
            version = status.st_mtime_ns, status.st_ino, status.st_size
            if version != self._version:
                keys = self._file.read()
                self._keys = {key.id: (key, _principal(key)) for key in keys}
                self._version = version
        except FileNotFoundError:
            self._keys, self._version = {}, None
        except (OSError, ValueError) as error:
            raise UnavailableError("the file of API keys cannot be read") from error
        self._looked = now


def _principal(key: ApiKey) -> Principal:
    return Principal(
        name=f"key:{key.name}",
        display=key.name,
        groups=frozenset(key.groups),
        roles=frozenset(key.roles),
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


METHOD = Method(NoSettings, lambda _settings, state: ApiKeys(KeyFile(state)))
