"""The guard of a server, made from its configuration and what is in its state folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from wes_bridge.auth.authenticator import Authenticator
from wes_bridge.auth.guard import Guard
from wes_bridge.auth.local import SameUser, Secrets
from wes_bridge.auth.origins import Names
from wes_bridge.auth.principal import LOCAL, Principal
from wes_bridge.auth.private import private_token
from wes_bridge.auth.tokens import TOKEN, kept_secret, read_secret
from wes_bridge.model.access import AuthenticationConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ASKED = ["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "Prefer", "Range"]
_TOLD = ["Content-Disposition", "Content-Range", "ETag", "Location", "Preference-Applied", "Retry-After"]
"""Headers that pages of other origins may send and see, where the configuration lets them in."""
_PRIVATE = "this service is private: only the command that started it may use it"


@dataclass(frozen=True)
class Place:
    """Where a server is.

    Attributes:
        state: its folder.
        host: the address it listens on, as configured.
        public_url: what clients call it, where that is configured.
    """

    state: Path
    host: str
    public_url: str | None = None


def guarded(app: ASGIApp, config: AuthenticationConfig, place: Place) -> ASGIApp:
    """A server behind its guard.

    Args:
        app: the server.
        config: who is let in.
        place: where it is.

    Raises:
        OSError: a file with a secret cannot be read, or the state folder not be written to.
    """
    names = Names(_names(config, place), config.cors_origins, place.public_url)
    door = _door(app, config, place, names)
    if not config.cors_origins:
        return door
    return CORSMiddleware(
        door,
        allow_origins=[origin.rstrip("/") for origin in config.cors_origins],
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=_ASKED,
        expose_headers=_TOLD,
    )


def _door(app: ASGIApp, config: AuthenticationConfig, place: Place, names: Names) -> Guard:
    if private := private_token():
        return Guard(app, names, [Secrets({private: LOCAL})], _PRIVATE)
    token = place.state / TOKEN
    known: dict[str, Principal] = {kept_secret(token): LOCAL}
    known |= _services(config)
    authenticators: list[Authenticator] = [Secrets(known), SameUser()]
    hint = (
        "this server answers programs of the user who started it, on the same machine; others send the token"
        f" in the file {TOKEN!r} of its state folder as a bearer token, or, in a browser, as the password of"
        " any user"
    )
    return Guard(app, names, authenticators, hint)


def _names(config: AuthenticationConfig, place: Place) -> list[str]:
    public = urlsplit(place.public_url).hostname if place.public_url else None
    return [place.host, *([public] if public else []), *config.hosts]


def _services(config: AuthenticationConfig) -> Mapping[str, Principal]:
    return {
        read_secret(service.file): Principal(
            name=service.name, display=service.name, roles=frozenset({"service"})
        )
        for service in config.services
    }
