"""``wes-bridge runs``."""

from __future__ import annotations

import click

from wes_bridge.cli import steps
from wes_bridge.cli.remote import connected, json_option, put_json, put_table, wes_option


@click.command()
@wes_option
@click.option("--state", "states", multiple=True, help="Only in this state; repeatable.")
@click.option(
    "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only with this tag; repeatable (and)."
)
@click.option("--workflow", help="Only of the workflow of this name.")
@click.option("--limit", type=click.IntRange(1), default=25, show_default=True, help="How many at most.")
@json_option
def runs(
    *,
    wes: str,
    states: tuple[str, ...],
    tags: tuple[str, ...],
    workflow: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List runs, newest first.

    \b
    Examples:
      wes-bridge runs
      wes-bridge runs --state RUNNING --state QUEUED
      wes-bridge runs --tag project=m31 --json
    """
    wanted = [state.upper() for state in states]
    with connected(wes) as client:
        found = list(client.runs(limit=limit, state=wanted, tag=list(tags), workflow_name=workflow))
        if as_json:
            put_json(found)
            return
        rows = [
            [
                str(run.get("run_id", "")),
                str(run.get("state", "")),
                str(run.get("workflow_name") or ""),
                steps.clock(run.get("start_time")),
                steps.duration(run.get("start_time"), run.get("end_time")),
                " ".join(f"{key}={value}" for key, value in (run.get("tags") or {}).items()),
            ]
            for run in found
        ]
        put_table(("run", "state", "workflow", "start", "duration", "tags"), rows)
