"""The guard of a server, made from its configuration and what is in its state folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from wes_bridge.auth.authenticator import Authenticator
from wes_bridge.auth.guard import HEALTH, Guard, Limits
from wes_bridge.auth.local import SameUser, Secrets
from wes_bridge.auth.methods import configured
from wes_bridge.auth.origins import Names
from wes_bridge.auth.page import INSTRUCTIONS, instructions
from wes_bridge.auth.principal import LOCAL, Principal
from wes_bridge.auth.private import private_token
from wes_bridge.auth.rules import Rules
from wes_bridge.auth.signed_urls import SignedUrls
from wes_bridge.auth.tokens import TOKEN, kept_secret, read_secret
from wes_bridge.model.access import AuthenticationConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from wes_bridge.config import ServerConfig

_ASKED = ["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID", "Prefer", "Range"]
_TOLD = ["Content-Disposition", "Content-Range", "ETag", "Location", "Preference-Applied", "Retry-After"]
"""Headers that pages of other origins may send and see, where the configuration lets them in."""
_PRIVATE = "this service is private: only the command that started it may use it"


@dataclass(frozen=True)
class Served:
    """What is behind the door.

    Attributes:
        app: the server.
        state: its folder.
        name: what people call it.
        service_info: the path of its description for everybody, where it has one.
        routes: templates of its paths, for a decision point.
        signed: looks at signed URLs, where it has some.
    """

    app: ASGIApp
    state: Path
    name: str
    service_info: str | None = None
    routes: Iterable[str] = ()
    signed: SignedUrls | None = None


def guarded(config: ServerConfig, served: Served) -> ASGIApp:
    """A server behind its guard.

    Args:
        config: of the server.
        served: the server.

    Raises:
        OSError: a file with a secret cannot be read, or the state folder not be written to.
        PluginError: a way to be known cannot be used.
    """
    access = config.authentication
    names = Names(_names(config), access.cors_origins, str(config.public_url) if config.public_url else None)
    if private := private_token():
        secrets = Secrets({private: LOCAL})
        return Guard(
            served.app, names, [secrets], Limits(hint=_PRIVATE, public=frozenset(), signed=served.signed)
        )
    door = Guard(served.app, names, _authenticators(access, config, served.state), _limits(config, served))
    if not access.cors_origins:
        return door
    return CORSMiddleware(
        door,
        allow_origins=[origin.rstrip("/") for origin in access.cors_origins],
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=_ASKED,
        expose_headers=_TOLD,
    )


def needs_no_credentials(config: ServerConfig) -> bool:
    """Whether programs of the server's own user, on this machine, are let in as such."""
    access = config.authentication
    if access.same_user is not None:
        return access.same_user
    return not access.has_users and not config.behind_proxy


def _authenticators(access: AuthenticationConfig, config: ServerConfig, state: Path) -> list[Authenticator]:
    known = {kept_secret(state / TOKEN): LOCAL, **_services(access)}
    found: list[Authenticator] = [Secrets(known), *configured(access, state)]
    if needs_no_credentials(config):
        found.append(SameUser())
    return found


def _limits(config: ServerConfig, served: Served) -> Limits:
    access = config.authentication
    public = {HEALTH} if access.public is None or "health" in access.public else set()
    is_described = "service-info" in access.public if access.public is not None else access.has_users
    if served.service_info and is_described:
        public.add(served.service_info)
    permissions = None
    if access.permissions is not None:
        from wes_bridge.auth.permissions import Permissions  # noqa: PLC0415

        permissions = Permissions(access.permissions, served.routes)
    return Limits(
        hint=_hint(config),
        public=frozenset(public),
        pages={INSTRUCTIONS: instructions(served.name, access)} if access.has_users else {},
        rules=Rules(access.admins, access.groups),
        permissions=permissions,
        proxies=tuple(ip_network(text, strict=False) for text in config.trusted_proxies)
        if config.behind_proxy
        else None,
        signed=served.signed,
    )


def _hint(config: ServerConfig) -> str:
    if config.authentication.has_users:
        return f"this server wants to know who calls; {INSTRUCTIONS} on it says how to get in"
    return (
        "this server answers programs of the user who started it, on the same machine; others send the token"
        f" in the file {TOKEN!r} of its state folder as a bearer token, or, in a browser, as the password of"
        " any user"
    )


def _names(config: ServerConfig) -> list[str]:
    public = urlsplit(str(config.public_url)).hostname if config.public_url else None
    return [config.host, *([public] if public else []), *config.authentication.hosts]


def _services(config: AuthenticationConfig) -> Mapping[str, Principal]:
    return {
        read_secret(service.file): Principal(
            name=f"service:{service.name}", display=service.name, roles=frozenset({"service"})
        )
        for service in config.services
    }
