"""``wes-bridge outputs``."""

from __future__ import annotations

from pathlib import Path

import click

from wes_bridge.cli.remote import connected, put_json, wes_option


@click.command()
@click.argument("run_id", metavar="RUN")
@wes_option
@click.option(
    "--download", type=click.Path(path_type=Path, file_okay=False), help="Fetch the files into DIR."
)
def outputs(run_id: str, wes: str, download: Path | None) -> None:
    """Print a run's output object; with --download, fetch its files first.

    \b
    Examples:
      wes-bridge outputs 01J9ZV6T7XK2
      wes-bridge outputs 01J9ZV6T7XK2 --download results
    """
    with connected(wes) as client:
        put_json(client.download(run_id, download) if download else client.outputs(run_id))
