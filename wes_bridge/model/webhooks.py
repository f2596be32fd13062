"""What a run's engine parameters say of its webhook, and how deliveries are signed. No I/O.

Headers and signature are those of Standard Webhooks (standardwebhooks.com): receivers can use its libraries.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from wes_bridge.model.states import FINAL_STATES, State

URL, SECRET, STATES = "webhook", "webhook_secret", "webhook_states"
"""Names of the engine parameters."""
_NAMES = (URL, SECRET, STATES)
HIDDEN = "***"
"""What is shown in place of a secret."""
MAX_URL = 2048
MIN_SECRET, MAX_SECRET = 16, 256
"""Characters of a secret."""
_CODED = "whsec_"
TELLABLE = (State.INITIALIZING, State.RUNNING, State.CANCELING)
"""States that can be told beside the final ones."""


class WebhookError(ValueError):
    """A webhook that cannot be used; the text names the parameter and never holds the secret."""


class WebhookRequest(BaseModel):
    """A run's wish to be told of.

    Attributes:
        url: absolute, http or https.
        secret: as given; :func:`key` makes the key of it.
        states: told beside the final ones; None: what the site has set.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    secret: str | None = None
    states: tuple[State, ...] | None = None


def read_webhook(parameters: Mapping[str, str]) -> WebhookRequest | None:
    """The webhook that engine parameters ask for; None when they name none.

    Raises:
        WebhookError: says which parameter is wrong and what it should be.
    """
    given = {name: text for name, text in parameters.items() if name.startswith(URL) and text != ""}
    for name in given:
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, 1)
            raise WebhookError(f"{name}: there is no such parameter; did you mean {(near or [URL])[0]!r}?")
    if not given:
        return None
    if URL not in given:
        raise WebhookError(f"{next(iter(given))} needs {URL} with it: the URL that is called")
    _check_url(given[URL])
    secret = given.get(SECRET)
    if secret is not None:
        _check_secret(secret)
    states = _states(given[STATES]) if STATES in given else None
    return WebhookRequest(url=given[URL], secret=secret, states=states)


def hide_secret(parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters as they may be stored with the run and shown."""
    return {name: HIDDEN if name == SECRET and text else text for name, text in parameters.items()}


def _check_url(url: str) -> None:
    if len(url) > MAX_URL:
        raise WebhookError(f"{URL}: longer than {MAX_URL} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookError(f"{URL}: must be written in printable ASCII without spaces")
    try:
        split = urlsplit(url)
        split.port  # noqa: B018 - raises on a bad port
    except ValueError as error:
        raise WebhookError(f"{URL}: is not a URL: {error}") from error
    if split.scheme not in ("http", "https") or not split.hostname:
        raise WebhookError(f"{URL}: must be an absolute http or https URL, not {url[:80]!r}")
    if split.username is not None or split.password is not None:
        raise WebhookError(f"{URL}: must not hold a user or password; use {SECRET} to know who calls")
    if split.fragment:
        raise WebhookError(f"{URL}: must not have a fragment (#...)")


def _check_secret(secret: str) -> None:
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise WebhookError(f"{SECRET}: must have {MIN_SECRET} to {MAX_SECRET} characters, not {len(secret)}")
    if "\0" in secret:
        raise WebhookError(f"{SECRET}: has a NUL character")
    try:
        key(secret)
    except (binascii.Error, UnicodeEncodeError):
        raise WebhookError(f"{SECRET}: what follows {_CODED} must be base64, and all of it text") from None


def _states(text: str) -> tuple[State, ...]:
    names = [part.strip() for part in text.strip("[] ").replace('"', "").split(",") if part.strip()]
    if names == ["final"]:
        return ()
    tellable = (*TELLABLE, *FINAL_STATES)
    for name in names:
        if name not in tellable:
            shown = ", ".join(state.value for state in TELLABLE)
            raise WebhookError(f"{STATES}: {name[:40]!r} is none of {shown} (final states are always told)")
    return tuple(state for state in TELLABLE if state.value in names)


def key(secret: str) -> bytes:
    """The key of a secret: what ``whsec_`` stands before is base64, anything else is taken as it is.

    Raises:
        binascii.Error: it is not base64.
        UnicodeEncodeError: it is no text.
    """
    if secret.startswith(_CODED):
        return base64.b64decode(secret.removeprefix(_CODED), validate=True)
    return secret.encode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: HMAC-SHA256 of id, timestamp and body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key(secret), signed, hashlib.sha256).digest()).decode()
