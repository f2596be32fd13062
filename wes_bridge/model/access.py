"""Who is let in to a server of ours: the shape of the section ``authentication`` of each configuration."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

Role = Literal["user", "admin", "service"]
"""``user`` submits and sees their own; ``admin`` also drains nodes and sees everybody's; ``service`` is a WES
service or an aggregator that acts for users and names them."""
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
"""Signatures with a public key. There is no other kind here: who can check one could make one else."""
LOOPBACK_PROXIES = ("127.0.0.0/8", "::1")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, to itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _safe_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL that begins with https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must begin with https://: whoever is on the way could let themselves in")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be a URL without a password, a query and a fragment")
    return text


SafeUrl = Annotated[str, AfterValidator(_safe_url)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoSettings(_Section):
    """Of a way to be known that has none."""


class TlsConfig(_Section):
    """The certificate with which a server speaks TLS; renewed files are noticed."""

    certificate: Path = Field(description="PEM file, with the certificates between it and its authority")
    key: Path = Field(description="PEM file of its private key")
    client_ca: Path | None = Field(
        None,
        description="PEM file of authorities; only clients with a certificate of theirs get a connection",
    )


class SecretConfig(_Section):
    """Where a secret is: in a variable of the environment, or in a file."""

    env: str | None = Field(None, min_length=1, description="name of the variable that holds the secret")
    file: Path | None = Field(None, description="file that holds the secret")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file: the place of the secret")
        return self


class IntrospectionConfig(_Section):
    """Asking an issuer about each token that is no JWT (RFC 7662)."""

    client_id: str = Field(min_length=1, description="as whom the issuer is asked")
    secret: SecretConfig = Field(description="of that client")
    cache: float = Field(30.0, ge=0, le=300, description="seconds an answer is believed")


class OidcConfig(_Section):
    """An issuer of OpenID Connect whose tokens are taken."""

    issuer: SafeUrl = Field(description="exactly as its tokens name it")
    audience: list[str] = Field(min_length=1, description="tokens must be for one of these")
    scopes: list[str] = Field(default_factory=list, description="tokens must have all of these")
    groups: list[str] = Field(default_factory=list, description="users must be in one of these")
    groups_claim: str = Field("groups", min_length=1, description="claim that lists a user's groups")
    name_claim: str = Field("preferred_username", description="claim with the name that people read")
    algorithms: list[Algorithm] = Field(
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
        min_length=1,
        description="of signatures",
    )
    leeway: float = Field(60.0, ge=0, le=600, description="seconds that clocks may differ")
    introspection: IntrospectionConfig | None = Field(None, description="for tokens that are no JWTs")
    instructions: str | None = Field(None, description="for people: how to get a token of this issuer")


class BasicConfig(_Section):
    """Names and passwords, for small sites."""

    file: Path = Field(description="file of names and hashed passwords; see 'wes-bridge users add'")


class PermissionsConfig(_Section):
    """SRCNet's Permissions API, which is asked for each route whether a user may."""

    url: SafeUrl = Field(description="of its API: https://permissions.example.org/api/v1")
    service: str = Field(min_length=1, description="what this server is called there")
    version: str = Field("1", description="of the policy")
    cache: float = Field(60.0, ge=0, le=600, description="seconds an answer is believed")


class ServiceKeyConfig(_Section):
    """A service or an aggregator that may act for its users here, and the secret by which it is known."""

    name: _Name
    file: Path = Field(description="file that holds its secret, which it sends as a bearer token")


class PluginConfig(_Section):
    """An authenticator that another package brings (entry point wes_bridge.authenticators)."""

    name: str = Field(description="of the entry point")
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="as the authenticator wants them"
    )


class AuthenticationConfig(_Section):
    """Who is let in; as it comes, the user who started the server, on this machine."""

    oidc: list[OidcConfig] = Field(default_factory=list, description="issuers of bearer tokens")
    basic: BasicConfig | None = Field(None, description="names and passwords")
    keys: bool = Field(
        False, description="whether API keys (wes-bridge keys) are a way in that is offered to everybody"
    )
    services: list[ServiceKeyConfig] = Field(
        default_factory=list, description="services and aggregators that may act for their users"
    )
    plugins: list[PluginConfig] = Field(default_factory=list, description="other ways to be known")
    same_user: bool | None = Field(
        None,
        description="whether programs of the server's own user, on this machine, need no credentials;"
        " default: only where no other way is configured",
    )
    admins: list[str] = Field(
        default_factory=list, description="names of users, or group:NAME, with the role admin"
    )
    groups: dict[str, list[str]] = Field(
        default_factory=dict, description="group -> names of users, beside what issuers say"
    )
    permissions: PermissionsConfig | None = Field(None, description="what else decides; default: nothing")
    public: list[Literal["health", "service-info"]] | None = Field(
        None,
        description="what strangers may read; default: health, and service-info where users have credentials",
    )
    hosts: list[str] = Field(
        default_factory=list,
        description="further names that clients call this server by, in Host; *.example.org for a domain",
    )
    cors_origins: list[str] = Field(
        default_factory=list,
        description="web pages of other origins that may use it: https://portal.example.org",
    )

    @property
    def has_ways(self) -> bool:
        """Whether there is a way to be known beside being the server's own user."""
        return bool(self.has_users or self.services)

    @property
    def has_users(self) -> bool:
        """Whether there is a way for others than the server's own user and services."""
        return bool(self.oidc or self.basic or self.keys or self.plugins)


def open_door(host: str, authentication: AuthenticationConfig, is_encrypted: bool) -> str | None:
    """What is wrong when other machines can reach a server and it does not look who they are."""
    if is_loopback(host) or (authentication.has_ways and is_encrypted):
        return None
    missing = []
    if not authentication.has_ways:
        missing.append(
            "say who is let in (authentication: {oidc: [{issuer: https://..., audience: [...]}]}, or basic,"
            " keys or services)"
        )
    if not is_encrypted:
        missing.append(
            "encrypt what is sent (tls: {certificate: FILE, key: FILE}; or behind_proxy: true, with"
            " trusted_proxies, where a proxy does that)"
        )
    return (
        f"{host or 'every address'} can be reached from other machines; {', and '.join(missing)}; or listen"
        " on 127.0.0.1; docs/authentication.md says more"
    )
