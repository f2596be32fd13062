"""Who may see which runs: whoever owns them, the groups they are shared with, and administrators.

It must not know how a caller proves who they are; the groups are theirs at the time of the request.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, or_, select, true

from wes_bridge.store.database import Database
from wes_bridge.store.tables import run_groups, runs


@dataclass(frozen=True)
class Viewer:
    """Somebody who looks at runs.

    Attributes:
        name: what they own runs by.
        groups: those they are in now, in order: pages of a listing are bound to them as text.
        is_admin: whether they see everybody's.
    """

    name: str
    groups: tuple[str, ...] = ()
    is_admin: bool = False

    def may_change(self, owner: str) -> bool:
        """Whether they may cancel, delete or do again what ``owner`` has; a group may only look."""
        return self.is_admin or owner == self.name


def visible(columns: Any, viewer: Viewer) -> ColumnElement[bool]:
    """A condition on a table that has ``owner`` and ``run_id``: the viewer may see the run."""
    if viewer.is_admin:
        return true()
    own: ColumnElement[bool] = columns.owner == viewer.name
    if not viewer.groups:
        return own
    shared = select(run_groups.c.run_id).where(run_groups.c.name.in_(viewer.groups))
    return or_(own, columns.run_id.in_(shared))


def find_run(database: Database, run_id: str, viewer: Viewer) -> Row[Any] | None:
    """The whole row of one run; None when it is unknown or the viewer may not see it: one query for both, so
    that the time tells nothing either."""
    query = select(runs).where(runs.c.run_id == run_id, visible(runs.c, viewer))
    with database.read() as connection:
        return connection.execute(query).first()


def share_run(connection: Connection, run_id: str, groups: Iterable[str]) -> None:
    """Let groups see a run."""
    rows = [{"run_id": run_id, "name": name} for name in dict.fromkeys(groups)]
    if rows:
        connection.execute(insert(run_groups), rows)
