"""``wes-bridge login``, ``logout`` and ``whoami``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click
import requests

from wes_bridge.cli.exit_codes import FAILURE
from wes_bridge.client.errors import WESError
from wes_bridge.client.http import BASE_PATH
from wes_bridge.client.kept_tokens import KeptTokens, Login, origin_of
from wes_bridge.client.sign_in import Asked, sign_in, token_for

_TIMEOUT = 20.0
_REFRESH_TOKEN = "X-WES-Bridge-Refresh-Token"  # noqa: S105  # a name


def _service(function: Any) -> Any:
    return click.argument("service", metavar="[SERVICE]", envvar="WES_BRIDGE_URL", required=False)(function)


@click.command()
@_service
@click.option("--issuer", metavar="URL", help="Where to sign in, if the service takes several.")
@click.option(
    "--hand-over",
    is_flag=True,
    help="Give what renews the token to your runs there, so that they outlive it; this command then keeps"
    " only the token itself.",
)
def login(service: str | None, issuer: str | None, hand_over: bool) -> None:
    """Sign in at a service, in any browser, with a code. Runs of yours that are PAUSED there go on.

    \b
    Example:
      wes-bridge login https://wes.example.org
    """
    url = _given(service)
    try:
        place = _choose(_places(url), issuer)
        click.echo(f"{url} takes sign-ins at {place['issuer']}")
        found = sign_in(place["issuer"], place["client_id"], place.get("scope") or "openid", _show)
        kept = Login(**{**vars(found), "refresh": ""}) if hand_over else found
        where = KeptTokens().put(url, kept)
        click.echo(f"signed in at {url}; the tokens are in {where}")
        _let_go_on(url, found, hand_over)
    except WESError as error:
        raise _failed(error) from None


@click.command()
@_service
def logout(service: str | None) -> None:
    """Forget the tokens for a service; runs that act with tokens of yours go on."""
    url = _given(service)
    done = KeptTokens().drop(url)
    click.echo(f"signed out of {url}" if done else f"you were not signed in at {url}")


@click.command()
@_service
def whoami(service: str | None) -> None:
    """Tell where you are signed in, and as whom."""
    from wes_bridge.auth.exchange import claims  # noqa: PLC0415

    kept = KeptTokens()
    places = [origin_of(service)] if service else kept.services()
    if not places:
        click.echo("you are not signed in anywhere; sign in with: wes-bridge login URL")
    for url in places:
        try:
            token = token_for(url, kept)
        except WESError as error:
            click.echo(f"{url}: {error.msg}")
            continue
        told = claims(token or "")
        name = told.get("preferred_username") or told.get("sub") or "somebody"
        click.echo(f"{url}: {name} of {told.get('iss')}" if token else f"{url}: not signed in")


def _given(service: str | None) -> str:
    if not service:
        raise click.UsageError("give the service's URL, or set WES_BRIDGE_URL")
    parts = urlsplit(service if "://" in service else f"http://{service}")
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise click.UsageError(f"{service} is not https: anybody on the way could take your token")
    return service.rstrip("/").removesuffix(BASE_PATH)


def _failed(error: WESError) -> SystemExit:
    click.echo(f"error: {error.msg}", err=True)
    return SystemExit(FAILURE)


def _show(asked: Asked) -> None:
    click.echo(f"Open {asked.address}\nin any browser, and see that it shows the code {asked.code}.")


def _places(url: str) -> list[dict[str, str]]:
    """Where a service lets people sign in."""
    try:
        answer = requests.get(f"{url}{BASE_PATH}/service-info", timeout=_TIMEOUT, allow_redirects=False)
        found = answer.json().get("sign_in") or []
    except (requests.RequestException, ValueError, AttributeError):
        raise WESError(f"{url} does not say where to sign in: is it a wes-bridge service?") from None
    return [place for place in found if isinstance(place, dict)]


def _choose(places: list[dict[str, str]], issuer: str | None) -> dict[str, str]:
    fitting = [place for place in places if issuer in (None, place.get("issuer"))]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(str(place.get("issuer")) for place in places) or "none"
    if not fitting:
        raise WESError(f"nobody signs in there with a code; issuers that the service names: {known}")
    raise WESError(f"say which issuer with --issuer: {known}")


def _let_go_on(url: str, found: Login, hand_over: bool) -> None:
    """Authorise the runs that wait for it; with what renews the token, all that have not ended."""
    headers = {"Authorization": f"Bearer {found.access}"}
    states = ["PAUSED", "QUEUED", "INITIALIZING", "RUNNING"] if hand_over else ["PAUSED"]
    try:
        listed = requests.get(
            f"{url}{BASE_PATH}/runs",
            params=[("page_size", "1000"), *(("state", state) for state in states)],
            headers=headers,
            timeout=_TIMEOUT,
            allow_redirects=False,
        )
        runs = [str(run["run_id"]) for run in listed.json().get("runs") or []]
        for run_id in runs:
            more = {_REFRESH_TOKEN: found.refresh} if hand_over else {}
            done = requests.post(
                f"{url}{BASE_PATH}/runs/{run_id}/authorise",
                headers=headers | more,
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
            if done.ok:
                click.echo(f"authorised run {run_id}")
    except (requests.RequestException, ValueError, KeyError, AttributeError) as error:
        raise WESError(f"{url} does not tell of your runs ({type(error).__name__})") from None
