"""``wes-bridge keys``: API keys for machines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

_ROLES = ("user", "admin", "service")


def _state(command: Any) -> Any:
    return click.option(
        "--state",
        type=click.Path(path_type=Path),
        default="wes-bridge-state",
        show_default=True,
        help="State folder of the service, node or aggregator.",
    )(command)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys, by which machines are known to a service, a node or an aggregator.

    Keys are kept as hashes in the state folder; a server that runs takes changes up within a second.

    \b
    Examples:
      wes-bridge keys create nightly --expires P90D > nightly.key
      wes-bridge keys create wes --role service --state /srv/node > service.key
      wes-bridge keys list
      wes-bridge keys revoke nightly
    """


@keys.command()
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(_ROLES), help="Repeatable.  [default: user]"
)
@click.option("--group", "groups", multiple=True, help="Of which it is a member; repeatable.")
@click.option("--expires", metavar="DURATION", help="When it ends: P90D, PT12H.  [default: never]")
@_state
def create(
    name: str, roles: tuple[Any, ...], groups: tuple[str, ...], expires: str | None, state: Path
) -> None:
    """Make a key and print it on standard output: now or never, since it is not kept.

    The machine that sends it as a bearer token is known as key:NAME. A key with the role "service" may name
    the user for whom it asks; give it to a service for its 'credentials' of a broker.
    """
    from wes_bridge.auth.api_keys import KeyFile  # noqa: PLC0415
    from wes_bridge.model.units import parse_duration  # noqa: PLC0415

    try:
        end = datetime.now(UTC) + parse_duration(expires) if expires else None
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--expires") from error
    try:
        key, text = KeyFile(state).create(name, roles or ("user",), groups, end)
    except ValueError as error:
        raise click.BadParameter("a name has letters, digits, '.', '_' and '-'", param_hint="NAME") from error
    except OSError as error:
        raise click.ClickException(f"{state}: {error.strerror}") from error
    click.echo(f"key {key.id} of {name}; put it where only its machine can read it", err=True)
    click.echo(text)


@keys.command("list")
@_state
def list_keys(state: Path) -> None:
    """List all keys: id, name, roles, groups, when they were made and when they end."""
    from wes_bridge.cli.remote import put_table  # noqa: PLC0415

    rows = [
        [
            key.id,
            key.name,
            ",".join(key.roles),
            ",".join(key.groups),
            key.created.isoformat(timespec="seconds"),
            key.expires.isoformat(timespec="seconds") if key.expires else "never",
        ]
        for key in _read(state)
    ]
    put_table(["id", "name", "roles", "groups", "created", "expires"], rows)


@keys.command()
@click.argument("which", metavar="NAME-OR-ID")
@_state
def revoke(which: str, state: Path) -> None:
    """Take keys away, by name or id; servers that run refuse them within a second."""
    from wes_bridge.auth.api_keys import KeyFile  # noqa: PLC0415

    known = _read(state)
    gone = KeyFile(state).revoke(which)
    if not gone:
        there = ", ".join(key.name for key in known) or "none"
        raise click.ClickException(f"no key has the name or id {which!r}; there are: {there}")
    for key in gone:
        click.echo(f"key {key.id} of {key.name} is revoked")


def _read(state: Path) -> Any:
    from wes_bridge.auth.api_keys import KeyFile  # noqa: PLC0415

    try:
        return KeyFile(state).read()
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
