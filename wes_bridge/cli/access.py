"""How click's commands come by their credentials: the option ``--token-file``, errors in click's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from wes_bridge.cli.credentials import TOKEN_FILE, CredentialsError
from wes_bridge.cli.credentials import credentials as _credentials


def token_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--token-file`` option of commands that talk to a service."""
    return click.option(
        "--token-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_note,
        help="File with the token that the service wants; or set WES_BRIDGE_TOKEN_FILE.",
    )(function)


def credentials(url: str | None = None) -> dict[str, Any]:
    """As :func:`wes_bridge.cli.credentials.credentials`, with what the command line says.

    Raises:
        click.UsageError: what was given is of no use.
    """
    context = click.get_current_context(silent=True)
    given = context.find_root().meta.get(TOKEN_FILE) if context is not None else None
    try:
        return _credentials(url, given)
    except CredentialsError as error:
        raise click.UsageError(str(error)) from error


def _note(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    context.find_root().meta[TOKEN_FILE] = value
