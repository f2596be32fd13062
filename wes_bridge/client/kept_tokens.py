"""Tokens of ``wes-bridge login``, by service: in the system's keyring, or a file of the user's own (0600).

An index without secrets says where somebody is signed in, so programs of people who never are look at no
keyring. It must not know how tokens are got.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SERVICE = "wes-bridge"
_FOLDER = "WES_BRIDGE_LOGINS"
"""Environment variable: the folder of the index and of the file. ``WES_BRIDGE_KEYRING=off``: no keyring."""


@dataclass(frozen=True)
class Login:
    """Somebody is signed in at a service.

    Attributes:
        issuer, client_id, token_endpoint: who renews the tokens, and as whom it is asked.
        access, refresh: the tokens; without ``refresh`` nothing renews them.
        until: seconds since the epoch at which ``access`` ends.
    """

    issuer: str
    client_id: str
    token_endpoint: str
    access: str
    refresh: str
    until: float


def origin_of(url: str) -> str:
    """What logins are kept by: tokens go to one service only, and to no other port of its host."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


class KeptTokens:
    """Where logins are kept.

    Args:
        folder: of the index; default: the user's configuration folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        given = os.environ.get(_FOLDER)
        self._folder = folder or (Path(given) if given else _config_folder())
        self._index = self._folder / "logins.json"

    def services(self) -> list[str]:
        """Where somebody is signed in."""
        return sorted(self._read(self._index))

    def get(self, url: str) -> Login | None:
        """The login at a service."""
        origin = origin_of(url)
        place = self._read(self._index).get(origin)
        if place is None:
            return None
        text = _keyring().get_password(_SERVICE, origin) if place == "keyring" else self._own().get(origin)
        return Login(**json.loads(text)) if text else None

    def put(self, url: str, login: Login) -> str:
        """Keep a login; returns where: ``keyring`` or the file."""
        origin, text = origin_of(url), json.dumps(asdict(login))
        place = "file"
        keyring = _keyring()
        if keyring is not None:
            with contextlib.suppress(Exception):  # one that is locked, or has no room
                keyring.set_password(_SERVICE, origin, text)
                place = "keyring"
        with self._locked():
            if place == "file":
                self._write(self._file, self._own() | {origin: text})
            self._write(self._index, self._read(self._index) | {origin: place})
        return "the system's keyring" if place == "keyring" else str(self._file)

    def drop(self, url: str) -> bool:
        """Forget a login; false where there is none."""
        origin = origin_of(url)
        with self._locked():
            index = self._read(self._index)
            place = index.pop(origin, None)
            if place == "keyring":
                with contextlib.suppress(Exception):
                    _keyring().delete_password(_SERVICE, origin)
            own = self._own()
            if own.pop(origin, None) is not None:
                self._write(self._file, own)
            self._write(self._index, index)
        return place is not None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Renew tokens while no other program of ours does: a refresh token is good once."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._folder / "renewing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    @property
    def _file(self) -> Path:
        return self._folder / "tokens.json"

    def _own(self) -> dict[str, str]:
        return self._read(self._file)

    def _read(self, path: Path) -> dict[str, str]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, path: Path, content: dict[str, str]) -> None:
        new = path.with_name(f"{path.name}.{os.getpid()}")
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, json.dumps(content).encode())
        finally:
            os.close(file)
        new.replace(path)


def _config_folder() -> Path:
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_config_path(_SERVICE)


def _keyring() -> Any:
    """The system's keyring; None where there is none that keeps secrets."""
    if os.environ.get("WES_BRIDGE_KEYRING", "").lower() == "off":
        return None
    try:
        import keyring  # noqa: PLC0415 - it looks for backends, which takes a while

        backend = keyring.get_keyring()
    except Exception:
        return None
    return backend if backend.priority >= 1 else None
