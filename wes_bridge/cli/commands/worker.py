"""``wes-bridge worker``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wes_bridge.cli.flags import brokers_given, settings_given, settled


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="The service's settings, as YAML.")
@click.option("--database", help="SQLAlchemy URL of the service's database.")
@click.option("--workspace", type=click.Path(), help="The service's workspace, as it is called here.")
@click.option("--broker", "brokers", multiple=True, metavar="NAME=URL", help="A node to ask; repeatable.")
@click.option("--state", type=click.Path(), help="Folder of its own, small.  [default: wes-bridge-state]")
@click.option("--log-level", help="debug, info, warning or error.  [default: info]")
def worker(config: Path | None, **given: Any) -> None:
    """Run one engine worker: it takes runs from the service's database and works on them.

    For a service on more than one machine: start the API with "wes-bridge serve --workers 0", and as many
    workers as you like, anywhere. All need the same database (PostgreSQL), the same workspace at the same
    path, and the same brokers: give all of them the same file. Runs go to whoever has room, users take
    turns, and the runs of a worker that dies are taken over by the others where they were.

    \b
    Examples:
      wes-bridge serve --config site.yaml --workers 0
      wes-bridge worker --config site.yaml
      wes-bridge worker --config site.yaml --state /var/lib/wes-bridge-worker

    \b
    The file:
      database: postgresql+psycopg://wes@db.example.org/wes
      workspace: /shared/wes-bridge
      nodes: []
      brokers:
        - {name: jbo, url: "http://jbo.example.org:8081"}
      engine: {max_runs: 200, max_runs_in_all: 1000}

    Prints "worker ready" when it is, and runs until Ctrl-C or SIGTERM. Stopping loses nothing: what runs
    goes on, and the next worker follows it.

    Exit codes: 0 stopped as asked; 1 it could not be started; 2 the configuration is wrong.
    """
    from wes_bridge.cli.configure import service_config  # noqa: PLC0415

    flags = settings_given(given, "database", "workspace", "log_level", state="state_dir")
    settings = settled(service_config, config, flags | brokers_given(given["brokers"]))
    from wes_bridge.cli.lone_worker import LoneWorkerError, work  # noqa: PLC0415

    try:
        work(settings)
    except LoneWorkerError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
