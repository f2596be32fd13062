"""``wes-bridge node drain | open | status``: what a site's administrator does with a node that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from wes_bridge.auth.private import bearer
from wes_bridge.auth.tokens import TOKEN

_TIMEOUT = 30.0


def _which(command: Any) -> Any:
    """The ways to say which node."""
    for option in (
        click.option(
            "--state", type=click.Path(path_type=Path), help="The node's state folder, with its token."
        ),
        click.option("--name", help="Of a node whose state folder is here; instead of URL."),
        click.argument("url", required=False),
    ):
        command = option(command)
    return command


@click.command()
@_which
@click.option("--cancel-booked", is_flag=True, help="Cancel the sessions that have not begun, too.")
def drain(url: str | None, name: str | None, state: Path | None, cancel_booked: bool) -> None:
    """Let a node take nothing new; what was accepted goes on. It stays so, also when restarted.

    Whoever does this must be an administrator of the node: the user who started it, or somebody who can read
    its state folder, or somebody whose token is in WES_BRIDGE_TOKEN.

    \b
    Examples:
      wes-bridge node drain http://127.0.0.1:8081
      wes-bridge node drain --name jbo --cancel-booked
    """
    answer = _call(*_which_node(url, name, state), "POST", "/admin/drain", {"cancelBooked": cancel_booked})
    cancelled = f", {answer.get('cancelled', 0)} cancelled" if cancel_booked else ""
    left = answer["sessions"]["accepted"]
    click.echo(f"{answer['name']} is draining: {left} sessions to go{cancelled}")


@click.command("open")
@_which
def open_node(url: str | None, name: str | None, state: Path | None) -> None:
    """Let a drained node take new sessions again; see "drain"."""
    answer = _call(*_which_node(url, name, state), "POST", "/admin/open")
    click.echo(f"{answer['name']} is open")


@click.command("status")
@_which
def status(url: str | None, name: str | None, state: Path | None) -> None:
    """Print whether a node takes new sessions, and what of its quota is in use."""
    answer = _call(*_which_node(url, name, state), "GET", "/status")
    since = f" since {answer['since']}" if "since" in answer else ""
    sessions = answer["sessions"]
    click.echo(f"{answer['name']} is {answer['state']}{since}")
    most_at_once = answer["quota"].pop("sessions")
    click.echo(f"sessions: {sessions['running']} of {most_at_once} running, {sessions['accepted']} accepted")
    for part, most in answer["quota"].items():
        unit, scale = (" GiB", 1024**3) if part in ("memory", "storage") else ("", 1)
        click.echo(f"{part}: {answer['used'][part] / scale:g} of {most / scale:g}{unit} in use")


def _which_node(url: str | None, name: str | None, state: Path | None) -> tuple[str, str | None]:
    """The node's URL, as given or from the note it left in its state folder, and the token for it."""
    if (url is None) == (name is None):
        raise click.UsageError("say which node: its URL, or --name NAME")
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise click.UsageError(f"not the URL of a node: {url}; one begins with http://")
        return url.rstrip("/"), os.environ.get("WES_BRIDGE_TOKEN") or _token(state)
    folders = [Path(f"wes-bridge-node-{name}"), Path("wes-bridge-state/nodes") / str(name)]
    for folder in [state] if state else folders:
        try:
            return (folder / "url").read_text().strip(), _token(folder)
        except OSError:
            continue
    looked = ", ".join(str(folder.absolute()) for folder in ([state] if state else folders))
    raise click.UsageError(f"no node has run in {looked}; give --state, or the node's URL")


def _token(folder: Path | None) -> str | None:
    """What opens a node to whoever may read its state folder, root for example."""
    try:
        return (folder / TOKEN).read_text().strip() if folder else None
    except OSError:
        return None


def _call(node: str, token: str | None, method: str, path: str, body: object = None) -> Any:
    import requests  # noqa: PLC0415

    url = node + path
    headers = {"Authorization": bearer(token)} if token else None
    try:
        answer = requests.request(method, url, json=body, timeout=_TIMEOUT, headers=headers)
    except requests.RequestException as error:
        reason = "does not answer" if isinstance(error, requests.ConnectionError) else str(error)
        raise click.ClickException(f"{url}: {reason}; is the node running?") from None
    try:
        found = answer.json()
    except ValueError:
        found = None
    if answer.ok and isinstance(found, dict) and "quota" in found:
        return found
    if answer.status_code == requests.codes.not_found:
        raise click.ClickException(
            f"{url} is not there, so {node} is no wes-bridge node; if it is an aggregator or a service,"
            " give the address of one of its nodes"
        )
    told = found.get("message") if isinstance(found, dict) else None
    raise click.ClickException(
        f"{url}: {told or f'answered {answer.status_code}; is that a wes-bridge node?'}"
    )
