"""Users of a real OpenID provider (npm ``oidc-provider``) get in, by signed and by opaque tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.auth.conftest import API, Starter
from tests.auth.provider import Provider
from tests.auth.provider import provider as start_provider
from tests.service.conftest import Service
from tests.waiting import until
from wes_bridge.auth import issuer as issuer_module
from wes_bridge.client import WESClient

RUNS = f"{API}/runs"
TOOL = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: echo, inputs: [], outputs: []}"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with start_provider(tmp_path_factory.mktemp("issuer")) as made:
        yield made


@pytest.fixture(scope="module")
def site(
    start_service: Starter, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    secret = tmp_path_factory.mktemp("secret") / "client"
    secret.write_text("bob-secret\n")
    issuer = {
        "issuer": provider.issuer,
        "audience": ["wes-bridge"],
        "scopes": ["wes-service"],
        "introspection": {"client_id": "bob", "secret": {"file": str(secret)}, "cache": 0},
    }
    made = start_service(authentication={"oidc": [issuer]})
    yield made
    made.stop()


def status(site: Service, token: str) -> int:
    return httpx.get(site.url + RUNS, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code


def test_users_of_a_real_provider_run_workflows(site: Service, provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "t.cwl").write_text(TOOL)
    with WESClient(site.url, token=provider.token("alice")) as alice:
        run_id = alice.submit(tmp_path / "t.cwl", {})
        assert alice.wait(run_id, timeout=120) == "COMPLETE"
    with WESClient(site.url, token=provider.token("bob")) as bob:
        assert run_id not in [run["run_id"] for run in bob.runs()]


def test_tokens_for_others_and_with_too_little_are_refused(site: Service, provider: Provider) -> None:
    assert status(site, provider.token(resource="urn:x:other")) == 401
    assert status(site, provider.token(scope="other")) == 403


def test_its_opaque_tokens_are_asked_about(site: Service, provider: Provider) -> None:
    token = provider.token(resource="urn:x:opaque")
    assert "." not in token
    assert status(site, token) == 200
    assert status(site, token[:-1] + ("A" if token[-1] != "A" else "B")) == 401


@pytest.mark.slow
def test_its_keys_change_and_then_the_kind_of_signature(site: Service, provider: Provider) -> None:
    assert status(site, provider.token()) == 200
    provider.rotate()
    new = provider.token()
    until(lambda: status(site, new) == 200, seconds=3 * issuer_module.AGAIN)
    provider.rotate(alg="ES256", drop="1")
    newest = provider.token()
    until(lambda: status(site, newest) == 200, seconds=3 * issuer_module.AGAIN)
    assert status(site, new) == 401  # its key is gone, and what was found good before does not count
