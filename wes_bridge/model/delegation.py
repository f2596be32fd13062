"""Acting for users at other services with tokens of theirs: what can be configured, and the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretPlace(_Section):
    """Where a secret is: in a variable of the environment, or in a file."""

    env: str | None = Field(None, min_length=1, description="name of the variable that holds the secret")
    file: Path | None = Field(None, description="file that holds the secret")

    @model_validator(mode="after")
    def _one_place(self) -> SecretPlace:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file: the place of the secret")
        return self


class DelegatedTo(_Section):
    """What a broker wants to see of the user for whom it is called: a token that was made for it."""

    audience: str = Field(min_length=1, description="whom the token is for: what the broker calls itself")
    scope: str = Field("", description="what it must allow, with spaces")
    exchanger: Literal["issuer", "authn"] = Field(
        "issuer", description="who makes it: the user's issuer (RFC 8693), or SRCNet's Authn"
    )


class IssuerClient(_Section):
    """As whom the service asks an issuer for other tokens."""

    issuer: str = Field(min_length=1, description="exactly as its tokens name it")
    client_id: str = Field(min_length=1, description="the service's client there")
    secret: SecretPlace | None = Field(None, description="of that client")
    login_client_id: str | None = Field(
        None, description="public client of wes-bridge login: its refresh tokens belong to it"
    )
    login_scope: str = Field("openid offline_access", description="what wes-bridge login asks for")


class DelegationConfig(_Section):
    """Acting for users at brokers that have ``delegation`` in their configuration (docs/delegation.md)."""

    issuers: list[IssuerClient] = Field(default_factory=list, description="of the users")
    authn: AnyHttpUrl | None = Field(None, description="SRCNet's Authn, up to and with /api/v1")
    key: SecretPlace | None = Field(
        None,
        description="keys with which tokens are encrypted, one a line, the newest first; default: a file in"
        " state_dir that is made when it is needed",
    )
    early: Positive = Field(60.0, description="seconds before its end that a token is renewed")
    patience: Positive = Field(60.0, description="seconds an issuer may be silent until runs are paused")
