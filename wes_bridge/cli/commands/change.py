"""``wes-bridge cancel`` and ``wes-bridge delete``."""

from __future__ import annotations

import click

from wes_bridge.cli.remote import connected, wes_option


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@wes_option
@click.option("--wait", is_flag=True, help="Return only when they have ended.")
def cancel(run_ids: tuple[str, ...], wes: str, wait: bool) -> None:
    """Cancel runs: their sessions are stopped at the nodes. A run that has ended stays as it is.

    \b
    Example:
      wes-bridge cancel 01J9ZV6T7XK2 --wait
    """
    with connected(wes) as client:
        for run_id in run_ids:
            client.cancel(run_id)
        for run_id in run_ids:
            click.echo(f"{run_id} {client.wait(run_id) if wait else client.status(run_id)}")


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@wes_option
def delete(run_ids: tuple[str, ...], wes: str) -> None:
    """Delete runs that have ended, with all their files and logs.

    \b
    Example:
      wes-bridge delete 01J9ZV6T7XK2
    """
    with connected(wes) as client:
        for run_id in run_ids:
            client.delete(run_id)
            click.echo(f"{run_id} deleted")
