"""Who is let in to a server of ours: the shape of the section ``authentication`` of each configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["user", "admin", "service"]
"""``user`` submits and sees their own; ``admin`` also drains nodes and sees everybody's; ``service`` is a WES
service or an aggregator that acts for users and names them."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceKeyConfig(_Section):
    """A service or an aggregator that may act for its users here, and the secret by which it is known."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    file: Path = Field(description="file that holds its secret, which it sends as a bearer token")


class AuthenticationConfig(_Section):
    """Who is let in; as it comes, the user who started the server, on this machine."""

    hosts: list[str] = Field(
        default_factory=list,
        description="further names that clients call this server by, in Host; *.example.org for a domain",
    )
    cors_origins: list[str] = Field(
        default_factory=list,
        description="web pages of other origins that may use it: https://portal.example.org",
    )
    services: list[ServiceKeyConfig] = Field(
        default_factory=list, description="services and aggregators that may act for their users"
    )
