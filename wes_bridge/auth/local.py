"""The credentials of a laptop: to be the same Unix user, or to be able to read a file of theirs."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence

from wes_bridge.auth.authenticator import Call
from wes_bridge.auth.principal import LOCAL, Principal

REALM = 'realm="wes-bridge"'


class Secrets:
    """Knows secrets of our own making, sent as a bearer token or, by browsers, as a password.

    Args:
        known: whose each secret is.
    """

    def __init__(self, known: Mapping[str, Principal]) -> None:
        self._known = {_digest(secret): principal for secret, principal in known.items()}

    async def authenticate(self, call: Call) -> Principal | None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        if not call.secret:
            return None
        secret = call.secret if call.scheme == "bearer" else _password(call)
        return self._known.get(_digest(secret))

    def challenges(self) -> Sequence[str]:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        return (f"Bearer {REALM}",)

    async def close(self) -> None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""


class SameUser:
    """Takes who uses this machine as our own user for the owner of the server: the kernel tells whose a
    connection is.

    A request that a proxy has passed on is the proxy's, and not its client's, so it does not count.
    """

    async def authenticate(self, call: Call) -> Principal | None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        if call.is_forwarded or call.connection is None:
            return None
        return LOCAL if await call.connection.of_own_user() else None

    def challenges(self) -> Sequence[str]:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        return (f'Basic {REALM}, charset="UTF-8"',)

    async def close(self) -> None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""


def _digest(secret: str) -> bytes:
    """Looking up a hash tells nothing by the time that it takes."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _password(call: Call) -> str:
    if call.scheme != "basic":
        return ""
    try:
        _, _, password = base64.b64decode(call.secret, validate=True).partition(b":")
        return password.decode()
    except (binascii.Error, ValueError):
        return ""
