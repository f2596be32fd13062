"""Webhooks and their deliveries: an outbox, filled in the transaction that changes a run's state.

A delivery is a row until it has arrived or was given up, so there are at most as many as there are states a
run goes through. Who claims one moves its ``due`` ahead by a lease: if the claimer dies the delivery is due
again. Per run they go out in order, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, exists, func, insert, select, update

from wes_bridge.model.states import State
from wes_bridge.store.database import Database, clock
from wes_bridge.store.tables import deliveries, runs, webhooks


@dataclass(frozen=True)
class Webhook:
    """Where a run's changes of state are told.

    Attributes:
        url: http or https.
        secret: signs deliveries; None: they are not signed.
        states: told beside the final ones.
        base: the API's URL as the submitter called it: links in deliveries begin with it.
    """

    url: str
    secret: str | None
    states: tuple[State, ...]
    base: str


def create_webhook(connection: Connection, run_id: str, webhook: Webhook) -> None:
    """Give a run its webhook, in the transaction that stores the run."""
    connection.execute(
        insert(webhooks).values(
            run_id=run_id,
            url=webhook.url,
            secret=webhook.secret,
            states=[state.value for state in webhook.states],
            base=webhook.base,
        )
    )


def carry_webhook(connection: Connection, of: str, run_id: str, base: str) -> None:
    """Give a run the webhook of an earlier one, if that has one; ``base`` as in :class:`Webhook`."""
    columns = [webhooks.c[name] for name in ("url", "secret", "states")]
    row = connection.execute(select(*columns).where(webhooks.c.run_id == of)).first()
    if row is not None:
        connection.execute(insert(webhooks).values(run_id=run_id, base=base, **row._mapping))


def queue_delivery(connection: Connection, run_id: str, state: State) -> None:
    """Note that a run has come to ``state``, if it has a webhook that is told of it."""
    hook = connection.execute(select(webhooks.c.states).where(webhooks.c.run_id == run_id)).first()
    if hook is None or not (state.is_final or state.value in hook.states):
        return
    now = clock(connection)
    connection.execute(insert(deliveries).values(run_id=run_id, state=state.value, created=now, due=now))


def next_due(database: Database) -> tuple[float | None, float]:
    """When the next delivery is due (None when there is none), and what time it is: by the same clock."""
    with database.read() as connection:
        return connection.execute(select(func.min(deliveries.c.due))).scalar(), clock(connection)


def bring_forward(connection: Connection, now: float, longest: Callable[[int], float]) -> int:
    """Have what would be due later than it can be, after a clock was set back, be due now.

    Args:
        connection: of a transaction.
        now: the time, seconds since the epoch.
        longest: given how often a delivery was tried, the seconds it may have to wait from now at most.
            It must not grow any more from 20 attempts on.

    Returns:
        How many were.
    """
    waits = {attempts: longest(attempts) for attempts in range(20)}
    wait = case(waits, value=deliveries.c.attempts, else_=longest(20))
    late = update(deliveries).where(deliveries.c.due > now + wait).values(due=now)
    return connection.execute(late).rowcount


def claim_deliveries(connection: Connection, now: float, lease: float, limit: int) -> Sequence[Row[Any]]:
    """Take up to ``limit`` deliveries that are due; they are due again after ``lease`` seconds.

    Returns:
        Rows of seq, run_id, state (the one to tell), created, attempts (this one included); of the webhook
        url, secret, base; and of the run workflow_name, tags, start_time, end_time, exit_code, outputs,
        system_logs.
    """
    older = deliveries.alias("older")
    is_first = ~exists(
        select(older.c.seq).where(older.c.run_id == deliveries.c.run_id, older.c.seq < deliveries.c.seq)
    )
    # those never tried first: a receiver that is down must not hold up the news of others
    query = select(deliveries.c.seq).where(deliveries.c.due <= now, is_first)
    query = query.order_by(deliveries.c.attempts, deliveries.c.due).limit(limit)
    found = [row.seq for row in connection.execute(query.with_for_update(of=deliveries, skip_locked=True))]
    if not found:
        return []
    connection.execute(
        update(deliveries)
        .where(deliveries.c.seq.in_(found))
        .values(due=now + lease, attempts=deliveries.c.attempts + 1)
    )
    columns = (
        *(deliveries.c[name] for name in ("seq", "run_id", "state", "created", "attempts")),
        *(webhooks.c[name] for name in ("url", "secret", "base")),
        *(
            runs.c[name]
            for name in (
                "workflow_name",
                "tags",
                "start_time",
                "end_time",
                "exit_code",
                "outputs",
                "system_logs",
            )
        ),
    )
    joined = deliveries.join(webhooks).join(runs, runs.c.run_id == webhooks.c.run_id)
    return connection.execute(
        select(*columns).select_from(joined).where(deliveries.c.seq.in_(found)).order_by(deliveries.c.seq)
    ).all()


def end_delivery(connection: Connection, seq: int, attempts: int, run_id: str, *, is_last: bool) -> None:
    """Forget a delivery that has arrived or was given up, if it is still ours (``attempts`` as claimed).

    After the one of a final state (``is_last``) nothing is left to tell. The webhook stays as long as the
    run: a rerun tells the same receiver.
    """
    done = connection.execute(
        delete(deliveries).where(deliveries.c.seq == seq, deliveries.c.attempts == attempts)
    )
    if is_last and done.rowcount:
        connection.execute(delete(deliveries).where(deliveries.c.run_id == run_id))


def postpone_delivery(connection: Connection, seq: int, attempts: int, due: float) -> None:
    """Try a delivery that failed again at ``due``; it is dropped when its run has more recent news."""
    ours = and_(deliveries.c.seq == seq, deliveries.c.attempts == attempts)
    newer = deliveries.alias("newer")
    superseded = exists(
        select(newer.c.seq).where(newer.c.run_id == deliveries.c.run_id, newer.c.seq > deliveries.c.seq)
    )
    connection.execute(delete(deliveries).where(ours, superseded))
    connection.execute(update(deliveries).where(ours).values(due=due))
