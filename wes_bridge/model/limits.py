"""How much of a server one user may have: the section ``limits`` of each configuration.

The vocabulary only, without I/O; who enforces what is elsewhere.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Allowance(BaseModel):
    """What a user may have; what is not given is not limited, or is as for others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: Rate | None = Field(None, description="requests a second, in the long run")
    burst: Count | None = Field(None, description="requests at once; default: ten seconds' worth")
    submissions: Rate | None = Field(None, description="runs submitted or planned in a minute; WES only")
    runs: Count | None = Field(None, description="runs that have not ended; WES only")
    attachments_gib: Rate | None = Field(None, description="GiB of attachments kept in all runs; WES only")
    sessions: Count | None = Field(None, description="sessions accepted that have not ended; nodes only")


class Limit(NamedTuple):
    """One figure, and the setting that it comes from."""

    value: float
    setting: str


class LimitsConfig(BaseModel):
    """Allowances: a user's own come first, then the largest of the groups', then the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Allowance = Field(Allowance(), description="of those who are not named")
    groups: dict[str, Allowance] = Field(default_factory=dict, description="by group")
    users: dict[str, Allowance] = Field(default_factory=dict, description="by user: the name that owns runs")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return self == LimitsConfig()

    def limit(self, what: str, user: str, groups: frozenset[str]) -> Limit | None:
        """The limit of a user; None for none.

        Args:
            what: a field of :class:`Allowance`.
            user: their name.
            groups: theirs.
        """
        own = _given(self.users.get(user), what, f"limits.users.{user}.{what}")
        if own is not None:
            return own
        named = [(group, self.groups[group]) for group in sorted(groups) if group in self.groups]
        shared = [_given(allowance, what, f"limits.groups.{group}.{what}") for group, allowance in named]
        found = [limit for limit in shared if limit is not None]
        return max(found, default=None) or _given(self.default, what, f"limits.default.{what}")


def _given(allowance: Allowance | None, what: str, setting: str) -> Limit | None:
    value = getattr(allowance, what) if allowance is not None else None
    return None if value is None else Limit(float(value), setting)
