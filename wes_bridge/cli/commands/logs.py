"""``wes-bridge logs``."""

from __future__ import annotations

import sys
from typing import Literal

import click

from wes_bridge.cli.remote import connected, wes_option
from wes_bridge.client import WESClient
from wes_bridge.model.run_options import names_step, without_index

_MOST = 10


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("task", required=False)
@wes_option
@click.option("--follow", "-f", is_flag=True, help="Go on until the run has ended.")
@click.option("--stdout", is_flag=True, help="Standard output instead of standard error.")
def logs(run_id: str, task: str | None, wes: str, follow: bool, stdout: bool) -> None:
    """Print the log of a run, or of one of its steps (TASK: its id or name).

    The name of a scatter without an index means all its elements.

    \b
    Examples:
      wes-bridge logs 01J9ZV6T7XK2 --follow
      wes-bridge logs 01J9ZV6T7XK2 align --stdout
    """
    name: Literal["stdout", "stderr"] = "stdout" if stdout else "stderr"
    with connected(wes) as client:
        ids = _task_ids(client, run_id, task) if task else {"": None}
        try:
            for title, task_id in ids.items():
                if title:
                    click.echo(f"--- {title}", err=True)
                for piece in client.log(run_id, name, task_id, follow=follow):
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def _task_ids(client: WESClient, run_id: str, wanted: str) -> dict[str, str | None]:
    """The tasks that are meant: one, without a title, or all elements of a scatter by their names."""
    tasks = list(client.tasks(run_id))
    for key in ("id", "name"):
        for task in tasks:
            if task.get(key) == wanted:
                return {"": str(task["id"])}
    found = {
        str(task["name"]): str(task["id"])
        for task in tasks
        if names_step(wanted, str(task.get("name")).split("/"))
    }
    if found:
        return dict(found)
    names = list(dict.fromkeys(without_index(str(task.get("name"))) for task in tasks))
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    known = f"{', '.join(names[:_MOST])}{more}" if names else "none yet"
    click.echo(f"error: run {run_id} has no step {wanted!r} (its steps: {known})", err=True)
    raise SystemExit(1)
