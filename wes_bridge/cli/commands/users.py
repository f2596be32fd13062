"""``wes-bridge users``: names and passwords of a small site."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click


def _file(command: Any) -> Any:
    return click.option(
        "--file",
        type=click.Path(path_type=Path),
        default="users.txt",
        show_default=True,
        help="As in the configuration: authentication: {basic: {file: FILE}}.",
    )(command)


@click.group()
def users() -> None:
    """Add, list and remove users who are known by a name and a password.

    Passwords are kept as hashes; a server that runs takes changes up within a second.

    \b
    Examples:
      wes-bridge users add alice
      wes-bridge users add alice < password.txt
      wes-bridge users remove alice
    """


@users.command()
@click.argument("name")
@_file
def add(name: str, file: Path) -> None:
    """Add a user, or give one another password; it is asked for, or read from standard input."""
    from wes_bridge.auth.passwords import NAME, RESERVED, hashed  # noqa: PLC0415

    if NAME.fullmatch(name) is None or name in RESERVED:
        raise click.BadParameter("a name has letters, digits, '.', '_', '@' and '-'", param_hint="NAME")
    known = _read(file)
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < 8:
        raise click.ClickException("a password has at least 8 characters")
    _write(file, known | {name: hashed(password)})
    click.echo(f"{name} has a {'new ' if name in known else ''}password in {file}")


@users.command("list")
@_file
def list_users(file: Path) -> None:
    """List the names."""
    for name in _read(file):
        click.echo(name)


@users.command()
@click.argument("name")
@_file
def remove(name: str, file: Path) -> None:
    """Remove a user; their runs stay."""
    known = _read(file)
    if name not in known:
        raise click.ClickException(f"no user {name!r} in {file}")
    _write(file, {other: stored for other, stored in known.items() if other != name})
    click.echo(f"{name} is removed from {file}")


def _read(file: Path) -> dict[str, str]:
    from wes_bridge.auth.passwords import read_users  # noqa: PLC0415

    try:
        return read_users(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _write(file: Path, known: dict[str, str]) -> None:
    new = file.with_name(f".{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:  # noqa: PTH123
            out.writelines(f"{name}:{stored}\n" for name, stored in known.items())
        new.replace(file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
