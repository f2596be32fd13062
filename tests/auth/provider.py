"""A real OIDC provider (npm ``oidc-provider``) with device login, refresh tokens and RFC 8693."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

_PROGRAM = Path(__file__).parent / "oidc_provider"
_MODULES = "WES_BRIDGE_TEST_OIDC"
"""Names the folder in which npm has installed oidc-provider."""
CLIENT, SECRET = "wes-bridge", "wbsecret"
LOGIN_CLIENT = "user-cli"


class Provider:
    """A provider that runs.

    Attributes:
        issuer: its URL.
        asked: for which audiences tokens were asked for, in order; read with :meth:`exchanges`.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def post(self, path: str, **form: str) -> dict[str, Any]:
        """What it answers to a form."""
        answer: dict[str, Any] = requests.post(self.issuer + path, data=form, timeout=20).json()
        return answer

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
def provider(folder: Path, ttl: int = 60) -> Iterator[Provider]:
    """Start a provider; skips the test where there is none."""
    modules = Path(os.environ.get(_MODULES) or Path(tempfile.gettempdir()) / "oidc" / "node_modules")
    if shutil.which("node") is None or not (modules / "oidc-provider").is_dir():
        pytest.skip(f"npm's oidc-provider is not in {_MODULES}")
    for program in _PROGRAM.glob("*.mjs"):
        shutil.copy(program, folder / program.name)
    (folder / "node_modules").symlink_to(modules)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["node", "op.mjs"],
        cwd=folder,
        env={**os.environ, "PORT": str(port), "TTL": str(ttl)},
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("w"),
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("up "), (folder / "log").read_text()
        yield Provider(line.split()[1])
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
