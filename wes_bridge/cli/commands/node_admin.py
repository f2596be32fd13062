"""``wes-bridge node drain | open | status``: what a site's administrator does with a node that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_TIMEOUT = 30.0


def _which(command: Any) -> Any:
    """The ways to say which node."""
    for option in (
        click.option(
            "--state", type=click.Path(path_type=Path), help="With --name: the node's state folder."
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

    Run it on the node's own machine.

    \b
    Examples:
      wes-bridge node drain http://127.0.0.1:8081
      wes-bridge node drain --name jbo --cancel-booked
    """
    answer = _call("POST", _url(url, name, state), "/admin/drain", {"cancelBooked": cancel_booked})
    cancelled = f", {answer.get('cancelled', 0)} cancelled" if cancel_booked else ""
    left = answer["sessions"]["accepted"]
    click.echo(f"{answer['name']} is draining: {left} sessions to go{cancelled}")


@click.command("open")
@_which
def open_node(url: str | None, name: str | None, state: Path | None) -> None:
    """Let a drained node take new sessions again. Run it on the node's own machine."""
    answer = _call("POST", _url(url, name, state), "/admin/open")
    click.echo(f"{answer['name']} is open")


@click.command("status")
@_which
def status(url: str | None, name: str | None, state: Path | None) -> None:
    """Print whether a node takes new sessions, and what of its quota is in use."""
    answer = _call("GET", _url(url, name, state), "/status")
    since = f" since {answer['since']}" if "since" in answer else ""
    sessions = answer["sessions"]
    click.echo(f"{answer['name']} is {answer['state']}{since}")
    most_at_once = answer["quota"].pop("sessions")
    click.echo(f"sessions: {sessions['running']} of {most_at_once} running, {sessions['accepted']} accepted")
    for part, most in answer["quota"].items():
        unit, scale = (" GiB", 1024**3) if part in ("memory", "storage") else ("", 1)
        click.echo(f"{part}: {answer['used'][part] / scale:g} of {most / scale:g}{unit} in use")


def _url(url: str | None, name: str | None, state: Path | None) -> str:
    """The node's URL: as given, or from the note it left in its state folder."""
    if (url is None) == (name is None):
        raise click.UsageError("say which node: its URL, or --name NAME")
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise click.UsageError(f"not the URL of a node: {url}; one begins with http://")
        return url.rstrip("/")
    folders = [Path(f"wes-bridge-node-{name}"), Path("wes-bridge-state/nodes") / str(name)]
    for folder in [state] if state else folders:
        try:
            return (folder / "url").read_text().strip()
        except OSError:
            continue
    looked = ", ".join(str(folder.absolute()) for folder in ([state] if state else folders))
    raise click.UsageError(f"no node has run in {looked}; give --state, or the node's URL")


def _call(method: str, node: str, path: str, body: object = None) -> Any:
    import requests  # noqa: PLC0415

    url = node + path
    try:
        answer = requests.request(method, url, json=body, timeout=_TIMEOUT)
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
