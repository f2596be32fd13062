"""What commands that talk to a service share: its address, errors as words, output for people or programs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from wes_bridge.cli.access import credentials, token_option
from wes_bridge.cli.exit_codes import code_of_refusal
from wes_bridge.client import WESClient, WESError
from wes_bridge.model.finite import finite_json

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_URL = "http://127.0.0.1:8080"
STYLES = {
    "COMPLETE": "green",
    "RUNNING": "cyan",
    "INITIALIZING": "cyan",
    "EXECUTOR_ERROR": "red",
    "SYSTEM_ERROR": "red",
    "CANCELED": "yellow",
    "CANCELING": "yellow",
    "PREEMPTED": "yellow",
}


def wes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--wes`` option of commands that need a running service."""
    return token_option(
        click.option(
            "--wes",
            envvar="WES_BRIDGE_URL",
            default=DEFAULT_URL,
            show_default=True,
            metavar="URL",
            help="The service; or set WES_BRIDGE_URL.",
        )(function)
    )


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--json`` option."""
    return click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")(function)


@contextlib.contextmanager
def connected(url: str) -> Iterator[WESClient]:
    """A client; errors end the command with a message and exit code 1."""
    try:
        with WESClient(url, **credentials(url)) as client:
            yield client
    except WESError as error:
        hint = ""
        if error.status_code in (401, 403):
            hint = " (give --token-file, or set WES_BRIDGE_TOKEN, or WES_BRIDGE_AUTH=user:password)"
        elif error.status_code is None and url == DEFAULT_URL:
            hint = " (start one with: wes-bridge serve; or say where it is with --wes URL)"
        click.echo(f"error: {error.msg}{hint}", err=True)
        raise SystemExit(code_of_refusal(error.msg)) from None


def put_json(value: Any) -> None:
    """Print JSON."""
    click.echo(finite_json(value, indent=2, ensure_ascii=False))


def put_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table: with rules and colours on a terminal, tab-separated elsewhere."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.console import Console  # noqa: PLC0415

    Console().print(rich_table(columns, rows, title))


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """A table for a terminal; states are coloured."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("state", "start", "duration"))
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table
