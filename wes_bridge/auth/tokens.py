"""Secrets in files of a state folder: made once, and readable by the folder's owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from wes_bridge.private_files import make_private

if TYPE_CHECKING:  # commands that must start fast read the names of files here
    from wes_bridge.model.access import SecretConfig

TOKEN = "token"  # noqa: S105
"""Name of the file in a server's state folder whose content lets anybody in, as the owner of the service."""
SERVICE_KEY = "service-key"  # pragma: allowlist secret
"""Name of the file in a service's state folder that its own nodes know it by."""


def kept_secret(path: Path) -> str:
    """The secret in a file; it is made where there is none.

    Raises:
        OSError: it can neither be read nor made.
    """
    make_private(path.parent)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(secrets.token_urlsafe(32) + "\n")
        try:  # of two that start at once, one makes it
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    path.chmod(0o600)
    return read_secret(path)


def read_secret(path: Path) -> str:
    """The secret in a file.

    Raises:
        OSError: it cannot be read, or holds none.
    """
    secret = path.read_text(encoding="utf-8").strip()
    if not secret or not secret.isprintable():
        raise OSError(f"{path} holds no secret of one printable line")
    return secret


def secret_of(config: SecretConfig) -> str:
    """The secret that the configuration names.

    Raises:
        OSError: there is none; the text says where it should be.
    """
    if config.file is not None:
        return read_secret(config.file)
    secret = os.environ.get(config.env or "", "").strip()
    if not secret:
        raise OSError(f"the variable {config.env} holds no secret")
    return secret
