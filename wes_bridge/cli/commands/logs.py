"""``wes-bridge logs``."""

from __future__ import annotations

import sys
from typing import Literal

import click

from wes_bridge.cli.remote import connected, wes_option
from wes_bridge.client import WESClient


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("task", required=False)
@wes_option
@click.option("--follow", "-f", is_flag=True, help="Go on until the run has ended.")
@click.option("--stdout", is_flag=True, help="Standard output instead of standard error.")
def logs(run_id: str, task: str | None, wes: str, follow: bool, stdout: bool) -> None:
    """Print the log of a run, or of one of its steps (TASK: its id or name).

    \b
    Examples:
      wes-bridge logs 01J9ZV6T7XK2 --follow
      wes-bridge logs 01J9ZV6T7XK2 align --stdout
    """
    name: Literal["stdout", "stderr"] = "stdout" if stdout else "stderr"
    with connected(wes) as client:
        task_id = _task_id(client, run_id, task) if task else None
        try:
            for piece in client.log(run_id, name, task_id, follow=follow):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def _task_id(client: WESClient, run_id: str, wanted: str) -> str:
    tasks = list(client.tasks(run_id))
    for key in ("id", "name"):
        for task in tasks:
            if task.get(key) == wanted:
                return str(task["id"])
    names = ", ".join(str(task.get("name")) for task in tasks[:20]) or "none yet"
    click.echo(f"error: run {run_id} has no step {wanted!r} (its steps: {names})", err=True)
    raise SystemExit(1)
