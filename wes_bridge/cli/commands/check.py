"""``wes-bridge check``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wes_bridge.cli.flags import brokers_given, settings_given, settled
from wes_bridge.cli.remote import json_option, put_json

if TYPE_CHECKING:
    from wes_bridge.engine.seeing import Seen

_MARKS = {True: "ok", False: "FAILED", None: "?"}


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="The service's settings, as YAML.")
@click.option("--state", type=click.Path(), help="The service's folder.  [default: wes-bridge-state]")
@click.option("--broker", "brokers", multiple=True, metavar="NAME=URL", help="Try this one; repeatable.")
@json_option
def check(config: Path | None, as_json: bool, **given: Any) -> None:
    """Try whether brokers see what they are said to see, and tell what to do where they do not.

    Each broker gets a small step, as a run would give it: a file goes there and comes back, by the shared
    disk or over HTTP. Then each place that it says it reads (data of the broker, else of its node) is asked
    for something: a folder for a file that must be the same one, a store or server for an answer.

    Run it as the service's user, on the service's machine, while the service runs.

    \b
    Examples:
      wes-bridge check
      wes-bridge check --config wes-bridge.yaml

    Exit codes: 0 all is as it is said to be; 1 something is not; 2 the configuration is wrong.
    """
    from wes_bridge.cli.configure import service_config  # noqa: PLC0415
    from wes_bridge.cli.trying import CheckError, tried  # noqa: PLC0415

    flags = settings_given(given, state="state_dir") | brokers_given(given["brokers"])
    settings = settled(service_config, config, flags)
    try:
        found = asyncio.run(tried(settings))
    except CheckError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None
    if as_json:
        put_json([asdict(seen) for seen in found])
    else:
        _show(found)
    raise SystemExit(1 if any(seen.good is False for seen in found) else 0)


def _show(found: list[Seen]) -> None:
    for seen in found:
        click.echo(f"{_MARKS[seen.good]:7}{seen.broker}: {seen.what}: {seen.text}")
        if seen.advice:
            click.echo(f"       to do: {seen.advice}")
    if not found:
        click.echo("there are no brokers to try")
