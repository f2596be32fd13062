"""The credentials that commands send: what was given, else the token of a service on this machine.

It must stay light, without click and pydantic: quick commands begin with it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOKEN_FILE = "WES_BRIDGE_TOKEN_FILE"  # noqa: S105
_HERE = ("localhost", "127.0.0.1", "::1")


class CredentialsError(Exception):
    """What was given as credentials is of no use; the text says why."""


def credentials(url: str | None = None, token_file: str | None = None) -> dict[str, Any]:
    """For the client: a token of a file or of WES_BRIDGE_TOKEN, or WES_BRIDGE_AUTH (``user:password``).

    Args:
        url: of the service.
        token_file: the file that was named on the command line; else the environment may name one.

    Raises:
        CredentialsError: what was given is of no use.
    """
    if file := token_file or os.environ.get(TOKEN_FILE):
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise CredentialsError(f"the token file {file} is no text; it must be one line") from None
        except (OSError, ValueError, RuntimeError) as error:
            raise CredentialsError(f"the token file {file} cannot be read: {error}") from None
        return {"token": _one_token(text, f"the token file {file}")}
    if token := os.environ.get("WES_BRIDGE_TOKEN"):
        return {"token": _one_token(token, "WES_BRIDGE_TOKEN")}
    user, colon, password = os.environ.get("WES_BRIDGE_AUTH", "").partition(":")
    if colon:
        return {"auth": (user, password)}
    found = _local_token(url) if url else None
    return {"token": found} if found else {}


def _one_token(text: str, where: str) -> str:
    """The token in a text, as it can be sent; nothing of it is ever in a message.

    Raises:
        CredentialsError: it is none.
    """
    token = text.strip()
    if not token:
        raise CredentialsError(f"{where} is empty; it must be one line, the token")
    if len(token.splitlines()) > 1:
        raise CredentialsError(f"{where} has more than one line; it must be one line, the token")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise CredentialsError(f"{where} has characters that no token has; it must be one line, the token")
    return token


def _local_token(url: str) -> str | None:
    """What opens a service of another user on this machine to who may read its state folder: root, mostly.

    The folder says at which URL its service answers, and is locked as long as it does: nobody else can be
    there.
    """
    if urlsplit(url).hostname not in _HERE:
        return None
    from wes_bridge.auth.tokens import TOKEN  # noqa: PLC0415 - few come here

    folder = Path(os.environ.get("WES_BRIDGE_STATE_DIR", "wes-bridge-state"))
    try:
        token = folder / TOKEN
        if token.stat().st_uid == os.getuid():
            return None  # the service knows its own user
        with (folder / "serve.lock").open(encoding="utf-8") as lock:
            place = lock.read().split()[1:2]
            if place != [url.rstrip("/")] or not _is_locked(lock.fileno()):
                return None
        return token.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
