"""Tokens at rest: encrypted with keys of the site, and bound to the run that they are for.

Keys are Fernet's (AES-128-CBC with HMAC-SHA256), one a line; the first encrypts, all of them decrypt, so a
new key is put before the others and the old one taken away once the runs of before have ended.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from wes_bridge.model.delegation import SecretPlace
from wes_bridge.private_files import make_private

KEY_FILE = "delegation.key"
"""In the state folder."""


class SafeError(Exception):
    """Tokens cannot be put away or taken out; the text says why, and never shows them."""


class Held(BaseModel):
    """What a user has handed over for a run.

    Attributes:
        issuer: of the tokens.
        access: token with which others are asked for.
        refresh: renews it; empty: nothing does.
        until: seconds since the epoch at which ``access`` ends; 0: nobody knows.
    """

    model_config = ConfigDict(frozen=True)

    issuer: str = ""
    access: SecretStr = SecretStr("")
    refresh: SecretStr = SecretStr("")
    until: float = 0.0


class _Sealed(BaseModel):
    run_id: str
    issuer: str
    access: str
    refresh: str
    until: float


class Safe:
    """Encrypts and decrypts.

    Args:
        place: of the keys; None: in ``state``.
        state: the service's folder.
    """

    def __init__(self, place: SecretPlace | None, state: Path) -> None:
        self._place = place
        self._file = state / KEY_FILE

    def seal_text(self, run_id: str, text: str) -> str:
        """Put any text away for a run; errors as of :meth:`seal`. Blocks."""
        return self._keys(make=True).encrypt(json.dumps([run_id, text]).encode()).decode()

    def open_text(self, run_id: str, sealed: str) -> str:
        """Take out what :meth:`seal_text` put away; errors as of :meth:`open`. Blocks."""
        try:
            owner, text = json.loads(self._keys(make=False).decrypt(sealed.encode()))
        except (InvalidToken, ValueError) as error:
            raise SafeError("the run's secret inputs were encrypted with a key that is not here") from error
        if owner != run_id:
            raise SafeError("these secret inputs are another run's")
        return str(text)

    def seal(self, run_id: str, held: Held) -> str:
        """Put tokens away for a run. Blocks.

        Raises:
            SafeError: there is no key.
        """
        text = _Sealed(
            run_id=run_id,
            issuer=held.issuer,
            access=held.access.get_secret_value(),
            refresh=held.refresh.get_secret_value(),
            until=held.until,
        ).model_dump_json()
        return self._keys(make=True).encrypt(text.encode()).decode()

    def open(self, run_id: str, sealed: str) -> Held:
        """Take out what was put away for a run. Blocks.

        Raises:
            SafeError: with these keys it cannot be read, or it was put away for another run.
        """
        try:
            found = _Sealed.model_validate_json(self._keys(make=False).decrypt(sealed.encode()))
        except (InvalidToken, ValidationError) as error:
            raise SafeError(
                "the run's tokens were encrypted with a key that is not here: all workers need the same keys"
                " (delegation.key in the configuration)"
            ) from error
        if found.run_id != run_id:
            raise SafeError("the run's tokens were put away for another run")
        return Held(
            issuer=found.issuer,
            access=SecretStr(found.access),
            refresh=SecretStr(found.refresh),
            until=found.until,
        )

    def secrets(self) -> list[bytes]:
        """What other keys are made of, the one in use first. Blocks.

        Raises:
            SafeError: they cannot be read.
        """
        return [line.encode() for line in self._read(make=True).split()]

    def _keys(self, *, make: bool) -> MultiFernet:
        lines = self._read(make=make).split()
        try:
            return MultiFernet([Fernet(line) for line in lines])
        except ValueError as error:
            raise SafeError(f"{self._words} holds no Fernet keys, one a line (docs/delegation.md)") from error

    @property
    def _words(self) -> str:
        if self._place is None:
            return f"the file {self._file}"
        return f"the variable {self._place.env}" if self._place.env else f"the file {self._place.file}"

    def _read(self, *, make: bool) -> str:
        if self._place is not None and self._place.env is not None:
            return os.environ.get(self._place.env, "")
        path = self._file if self._place is None or self._place.file is None else self._place.file
        if self._place is None and make and not path.exists():
            _make(path)
        try:
            return path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise SafeError(f"{self._words} cannot be read: {error}") from error


def _make(path: Path) -> None:
    """A new key, whole or not at all; of several processes the first one's stays."""
    make_private(path.parent)
    own = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, Fernet.generate_key() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    with contextlib.suppress(FileExistsError):
        os.link(own, path)
    own.unlink()


def shared_secrets(place: SecretPlace | None, state: Path) -> Callable[[], Sequence[bytes]] | None:
    """The source of the keys of signed URLs, where the site has configured a key.

    Args:
        place: of the key, as configured; None: each machine has its own.
        state: the service's folder.

    Returns:
        Gives the secrets, and raises OSError where they cannot be read.
    """
    if place is None:
        return None
    safe = Safe(place, state)

    def secrets() -> Sequence[bytes]:
        try:
            return safe.secrets()
        except SafeError as error:
            raise OSError(str(error)) from error

    return secrets
