"""``wes-bridge login`` at a real OIDC provider: by code, tokens in a file of the user's own, renewed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.auth.callers import by_token
from tests.auth.provider import CLIENT, LOGIN_CLIENT, Provider, provider
from tests.auth.serving import served
from wes_bridge.auth.exchange import claims
from wes_bridge.client.kept_tokens import KeptTokens, Login, origin_of
from wes_bridge.config import ServiceConfig
from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE
from wes_bridge.wes.app import create_app

COMMAND = [sys.executable, "-m", "wes_bridge.cli.main"]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provider(tmp_path_factory.mktemp("issuer"), ttl=600) as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, issuer: Provider) -> Iterator[str]:
    client = {"issuer": issuer.issuer, "client_id": CLIENT, "login_client_id": LOGIN_CLIENT}
    config = ServiceConfig.model_validate(
        {
            "state_dir": tmp_path / "state",
            "nodes": [],
            "brokers": [{"name": "a", "url": "http://127.0.0.1:9", "delegation": {"audience": "a"}}],
            "delegation": {"issuers": [client]},
        }
    )
    database = Database(config.database_url, SERVICE)
    with served(by_token(create_app(config, database, lambda: None))) as url:
        yield url
    database.close()


class Person:
    """Somebody with a configuration folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "WES_BRIDGE_LOGINS": str(folder), "WES_BRIDGE_KEYRING": "off"}

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [*COMMAND, *words], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def login(self, service: str, issuer: Provider, name: str, *options: str) -> str:
        process = subprocess.Popen(
            [*COMMAND, "login", service, *options],
            env={**self.env, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Open "):
                issuer.confirm(line.split()[1], name)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        return said

    def access(self, service: str) -> str:
        text = json.loads((self.folder / "tokens.json").read_text())[origin_of(service)]
        token: str = json.loads(text)["access"]
        return token


@pytest.mark.slow
def test_a_person_signs_in_and_out(tmp_path: Path, service: str, issuer: Provider) -> None:
    person = Person(tmp_path / "home")
    said = person.login(service, issuer, "alice")
    assert "signed in" in said
    assert issuer.issuer in said
    first = person.access(service)
    assert claims(first)["sub"] == "alice"
    assert first not in said
    for path in person.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(person.folder.stat().st_mode) == 0o700
    assert "alice of" in person.run("whoami")
    assert not json.loads(person.run("runs", "--wes", service, "--json"))
    assert "signed out" in person.run("logout", service)
    assert first not in "".join(path.read_text() for path in person.folder.iterdir())
    assert "not signed in" in person.run("whoami")


@pytest.mark.slow
def test_a_token_is_renewed_and_the_commands_go_on(tmp_path: Path, service: str, issuer: Provider) -> None:
    issuer.control(life="5")  # less than what is kept in reserve: each command needs a new one
    try:
        person = Person(tmp_path / "home")
        person.login(service, issuer, "alice")
        first = person.access(service)
        person.run("runs", "--wes", service)
        second = person.access(service)
        assert second != first
        assert claims(second)["sub"] == "alice"
        person.run("runs", "--wes", service)
        assert person.access(service) != second
    finally:
        issuer.control(life="600")


def test_no_token_goes_to_another_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptTokens(tmp_path)
    monkeypatch.setenv("WES_BRIDGE_KEYRING", "off")
    login = Login("i", "c", "t", "canary", "", 2**40)
    kept.put("https://wes.example.org", login)
    for url in (
        "https://wes.example.org:444",
        "http://wes.example.org",
        "https://wes.example.org.evil.org",
        "https://example.org",
        "https://wes.example.org@evil.org/",
    ):
        assert kept.get(url) is None, url
    assert kept.get("https://wes.example.org/ga4gh/wes/v1") == login


def test_a_service_without_tls_gets_no_sign_in() -> None:
    done = subprocess.run(
        [*COMMAND, "login", "http://wes.example.org"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "not https" in done.stderr
