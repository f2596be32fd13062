"""What a site's configuration says of its users beside their credentials: groups, and the role admin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wes_bridge.auth.principal import Principal

_GROUP = "group:"
_MANY = 10_000


class Rules:
    """Adds groups and roles to principals.

    Args:
        admins: names of users, or ``group:NAME``.
        groups: names of users by group.
    """

    def __init__(self, admins: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
        self._groups_of_admins = {name.removeprefix(_GROUP) for name in admins if name.startswith(_GROUP)}
        self._admins = {name for name in admins if not name.startswith(_GROUP)}
        self._groups: dict[str, set[str]] = {}
        for group, names in groups.items():
            for name in names:
                self._groups.setdefault(name, set()).add(group)
        self._is_empty = not admins and not groups
        self._known: dict[Principal, Principal] = {}

    def applied(self, principal: Principal) -> Principal:
        """The same person, with all that is said of them."""
        if self._is_empty:
            return principal
        known = self._known.get(principal)
        if known is None:
            if len(self._known) >= _MANY:
                self._known.clear()
            known = self._known[principal] = self._with_all(principal)
        return known

    def _with_all(self, principal: Principal) -> Principal:
        groups = principal.groups | self._groups.get(principal.name, set())
        is_admin = principal.name in self._admins or self._groups_of_admins & groups
        roles = principal.roles
        if is_admin and "service" not in roles:
            roles |= {"user", "admin"}
        if groups == principal.groups and roles == principal.roles:
            return principal
        return principal.model_copy(update={"groups": groups, "roles": roles})
