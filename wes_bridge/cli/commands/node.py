"""``wes-bridge node``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wes_bridge.cli.commands.node_admin import drain, open_node, status
from wes_bridge.cli.flags import become, in_folder, settings_given, settled


@click.group(invoke_without_command=True, subcommand_metavar="[drain|open|status]")
@click.option("--config", type=click.Path(path_type=Path), help="Settings, as YAML; see --print-config.")
@click.option("--name", help="Of the node, unique in the federation.  [default: local]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0: a free one.  [default: 0]")
@click.option("--state", type=click.Path(), help="Folder for sessions.  [default: wes-bridge-node-NAME]")
@click.option("--public-url", help="What clients call it by, when behind a proxy.")
@click.option("--platform", "platforms", multiple=True, help="process, container, ...; repeatable.")
@click.option("--data", multiple=True, help="URL prefix it may stage and write; repeatable.  [default: all]")
@click.option("--cores", help="Cores to offer.  [default: all]")
@click.option("--memory", help="GiB of memory to offer.  [default: all]")
@click.option("--booking", help="queue: as soon as free; slots: a calendar.  [default: queue]")
@click.option("--print-config", is_flag=True, help="Print the configuration that would be used, and stop.")
@click.option("--end-sessions-on-exit", is_flag=True, help="Cancel what runs when the node is stopped.")
@click.option("--exit-with-parent", is_flag=True, help="Stop when the process that started it is gone.")
@click.pass_context
def node(context: click.Context, /, config: Path | None, **given: Any) -> None:
    """Run one ExecutionBroker node: it makes offers for this machine and runs what is accepted.

    It knows nothing of workflows; any ExecutionBroker client can use it. A service is told of it with
    "wes-bridge serve --broker NAME=URL".

    \b
    Examples:
      wes-bridge node --port 8081
      wes-bridge node --name jbo --port 8081 --state /var/lib/jbo --data file:///shared/
      wes-bridge node --config node.yaml

    Settings are flags, environment variables (WES_BRIDGE_NODE_PORT=8081) or lines of the file
    (port: 8081); the first wins.

    Exit codes: 0 stopped as asked; 1 it could not be started; 2 the configuration is wrong.
    """
    if context.invoked_subcommand is None:
        _run(config, given)


for command in (drain, open_node, status):
    node.add_command(command)


def _run(config: Path | None, given: dict[str, Any]) -> None:
    from wes_bridge.cli.configure import dump, node_config  # noqa: PLC0415

    others = {"state": "state_dir", "memory": "memory_gib", "booking": "booking.mode"}
    flags = settings_given(given, "name", "host", "port", "public_url", "cores", **others)
    if given["platforms"]:
        flags["platforms",] = list(given["platforms"]), "--platform"
    if given["data"]:
        flags["data",] = list(given["data"]), "--data"
    settings = in_folder(settled(node_config, config, flags), "node")
    if given["print_config"]:
        click.echo(dump(settings), nl=False)
        return
    passed_on = ("end_sessions_on_exit", "exit_with_parent")
    become(
        "wes_bridge.node.main",
        settings,
        *("--" + name.replace("_", "-") for name in passed_on if given[name]),
    )
