"""The caller, as every server of ours knows them once their credentials have been checked.

It must not know how credentials are checked, nor what a run or a session is.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from wes_bridge.model.access import Role

LOCAL_NAME = "local"
"""The owner of everything where one person uses the service on their own machine."""


class Principal(BaseModel):
    """Who calls, and what they may do.

    Attributes:
        name: what owns runs and sessions; unique and lasting. ``ISSUER#SUBJECT`` for OIDC, else a plain name.
        display: what people call them.
        groups: as the issuer or the configuration says.
        roles: see :data:`wes_bridge.model.access.Role`.
        token: the bearer token they came with, where it can be exchanged for others; never written or shown.
        on_behalf_of: with the role ``service``: the name of the user for whom the call is made.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, max_length=255)
    display: str = ""
    groups: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset({"user"})
    token: SecretStr | None = Field(None, exclude=True, repr=False)
    on_behalf_of: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether they may do what concerns everybody."""
        return "admin" in self.roles


LOCAL = Principal(name=LOCAL_NAME, display="you", roles=frozenset({"user", "admin"}))
"""The person whose machine it is."""

NOBODY = Principal(name="nobody", roles=frozenset())
"""A stranger, where something is for everybody."""
