"""A real OIDC provider (npm ``oidc-provider``) with device login, refresh tokens and RFC 8693."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

_PROGRAM = Path(__file__).with_name("provider.mjs")
_MODULES = Path(os.environ.get("OIDC_PROVIDER") or Path(__file__).parents[2] / ".clients/oidc")
"""Where ``npm install oidc-provider@9`` was done; ``.ci/run`` does it there."""
CLIENT, SECRET = "wes-bridge", "wbsecret"
LOGIN_CLIENT = "user-cli"
NODE = "node"
"""A node's client, and what tokens for that node are for; its secret is the same."""


class Provider:
    """A provider that runs.

    Attributes:
        issuer: its URL.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def post(self, path: str, **form: str) -> dict[str, Any]:
        """What it answers to a form."""
        answer: dict[str, Any] = requests.post(self.issuer + path, data=form, timeout=20).json()
        return answer

    def exchange(self, token: str, audience: str) -> str:
        """A user's token for the service, made into one for somebody else, as the service does it."""
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": audience,
        }
        answer = requests.post(f"{self.issuer}/token", data=form, auth=(CLIENT, SECRET), timeout=60)
        assert answer.status_code == 200, answer.text
        made: str = answer.json()["access_token"]
        return made

    def control(self, **settings: str) -> dict[str, Any]:
        """Change how it behaves, or see what it did."""
        answer: dict[str, Any] = requests.post(
            f"{self.issuer}/test/control", params=settings, timeout=20
        ).json()
        return answer

    def exchanges(self) -> list[str]:
        """Audiences for which tokens were given."""
        found: list[str] = self.control()["exchanges"]
        return found

    def token(self, name: str = "alice", resource: str = "urn:x:jwt", scope: str = "wes-service") -> str:
        """An access token of a client for itself.

        Args:
            name: alice or bob.
            resource: ``urn:x:jwt``, ``urn:x:opaque``: for wes-bridge; ``urn:x:other``: for somebody else.
            scope: wes-service or other.
        """
        form = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        answer = requests.post(f"{self.issuer}/token", data=form, auth=(name, f"{name}-secret"), timeout=60)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def rotate(self, **how: str) -> None:
        """Change its keys; see ``provider.mjs``."""
        assert requests.post(f"{self.issuer}/test/rotate", params=how, timeout=60).status_code == 200

    def login(self, user: str, scope: str = "openid offline_access wes-service") -> dict[str, Any]:
        """Log in as a user, as a person does with a device code in a browser; the tokens."""
        begun = self.post("/device/auth", client_id=LOGIN_CLIENT, scope=scope)
        self.confirm(begun["verification_uri_complete"], user)
        return self.post(
            "/token",
            client_id=LOGIN_CLIENT,
            grant_type="urn:ietf:params:oauth:grant-type:device_code",
            device_code=begun["device_code"],
        )

    def confirm(self, address: str, user: str) -> None:
        """What a person does in their browser with the address that a device shows."""
        with requests.Session() as browser:
            page = browser.get(address, timeout=20)
            for _ in range(5):
                form = _form(page.text)
                if form is None:
                    break
                if "login" in form:
                    form |= {"login": user, "password": "any"}
                action = _action(page.text) or page.url
                page = browser.post(urljoin(page.url, action), data=form, timeout=20)
            assert "Sign-in Success" in page.text or "success" in page.text.lower(), page.text[:2000]


def _action(page: str) -> str | None:
    found = re.search(r"<form[^>]*action=\"([^\"]+)\"", page)
    return found[1] if found else None


def _form(page: str) -> dict[str, str] | None:
    if "<form" not in page:
        return None
    values = {}
    for field in re.findall(r"<input[^>]*>", page):
        name, value = re.search(r"name=\"([^\"]+)\"", field), re.search(r"value=\"([^\"]*)\"", field)
        if name and name[1] != "abort":
            values[name[1]] = value[1] if value else ""
    return values | ({"confirm": "yes"} if "user_code" in values else {})


@contextlib.contextmanager
def provider(folder: Path, ttl: int = 600) -> Iterator[Provider]:
    """Start a provider; skips the test where there is none.

    Args:
        folder: for its log.
        ttl: seconds that its access tokens are good.
    """
    node = shutil.which("node")
    if node is None or not (_MODULES / "node_modules/oidc-provider").is_dir():
        pytest.skip(
            "a real OpenID provider needs node, and: npm install --prefix .clients/oidc oidc-provider@9"
        )
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [node, str(_PROGRAM)],
            env=os.environ | {"MODULES": str(_MODULES), "TTL": str(ttl)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("ready ")), None)
            assert line is not None, log.read_text()
            yield Provider(line.split()[1])
        finally:
            process.kill()
