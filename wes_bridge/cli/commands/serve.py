"""``wes-bridge serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


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
    from wes_bridge.cli.configure import dump, service_config  # noqa: PLC0415
    from wes_bridge.cli.settings import SettingsError  # noqa: PLC0415

    try:
        settings = service_config(config, _flags(given))
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        raise SystemExit(2) from None
    if given["print_config"]:
        click.echo(dump(settings), nl=False)
        return
    from wes_bridge.cli.supervisor import Options, ServeError, announce  # noqa: PLC0415
    from wes_bridge.cli.supervisor import serve as run  # noqa: PLC0415

    options = Options(
        throw_away=given["throw_away"],
        exit_with_parent=given["exit_with_parent"],
        on_ready=announce(settings.name, hints=None if given["quiet"] else sys.stderr),
    )
    try:
        run(settings, options)
    except ServeError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def _flags(given: dict[str, Any]) -> dict[tuple[str | int, ...], tuple[object, str]]:
    """Flags that were given, as settings."""
    flags: dict[tuple[str | int, ...], tuple[object, str]] = {}
    simple = {
        ("host",): "host",
        ("port",): "port",
        ("state_dir",): "state",
        ("database",): "database",
        ("engine", "workers"): "workers",
        ("log_level",): "log_level",
    }
    for key, name in simple.items():
        if given[name] is not None:
            flags[key] = given[name], "--" + name.replace("_", "-")
    if given["no_node"] and given["nodes"]:
        raise click.UsageError("--no-node and --node exclude each other.")
    if given["no_node"]:
        flags["nodes",] = [], "--no-node"
    elif given["nodes"]:
        flags["nodes",] = [{"name": name} for name in given["nodes"]], "--node"
    if given["brokers"]:
        flags["brokers",] = [_broker(text) for text in given["brokers"]], "--broker"
    return flags


def _broker(text: str) -> dict[str, str]:
    name, equals, url = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}: give it as NAME=URL", param_hint="--broker")
    return {"name": name, "url": url}
