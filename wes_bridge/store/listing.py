"""Lists of runs: a page costs the same at the beginning and at the end, however many runs there are.

Pages are cut by ``seq`` (keyset, not offset). Each kind of filter has an index that ends in it, so that a
page reads little more rows than it shows: tags in ``run_tags``, which repeats the run's owner and ``seq`` for
it, names and states in ``runs``. Counting all that match cannot be so: :class:`Totals` remembers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select, union_all

from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.sharing import Viewer, visible
from wes_bridge.store.tables import HEAD, run_tags, runs

_SHOWN = ("seq", "run_id", "owner", "state", "start_time", "end_time", "tags", "workflow_name")
MANY = 5000
"""Runs in the database, of anybody, from which on counts are remembered."""
_SHARE = 20
"""A count is remembered for so many times as long as it took to make."""
_LONGEST = 5.0
"""Seconds it is remembered at most."""
_FILTERS = 200
"""Filters whose counts are remembered."""


@dataclass(frozen=True)
class RunFilter:
    """Which runs a list shows. Tags are ANDed; an empty value matches any value of that key.

    ``owner`` is whose runs, None: anybody's. Where ``viewer`` is given only what they may see is shown.
    """

    owner: str | None
    states: tuple[State, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    workflow_name: str | None = None
    viewer: Viewer | None = None


def newest_seq(database: Database, which: RunFilter | None = None) -> int:
    """The sequence number of the newest run, 0 when there is none: what a first page is frozen at.

    Where a filter is given, of the newest it could show: pages say nothing of what others submit.
    """
    query = select(func.max(runs.c.seq)).where(*(_whose(runs.c, which) if which else ()))
    with database.read() as connection:
        return connection.execute(query).scalar() or 0


def _whose(columns: Any, which: RunFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [] if which.owner is None else [columns.owner == which.owner]
    if which.viewer is not None:
        found.append(visible(columns, which.viewer))
    return found


def list_runs(
    database: Database, which: RunFilter, newest: int, before: int | None, limit: int
) -> Sequence[Row[Any]]:
    """A page of runs, newest first.

    Args:
        database: where.
        which: the filter.
        newest: runs submitted after this sequence number are not shown (the first page's moment).
        before: only runs with a smaller sequence number; None for the first page.
        limit: at most this many.

    Returns:
        Rows of seq, run_id, owner, state, start_time, end_time, tags, workflow_name.
    """
    last = newest if before is None else min(newest, before - 1)  # one bound: indexes use only one
    query = page_query(which, last, limit)
    with database.read() as connection:
        return connection.execute(query).all()


def page_query(which: RunFilter, last: int, limit: int) -> Select[Any]:
    """The statement of :func:`list_runs`: up to ``limit`` runs up to number ``last``."""
    columns = [runs.c[name] for name in _SHOWN]
    if which.tags or which.workflow_name or len(which.states) <= 1:
        query, seq = _matching(select(*columns), which)
        return query.where(seq <= last).order_by(seq.desc()).limit(limit)
    # Several states: the newest of each, from the index, rather than all of them sorted.
    newest = [
        select(runs.c.seq)
        .where(*_whose(runs.c, which), runs.c.state == state.value, runs.c.seq <= last)
        .order_by(runs.c.seq.desc())
        .limit(limit)
        .subquery()
        for state in dict.fromkeys(which.states)
    ]
    found = union_all(*(select(one.c.seq) for one in newest)).subquery()
    query = select(*columns).where(runs.c.seq.in_(select(found.c.seq)))
    return query.order_by(runs.c.seq.desc()).limit(limit)


def count_runs(database: Database, which: RunFilter, newest: int, above: int = 0) -> int:
    """How many runs match, among those submitted after ``above`` up to ``newest``."""
    query, seq = _matching(select(func.count()), which, is_count=True)
    query = query.where(seq <= newest, seq > above)
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


def count_by_state(database: Database, owner: str | None = None) -> dict[State, int]:
    """How many runs of an owner are in each state (WES ``system_state_counts``); None: of all."""
    query = select(runs.c.state, func.count()).group_by(runs.c.state)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return {State(state): count for state, count in rows}


def _matching(
    query: Select[Any], which: RunFilter, *, is_count: bool = False
) -> tuple[Select[Any], ColumnElement[int]]:
    """The query for runs that match, and the column that orders them: of the table that is read first."""
    if which.tags:
        return _tagged(query, which, is_count)
    query = query.select_from(runs).where(*_whose(runs.c, which), *_plain(which))
    return query, runs.c.seq


def _tagged(query: Select[Any], which: RunFilter, is_count: bool) -> tuple[Select[Any], ColumnElement[int]]:
    first, *others = sorted(which.tags, key=lambda tag: not tag[1])  # one with a value matches fewer runs
    query = query.where(*_whose(run_tags.c, which), _is_tag(run_tags.c, *first))
    for key, value in others:
        other = run_tags.alias()
        query = query.where(
            select(other.c.run_id)
            .where(other.c.run_id == run_tags.c.run_id, _is_tag(other.c, key, value))
            .exists()
        )
    if is_count and not _plain(which):
        return query.select_from(run_tags), run_tags.c.seq  # all of it is in the index
    joined = run_tags.join(runs, runs.c.seq == run_tags.c.seq)
    return query.select_from(joined).where(*_plain(which)), run_tags.c.seq


def _is_tag(columns: Any, key: str, value: str) -> ColumnElement[bool]:
    is_key: ColumnElement[bool] = columns.key == key
    if not value:
        return is_key
    begins = and_(is_key, columns.head == value[:HEAD])
    return begins if len(value) < HEAD else and_(begins, columns.value == value)


def _plain(which: RunFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if which.states:
        found.append(or_(*(runs.c.state == state.value for state in dict.fromkeys(which.states))))
    if which.workflow_name:
        found.append(runs.c.workflow_name == which.workflow_name)
    return found


@dataclass(frozen=True)
class _Total:
    """A count, what it counted up to, and until when it may be used."""

    count: int
    newest: int
    until: float


class Totals:
    """Counts of runs by filter. Where there are many runs they are remembered for a moment, and kept up with
    what is submitted.

    So a run that is submitted counts at once; that one changed its state or was deleted may show late, by
    twenty times what counting takes, and never by more than five seconds. For use by several threads.

    Args:
        database: where to count.
        clock: seconds.
        many: runs in the database from which on counts are remembered.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.monotonic, many: int = MANY
    ) -> None:
        self._database = database
        self._many = many
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[RunFilter, _Total] = OrderedDict()
        self._states: OrderedDict[str | None, tuple[dict[State, int], float]] = OrderedDict()

    def count(self, which: RunFilter, newest: int) -> int:
        """How many runs match, among those submitted up to ``newest``. Blocks."""
        begun = self._clock()
        with self._lock:
            known = self._known.get(which)
        if known is not None and begun < known.until:
            if newest >= known.newest:
                return known.count + self._between(which, known.newest, newest)
            return known.count - self._between(which, newest, known.newest)
        count = count_runs(self._database, which, newest)
        if newest >= self._many:
            with self._lock:
                self._known[which] = _Total(count, newest, self._until(begun))
                self._known.move_to_end(which)
                if len(self._known) > _FILTERS:
                    self._known.popitem(last=False)
        return count

    def _between(self, which: RunFilter, above: int, newest: int) -> int:
        return count_runs(self._database, which, newest, above) if newest > above else 0

    def by_state(self, owner: str | None = None) -> dict[State, int]:
        """How many runs of an owner are in each state; None: all owners' together. Blocks."""
        begun = self._clock()
        with self._lock:
            counts, until = self._states.get(owner, ({}, 0.0))
        if begun < until:
            return counts
        counts = count_by_state(self._database, owner)
        if sum(counts.values()) >= self._many:
            with self._lock:
                self._states[owner] = counts, self._until(begun)
                self._states.move_to_end(owner)
                if len(self._states) > _FILTERS:
                    self._states.popitem(last=False)
        return counts

    def _until(self, begun: float) -> float:
        now = self._clock()
        return now + min(_LONGEST, _SHARE * (now - begun))
