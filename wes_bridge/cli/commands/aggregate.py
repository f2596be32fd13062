"""``wes-bridge aggregate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wes_bridge.cli.flags import become, brokers_given, in_folder, settings_given, settled


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Settings, as YAML; see --print-config.")
@click.option(
    "--broker", "brokers", multiple=True, metavar="NAME=URL", help="An ExecutionBroker to ask; repeatable."
)
@click.option("--name", help="Of the aggregator.  [default: aggregator]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0: a free one.  [default: 0]")
@click.option(
    "--state", type=click.Path(), help="Folder for its database.  [default: wes-bridge-aggregator-NAME]"
)
@click.option("--public-url", help="What clients call it by, when behind a proxy; may have a path.")
@click.option("--deadline", help="Seconds the brokers have to make offers.  [default: 4]")
@click.option("--offers", help="Offers to pass on, the best ones.  [default: 10]")
@click.option("--print-config", is_flag=True, help="Print the configuration that would be used, and stop.")
def aggregate(config: Path | None, **given: Any) -> None:
    """Run an aggregator: one ExecutionBroker that asks many others and passes on their best offers.

    Clients talk to it only: it can stand at the edge of a site whose nodes nobody else can reach. It fills in
    what a request leaves open (image digests, copies of data, sizes), and when one offer is accepted it
    rejects those of the other brokers. A broker can be a node, a Calycopis broker, or another aggregator.

    \b
    Examples:
      wes-bridge aggregate --broker n1=http://10.0.0.1:8082 --broker n2=http://10.0.0.2:8082 --port 8081
      wes-bridge aggregate --config site.yaml --public-url https://site.example.org/broker
      wes-bridge serve --no-node --broker site=https://site.example.org/broker

    \b
    The file:
      name: site
      brokers:
        - {name: n1, url: "http://10.0.0.1:8082"}
      images:
        python:3.12: {digest: "sha256:...", locations: ["registry.example.org/python:3.12"]}
      data:
        - prefix: "skao:"
          replicas:
            - {url: "file:///data/skao/", brokers: [n1]}
            - {url: "https://store.example.org/skao/"}
      defaults: {cores: 1, memory_gib: 2, duration: PT1H}

    Settings are flags, environment variables (WES_BRIDGE_AGGREGATE_PORT=8081) or lines of the file
    (port: 8081); the first wins. Prints "wes-bridge aggregator NAME is ready at URL" when it answers, and
    runs until Ctrl-C or SIGTERM. What it has told stays true when it is started again with the same folder.

    Exit codes: 0 stopped as asked; 1 it could not be started; 2 the configuration is wrong.
    """
    from wes_bridge.cli.configure import aggregator_config, dump  # noqa: PLC0415

    same = ("name", "host", "port", "public_url", "deadline", "offers")
    flags = settings_given(given, *same, state="state_dir") | brokers_given(given["brokers"])
    settings = in_folder(settled(aggregator_config, config, flags), "aggregator")
    if given["print_config"]:
        click.echo(dump(settings), nl=False)
        return
    become("wes_bridge.aggregator.main", settings)
