"""``wes-bridge show``."""

from __future__ import annotations

import click

from wes_bridge.cli import flow, steps
from wes_bridge.cli.remote import connected, json_option, put_json, put_table, wes_option

_CHOICES = 20
"""Lines about choices that are shown."""


@click.command()
@click.argument("run_id", metavar="RUN")
@wes_option
@json_option
def show(run_id: str, wes: str, as_json: bool) -> None:
    """Show one run: its state, each step with where it ran and why there, and what went wrong.

    \b
    Example:
      wes-bridge show 01J9ZV6T7XK2
    """
    with connected(wes) as client:
        run = client.run(run_id)
        tasks = flow.tasks_of(client, run_id)
        if as_json:
            put_json({"run": run, "tasks": tasks})
            return
        log, request = run.get("run_log") or {}, run.get("request") or {}
        click.echo(f"run        {run_id}")
        click.echo(f"state      {run.get('state')}")
        click.echo(f"workflow   {request.get('workflow_url', '')}")
        if log.get("start_time"):
            lasted = steps.duration(log["start_time"], log.get("end_time"))
            click.echo(f"started    {steps.clock(log['start_time'])}, {lasted}")
        for key, value in (request.get("tags") or {}).items():
            click.echo(f"tag        {key}={value}")
        if tasks:
            click.echo()
            put_table(steps.COLUMNS, steps.rows(tasks))
        choices = steps.choices(tasks)
        for line in ["", *choices[:_CHOICES]] if choices else []:
            click.echo(line)
        if len(choices) > _CHOICES:
            click.echo(f"... and {len(choices) - _CHOICES} more (--json shows all)")
        failed = run.get("state") in ("EXECUTOR_ERROR", "SYSTEM_ERROR")
        lines = list(flow.reasons(client, run) if failed else flow.remarks(run))
        for line in ["", *lines] if lines else []:
            click.echo(line)
        if run.get("outputs"):
            click.echo(
                f"\noutputs    {', '.join(run['outputs'])} (wes-bridge outputs {run_id} --download DIR)"
            )
