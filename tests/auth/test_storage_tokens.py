"""A store that wants to see the user gets a token of theirs that was made for it, by a real OIDC provider.

The store is a real WebDAV server (wsgidav) behind a check of the token's signature, audience and subject:
each user reads and writes their own folder.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import SecretStr

from tests.auth.provider import CLIENT, LOGIN_CLIENT, NODE, SECRET, Provider, provider
from tests.node.conftest import ROOT, NodeProcess, Request, Starter, shell, start_node, texts
from tests.service.conftest import Service
from tests.stores import Dav, dav_server
from tests.waiting import until
from wes_bridge.auth.acting import owner_key
from wes_bridge.auth.exchange import claims
from wes_bridge.auth.principal import Principal
from wes_bridge.model.delegation import DelegatedTo, DelegationConfig
from wes_bridge.node.user_tokens import UserTokens

__all__ = ["start_node"]
pytestmark = pytest.mark.slow
LAKE = "the-lake"
SECRET_VARIABLE = "TEST_NODE_SECRET"
F = f"{ROOT}/in/f"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provider(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """Tokens that the lake was shown."""
    return []


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, issuer: Provider, shown: list[str]) -> Iterator[Dav]:
    keys = KeySet.import_key_set(requests.get(f"{issuer.issuer}/jwks", timeout=60).json())

    def allows(token: str, path: str) -> int:
        shown.append(token)
        try:
            told = jwt.decode(token, keys, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return 401
        if told["iss"] != issuer.issuer or told["aud"] != LAKE:
            return 401
        return 200 if path.startswith(f"/lake/{told['sub']}/") else 403

    with dav_server(tmp_path_factory.mktemp("lake") / "dav", set(), allows) as found:
        for user in ("alice", "bob"):
            (found.folder / "lake" / user).mkdir(parents=True)
            (found.folder / "lake" / user / "notes").write_text(f"the notes of {user}\n")
        yield found


@pytest.fixture(scope="module")
def settings(issuer: Provider, lake: Dav) -> dict[str, Any]:
    """Of a node that asks the issuer for tokens for the lake, of folders and of web addresses."""
    web = lake.url.replace("dav:", "http:")
    return {
        "authentication": {"oidc": [{"issuer": issuer.issuer, "audience": [NODE]}], "admins": ["group:ops"]},
        "delegation": {
            "issuers": [{"issuer": issuer.issuer, "client_id": NODE, "secret": {"env": SECRET_VARIABLE}}]
        },
        "webdav": [{"url": f"{lake.url}lake/", "delegation": {"audience": LAKE}, "write": True}],
        "web": [{"url": f"{web}lake/", "delegation": {"audience": LAKE}}],
        "data": ["data:", web],
        "sandbox": "none",
    }


@pytest.fixture(scope="module")
def node(start_node: Starter, settings: dict[str, Any]) -> Iterator[NodeProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET_VARIABLE, SECRET)
        yield start_node(**settings)


@pytest.fixture(scope="module")
def tokens(issuer: Provider) -> dict[str, str]:
    """Of each user, for the node."""
    return {
        user: issuer.exchange(issuer.login(user)["access_token"], NODE) for user in ("alice", "bob", "eve")
    }


@pytest.fixture
def by(node: NodeProcess, tokens: dict[str, str]) -> Any:
    """The node, as a user sees it."""

    def seen_by(user: str | None) -> NodeProcess:
        node.http.headers.pop("Authorization", None)
        if user is not None:
            node.http.headers["Authorization"] = f"Bearer {tokens[user]}"
        return node

    return seen_by


@pytest.fixture(autouse=True)
def _nothing_is_told(node: NodeProcess, tokens: dict[str, str], shown: list[str]) -> Iterator[None]:
    """No token is in any file of the node, its database and logs included."""
    yield
    secrets = [text.encode() for text in {*tokens.values(), *shown} if text]
    for path in node.state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret in content], path


@pytest.mark.parametrize("kind", ["dav", "http"])
def test_each_user_reads_what_is_theirs(by: Any, lake: Dav, kind: str) -> None:
    url = lake.url.replace("dav:", f"{kind}:") + "lake/alice/notes"
    request = Request(shell(f"cat {F}")).data(F, url)
    done = by("alice").completed(request)
    assert by("alice").stream(done) == "the notes of alice\n"
    assert "eyJ" not in json.dumps(done)
    failed = by("bob").run(request)
    assert failed["phase"] == "FAILED"
    assert "403" in texts(failed)
    assert "eyJ" not in json.dumps(failed)


def test_outputs_are_written_as_the_user(by: Any, lake: Dav) -> None:
    request = Request(shell("echo new > words")).output(f"{lake.url}lake/bob/out/")
    by("bob").completed(request)
    assert (lake.folder / "lake/bob/out/words").read_text() == "new\n"
    request = Request(shell("echo new > words")).output(f"{lake.url}lake/bob/other/")
    failed = by("alice").run(request)
    assert failed["phase"] == "FAILED"
    assert not (lake.folder / "lake/bob/other").exists()


def test_a_token_is_for_the_lake_only(by: Any, lake: Dav, shown: list[str], tokens: dict[str, str]) -> None:
    shown.clear()
    by("alice").completed(Request(shell(f"cat {F}")).data(F, f"{lake.url}lake/alice/notes"))
    assert shown
    assert not set(shown) & set(tokens.values())


def test_who_gets_no_token_gets_no_offer(by: Any, lake: Dav, issuer: Provider) -> None:
    request = Request(shell("true")).data(F, f"{lake.url}lake/alice/notes")
    issuer.control(forbid=LAKE)
    try:
        [said] = by("eve").refused(request)
    finally:
        issuer.control(allow=LAKE)
    assert said["kind"] == "urn:wes-bridge:no-token-of-the-user"
    for words in (LAKE, "invalid_target", issuer.issuer):
        assert words in said["message"]
    node = by(None)
    node.http.headers["Authorization"] = f"Bearer {(node.state / 'token').read_text().strip()}"
    [said] = node.refused(request)
    assert "it wants a token of the user" in said["message"]


def test_a_token_that_comes_late_is_waited_for(
    by: Any, node: NodeProcess, lake: Dav, issuer: Provider
) -> None:
    """The node was restarted: it has forgotten the user's token, and goes on when the user asks."""
    blocked = by("alice").begin(Request(shell("sleep 300"), cores={"min": 8}))
    node.until(blocked, lambda session: session["phase"] == "RUNNING")
    waiting = node.begin(Request(shell(f"cat {F}"), cores={"min": 8}).data(F, f"{lake.url}lake/alice/notes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET_VARIABLE, SECRET)
        node.kill()
        node.start()
    node.update(blocked, "CANCELLED")
    done = node.end(waiting)
    assert done["phase"] == "COMPLETED", texts(done)
    assert node.stream(done) == "the notes of alice\n"


def test_only_the_owners_own_token_counts(issuer: Provider, tokens: dict[str, str]) -> None:
    """Others may call for a session, too: an administrator, and a service that acts for its user."""
    told = {"issuers": [{"issuer": issuer.issuer, "client_id": NODE, "secret": {"env": SECRET_VARIABLE}}]}
    config = DelegationConfig.model_validate({**told, "patience": 0.05})
    alice = Principal(name=f"{issuer.issuer}#alice", token=SecretStr(tokens["alice"]))
    bob = Principal(name=f"{issuer.issuer}#bob", token=SecretStr(tokens["bob"]))
    acting = bob.model_copy(update={"on_behalf_of": alice.name, "roles": frozenset({"service"})})

    async def ask(session: str, owner: Principal, caller: Principal, then: str = "") -> str:
        user_tokens = UserTokens(config)
        try:
            user_tokens.came(session, owner_key(owner), caller)
            if then:
                user_tokens.gone(session)
            return await user_tokens.token(session, owner_key(owner), DelegatedTo(audience=LAKE))
        finally:
            await user_tokens.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET_VARIABLE, SECRET)
        assert claims(asyncio.run(ask("one", alice, alice)))["sub"] == "alice"
        for owner, caller, then in ((alice, bob, ""), (acting, acting, ""), (alice, alice, "gone")):
            with pytest.raises(OSError, match="called with none that an issuer made"):
                asyncio.run(ask("one", owner, caller, then))


def test_a_workflow_of_each_user_reads_what_is_theirs(
    node: NodeProcess, lake: Dav, issuer: Provider, tmp_path: Path
) -> None:
    """By way of a service: its token is made into one for the node, and that into one for the lake."""
    settings = {
        "nodes": [],
        "authentication": {"oidc": [{"issuer": issuer.issuer, "audience": [CLIENT]}]},
        "brokers": [
            {
                "name": "site",
                "url": node.url,
                "delegation": {"audience": NODE},
                "shares_files": False,
                "data": [f"{lake.url}lake/"],
            }
        ],
        "delegation": {
            "issuers": [
                {
                    "issuer": issuer.issuer,
                    "client_id": CLIENT,
                    "secret": {"env": SECRET_VARIABLE},
                    "login_client_id": LOGIN_CLIENT,
                }
            ]
        },
    }
    service = Service(tmp_path / "state", settings, env={SECRET_VARIABLE: SECRET})
    try:
        states = {}
        for user in ("alice", "bob"):
            headers = {"Authorization": f"Bearer {issuer.login(user)['access_token']}"}
            url = f"{service.url}/ga4gh/wes/v1/runs"
            answer = requests.post(url, headers=headers, files=_files(lake), timeout=60)
            assert answer.status_code == 200, answer.text
            run = f"{url}/{answer.json()['run_id']}"

            def ended(run: str = run, headers: dict[str, str] = headers) -> str | None:
                state = requests.get(f"{run}/status", headers=headers, timeout=60).json()["state"]
                return state if state in ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR") else None

            until(lambda: ended() is not None)
            states[user] = ended()
            assert "eyJ" not in requests.get(run, headers=headers, timeout=60).text
        assert states == {"alice": "COMPLETE", "bob": "SYSTEM_ERROR"}
        assert "eyJ" not in service.log.read_text()
    finally:
        service.stop()


def _files(lake: Dav) -> list[tuple[str, Any]]:
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": "cat",
        "inputs": {"notes": {"type": "File", "inputBinding": {}}},
        "outputs": {"out": "stdout"},
    }
    job = {"notes": {"class": "File", "location": f"{lake.url}lake/alice/notes"}}
    return [
        ("workflow_type", (None, "CWL")),
        ("workflow_type_version", (None, "v1.2")),
        ("workflow_url", (None, "tool.cwl")),
        ("workflow_params", (None, json.dumps(job))),
        ("workflow_attachment", ("tool.cwl", json.dumps(tool))),
    ]
