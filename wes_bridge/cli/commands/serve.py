"""``wes-bridge serve``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wes_bridge.cli.early import WORKER, Early
from wes_bridge.cli.flags import brokers_given, settings_given, settled

if TYPE_CHECKING:
    from wes_bridge.cli.settings import Key


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Settings, as YAML; see --print-config.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0: a free one.  [default: 8080]")
@click.option(
    "--state", type=click.Path(), help="Folder for database and files.  [default: wes-bridge-state]"
)
@click.option("--database", help="SQLAlchemy URL.  [default: SQLite in the state folder]")
@click.option("--workers", type=int, help="Engine processes.  [default: 1]")
@click.option(
    "--node", "nodes", multiple=True, metavar="NAME", help="Embedded nodes, by name; repeat for more."
)
@click.option("--no-node", is_flag=True, help="No embedded node: only the brokers of the configuration.")
@click.option("--broker", "brokers", multiple=True, metavar="NAME=URL", help="A node elsewhere; repeatable.")
@click.option("--log-level", help="debug, info, warning or error.  [default: info]")
@click.option("--print-config", is_flag=True, help="Print the configuration that would be used, and stop.")
@click.option("--exit-with-parent", is_flag=True, hidden=True)
@click.option("--throw-away", is_flag=True, hidden=True)
@click.option("--show", "shows", multiple=True, type=click.Path(path_type=Path), hidden=True)
@click.option("--quiet", is_flag=True, help="No hints on standard error when it is ready.")
def serve(config: Path | None, **given: Any) -> None:
    """Run the service: the WES API, engine workers, and embedded ExecutionBroker nodes.

    Works without any setting. Prints "wes-bridge is ready at URL" when it is, and runs until Ctrl-C.
    Stopping loses nothing: runs go on when it is started again with the same state folder.

    \b
    Examples:
      wes-bridge serve
      wes-bridge serve --port 0 --state /var/lib/wes-bridge
      wes-bridge serve --no-node --broker jbo=http://jbo.example.org:8081
      wes-bridge serve --print-config > wes-bridge.yaml
      wes-bridge serve --config wes-bridge.yaml

    Every setting can be given in three ways: as a flag, as an environment variable
    (WES_BRIDGE_PORT=80, WES_BRIDGE_ENGINE__WORKERS=4), or in the file (port: 80); the first wins.

    Exit codes: 0 stopped as asked; 1 it could not be started; 2 the configuration is wrong.
    """
    if given["print_config"]:
        from wes_bridge.cli.configure import dump, service_config  # noqa: PLC0415

        click.echo(dump(settled(service_config, config, _flags(given))), nl=False)
        return
    with contextlib.closing(Early(WORKER)) as worker:
        _serve(config, given, worker)


def _serve(config: Path | None, given: dict[str, Any], worker: Early) -> None:
    from wes_bridge.cli.configure import service_config  # noqa: PLC0415

    settings = settled(service_config, config, _flags(given))
    if given["shows"]:
        nodes = [
            node.model_copy(update={"sandbox_shows": [*node.sandbox_shows, *given["shows"]]})
            for node in settings.nodes
        ]
        settings = settings.model_copy(update={"nodes": nodes})
    from wes_bridge.cli.supervisor import Options, ServeError, announce  # noqa: PLC0415
    from wes_bridge.cli.supervisor import serve as run  # noqa: PLC0415

    options = Options(
        throw_away=given["throw_away"],
        exit_with_parent=given["exit_with_parent"],
        on_ready=announce(settings.name, hints=None if given["quiet"] else sys.stderr),
        early=worker,
    )
    try:
        run(settings, options)
    except ServeError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def _flags(given: dict[str, Any]) -> dict[Key, tuple[object, str]]:
    """Flags that were given, as settings."""
    others = {"state": "state_dir", "workers": "engine.workers"}
    flags = settings_given(given, "host", "port", "database", "log_level", **others)
    if given["no_node"] and given["nodes"]:
        raise click.UsageError("--no-node and --node exclude each other.")
    if given["no_node"]:
        flags["nodes",] = [], "--no-node"
    elif given["nodes"]:
        flags["nodes",] = [{"name": name} for name in given["nodes"]], "--node"
    return flags | brokers_given(given["brokers"])
