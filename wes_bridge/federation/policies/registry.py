"""Finding policies by name: the installed ones, and those of this source tree.

In-tree policies are entry points like any other (``pyproject.toml``); the table here holds them too, so that
a source tree works that was installed before a policy was added. An installed plug-in cannot replace them.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the API asks for names only, and should not load the rest
    from wes_bridge.federation.policies.base import Policy

GROUP = "wes_bridge.policies"
IN_TREE = {
    "earliest": "wes_bridge.federation.policies.earliest:Earliest",
    "cheapest": "wes_bridge.federation.policies.cheapest:Cheapest",
    "greenest": "wes_bridge.federation.policies.greenest:Greenest",
    "fastest": "wes_bridge.federation.policies.fastest:Fastest",
    "local": "wes_bridge.federation.policies.local:Local",
    "balanced": "wes_bridge.federation.policies.balanced:Balanced",
}


class UnknownPolicyError(ValueError):
    """There is no policy of this name."""


@cache
def _points() -> dict[str, EntryPoint]:
    own = {name: EntryPoint(name, value, GROUP) for name, value in IN_TREE.items()}
    return {point.name: point for point in entry_points(group=GROUP)} | own


def policy_names() -> list[str]:
    """All policies there are."""
    return sorted(_points())


@cache
def load_policy(name: str) -> Policy:
    """A policy by name.

    Raises:
        UnknownPolicyError: lists those there are.
        Exception: whatever a plug-in raises when it is imported.
    """
    point = _points().get(name)
    if point is None:
        raise UnknownPolicyError(f"there is no policy {name!r}; known: {', '.join(policy_names())}")
    policy: Policy = point.load()()
    return policy
