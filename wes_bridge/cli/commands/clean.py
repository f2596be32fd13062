"""``wes-bridge clean``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wes_bridge.cli.flags import settings_given, settled


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="The service's settings, as YAML.")
@click.option("--state", type=click.Path(), help="The service's state folder.")
@click.option("--database", help="The service's database, as SQLAlchemy URL.")
@click.option("--keep-runs", type=float, metavar="DAYS", help="Days runs that have ended are kept.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(config: Path | None, dry_run: bool, **given: Any) -> None:
    """Remove what the settings in section "retention" do not keep any longer, now.

    For operators, on the machine of the service; it may be running. The service does the same by itself every
    now and then. What runs that have not ended may need stays.

    \b
    Examples:
      wes-bridge clean --config wes-bridge.yaml --dry-run
      wes-bridge clean --state wes-bridge-state --keep-runs 30

    Prints a line for each thing: what, run, bytes.
    """
    from wes_bridge.cli.configure import service_config  # noqa: PLC0415

    flags = settings_given(given, "database", state="state_dir", keep_runs="retention.keep_runs")
    settings = settled(service_config, config, flags)
    if settings.database is None and not (settings.state_dir / "wes-bridge.db").exists():
        click.echo(f"error: {settings.state_dir} is not the state folder of a service; see --state", err=True)
        raise SystemExit(1)
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from wes_bridge.data.workspace import Workspace  # noqa: PLC0415
    from wes_bridge.engine.keeping import Keeper  # noqa: PLC0415
    from wes_bridge.storage.opening import open_storage  # noqa: PLC0415
    from wes_bridge.store.database import Database, NewerDatabaseError, cannot_open  # noqa: PLC0415
    from wes_bridge.store.tables import SERVICE  # noqa: PLC0415

    try:
        database = Database(settings.database_url, SERVICE)
    except (SQLAlchemyError, OSError, ImportError, NewerDatabaseError) as error:
        click.echo(f"error: {cannot_open(error)}", err=True)
        raise SystemExit(1) from None
    stored = None if settings.outputs_store is None else open_storage(settings.outputs_store)
    workspace = Workspace(settings.workspace_dir)
    keeper = Keeper(settings.retention, workspace, database, dry_run=dry_run, outputs_store=stored)
    total = 0
    for removal in keeper.sweep():
        total += removal.size
        click.echo(f"{removal.what}\t{removal.run_id}\t{removal.size}")
    database.close()
    click.echo(f"{total} bytes {'would be ' if dry_run else ''}removed", err=True)
