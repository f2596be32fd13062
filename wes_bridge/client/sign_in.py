"""Signing in at an issuer with a device code (RFC 8628), and renewing what it gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import requests

from wes_bridge.client.errors import WESConnectionError, WESError
from wes_bridge.client.kept_tokens import KeptTokens, Login

_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_TIMEOUT = 20.0
EARLY = 30.0
"""Seconds before its end that a token is renewed."""


@dataclass(frozen=True)
class Asked:
    """What a person has to do: open ``address`` and see that it shows ``code``."""

    address: str
    code: str


def sign_in(issuer: str, client_id: str, scope: str, show: Callable[[Asked], None]) -> Login:
    """Sign in; returns when the person has done so in their browser.

    Args:
        issuer: where.
        client_id: a public client that may use device codes.
        scope: what the tokens are to allow.
        show: told once what the person has to do.

    Raises:
        WESError: the issuer refuses, or the time is over.
    """
    told = _json(issuer, "GET", issuer.rstrip("/") + "/.well-known/openid-configuration")[1]
    endpoint, token_endpoint = told.get("device_authorization_endpoint"), told.get("token_endpoint")
    if told.get("issuer") != issuer or not endpoint or not token_endpoint:
        raise WESError(f"{issuer} does not say that it signs people in with device codes")
    status, begun = _json(issuer, "POST", endpoint, client_id=client_id, scope=scope)
    if status != 200:
        raise WESError(f"{issuer}: {_words(begun)}")
    show(Asked(str(begun.get("verification_uri_complete") or begun["verification_uri"]), begun["user_code"]))
    pause, deadline = float(begun.get("interval", 5)), time.monotonic() + float(begun.get("expires_in", 600))
    while time.monotonic() < deadline:
        status, answer = _json(
            issuer,
            "POST",
            token_endpoint,
            grant_type=_DEVICE,
            device_code=begun["device_code"],
            client_id=client_id,
        )
        if status == 200:
            return _login(answer, Login(issuer, client_id, token_endpoint, "", "", 0.0))
        if answer.get("error") == "slow_down":
            pause += 5
        elif answer.get("error") != "authorization_pending":
            raise WESError(f"{issuer}: {_words(answer)}")
        time.sleep(pause)
    raise WESError(f"nobody has signed in at {issuer} in time: begin again")


def token_for(url: str, kept: KeptTokens | None = None) -> str | None:
    """The token for a service that somebody is signed in at, renewed where that is due; None where nobody is.

    Raises:
        WESError: it has ended and cannot be renewed.
    """
    kept = kept or KeptTokens()
    login = kept.get(url)
    if login is None:
        return None
    if login.until - EARLY > time.time():
        return login.access
    with kept.alone():
        login = kept.get(url) or login
        if login.until - EARLY > time.time():
            return login.access
        if not login.refresh:
            raise WESError(f"your sign-in at {url} has ended: wes-bridge login {url}", 401)
        status, answer = _json(
            login.issuer,
            "POST",
            login.token_endpoint,
            grant_type="refresh_token",
            refresh_token=login.refresh,
            client_id=login.client_id,
        )
        if status != 200:
            raise WESError(f"your sign-in at {url} has ended ({_words(answer)}): wes-bridge login {url}", 401)
        login = _login(answer, login)
        kept.put(url, login)
    return login.access


def _login(answer: Mapping[str, Any], old: Login) -> Login:
    until = time.time() + float(answer.get("expires_in") or 300)
    refresh = str(answer.get("refresh_token") or old.refresh)
    return replace(old, access=str(answer["access_token"]), refresh=refresh, until=until)


def _words(answer: Mapping[str, Any]) -> str:
    said = [str(answer[name]) for name in ("error", "error_description") if answer.get(name)]
    return ": ".join(said) or "it answers with no reason"


def _json(issuer: str, method: str, url: str, **form: str) -> tuple[int, Mapping[str, Any]]:
    try:
        answer = requests.request(
            method,
            url,
            data=form or None,
            timeout=_TIMEOUT,
            allow_redirects=False,
            headers={"Accept": "application/json"},
        )
        found = answer.json()
    except requests.JSONDecodeError:
        raise WESError(f"{issuer} does not answer with JSON: not an issuer?") from None
    except requests.RequestException as error:
        raise WESConnectionError(f"cannot reach {issuer} ({type(error).__name__})") from None
    return answer.status_code, found if isinstance(found, dict) else {}
