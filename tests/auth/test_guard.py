"""The guard by itself: who gets past it, as whom, and what it says to all others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from wes_bridge.auth import methods
from wes_bridge.auth.authenticator import Call, Method, RefusedError, UnavailableError
from wes_bridge.auth.door import Served, guarded
from wes_bridge.auth.identity import is_still_known, principal_of
from wes_bridge.auth.principal import Principal
from wes_bridge.config import NodeConfig, ServiceConfig
from wes_bridge.plugging import Kind, PluginError


class Moon(BaseModel):
    """Settings of an authenticator that another package might bring."""

    phase: str


class MoonAuthenticator:
    """Knows whoever names the phase of the moon."""

    closed = False
    groups = frozenset({"night"})

    def __init__(self, settings: Moon) -> None:
        self._settings = settings

    async def authenticate(self, call: Call) -> Principal | None:
        if call.scheme != "moon":
            return None
        match call.secret:
            case "crash":
                raise RuntimeError("a fault with a secret in it")
            case "away":
                raise UnavailableError("clouds are before the moon")
            case "wrong":
                raise RefusedError('the moon is not "so"\r\nX-Evil: 1')
            case secret if secret.startswith(self._settings.phase):
                return Principal(name=secret.partition(" ")[2], groups=self.groups)
        return None

    def challenges(self) -> Sequence[str]:
        return ('Moon realm="sky"', 'Bearer realm="moon"')

    async def close(self) -> None:
        MoonAuthenticator.closed = True


MOON = Method(Moon, lambda settings, _state: MoonAuthenticator(settings))


class _Point:
    def load(self) -> object:
        return MOON


class Door:
    """A server behind a guard, and who its handlers see."""

    def __init__(
        self, state: Path, kind: type[ServiceConfig] | type[NodeConfig] = ServiceConfig, **access: Any
    ) -> None:
        self.config = kind.model_validate({"state_dir": state, "authentication": access})
        self.app = guarded(self.config, Served(self._serve, state, "test", "/info"))
        self.seen: list[Principal] = []

    async def _serve(self, scope: Any, _receive: Any, send: Any) -> None:
        self.seen.append(principal_of(Request(scope)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"secret": 1}'})

    def ask(
        self, *headers: tuple[str, str], path: str = "/", method: str = "GET", **more: Any
    ) -> tuple[int, Any, Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        fields = [(b"host", b"localhost"), *((n.lower().encode(), v.encode()) for n, v in headers)]
        scope = {"type": "http", "method": method, "path": path, "http_version": "1.1", "headers": fields}
        scope |= {"server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), **more}
        asyncio.run(self.app(scope, None, send))  # type: ignore[arg-type]
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, sent[1]["body"]


@pytest.fixture
def moon(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    known = Kind._point

    def point(kind: Kind[Any], name: str) -> Any:
        return _Point() if name == "moon" else known(kind, name)

    monkeypatch.setattr(Kind, "_point", point)
    return {"plugins": [{"name": "moon", "settings": {"phase": "full"}}]}


def test_another_packages_way_in(moon: dict[str, Any], tmp_path: Path) -> None:
    door = Door(tmp_path, **moon)
    assert door.ask(("Authorization", "Moon full alice"))[0] == 200
    assert door.seen[-1].name == "alice"
    status, told, body = door.ask(("Authorization", "Moon new alice"))
    assert (status == 401 and "Moon" in told["www-authenticate"]) or "Bearer" in told["www-authenticate"]
    assert json.loads(body)["status_code"] == 401


def test_what_an_authenticator_raises(moon: dict[str, Any], tmp_path: Path) -> None:
    door = Door(tmp_path, **moon)
    status, _, body = door.ask(("Authorization", "Moon crash"))
    assert status == 503 and b"secret in it" not in body
    status, told, body = door.ask(("Authorization", "Moon away"))
    assert status == 503 and b"clouds" in body and told["retry-after"]
    status, told, _ = door.ask(("Authorization", "Moon wrong"))
    assert status == 401
    assert all("\r" not in value and "\n" not in value for value in told.values())
    assert not door.seen


def test_settings_of_another_package_are_checked(moon: dict[str, Any], tmp_path: Path) -> None:
    moon["plugins"][0]["settings"] = {"phrase": "full"}
    access = ServiceConfig.model_validate({"authentication": moon}).authentication
    [(key, text)] = methods.findings(access)
    assert key == ("plugins", 0, "settings", "phase")
    assert "plugins[0].settings.phase: " in text
    with pytest.raises(PluginError):
        Door(tmp_path, **moon)


def test_it_is_told_when_the_server_ends(moon: dict[str, Any], tmp_path: Path) -> None:
    door = Door(tmp_path, **moon)
    MoonAuthenticator.closed = False

    async def live(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await send({"type": "lifespan.startup.complete"})
        assert not MoonAuthenticator.closed
        await send({"type": "lifespan.shutdown.complete"})

    async def send(_message: Any) -> None:
        pass

    door.app._app = live  # type: ignore[union-attr]
    asyncio.run(door.app({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    assert MoonAuthenticator.closed


def test_rules_add_groups_and_the_role_of_administrators(moon: dict[str, Any], tmp_path: Path) -> None:
    door = Door(
        tmp_path, **moon, admins=["alice", "group:ops"], groups={"ops": ["bob"], "all": ["carol", "bob"]}
    )
    people = {}
    for name in ("alice", "bob", "carol", "ops", "group:ops"):
        door.ask(("Authorization", f"Moon full {name}"))
        people[name] = door.seen[-1]
    assert {name for name, found in people.items() if found.is_admin} == {"alice", "bob"}
    assert people["bob"].groups == {"night", "ops", "all"}
    assert people["carol"].groups == {"night", "all"}


def test_only_services_are_believed_for_whom_they_ask(moon: dict[str, Any], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("of a service\n")
    door = Door(tmp_path, **moon, services=[{"name": "wes", "file": key}], admins=["service:wes"])
    service = ("Authorization", "Bearer of a service")
    for value, name in (("alice", "alice"), ("https://x/%23b%C3%A9", "https://x/#bé"), ("", None)):
        status, _, _ = door.ask(service, ("On-Behalf-Of", value))
        if name is None:
            assert status == 400
            continue
        assert (door.seen[-1].name, door.seen[-1].on_behalf_of) == ("service:wes", name)
        assert door.seen[-1].roles == {"service"}  # a rule makes no service an administrator
    assert door.ask(service, ("On-Behalf-Of", "a%0Ab"))[0] == 400
    assert door.ask(service, ("On-Behalf-Of", "a" * 256))[0] == 400
    assert door.ask(service, ("On-Behalf-Of", "a"), ("On-Behalf-Of", "b"))[0] == 400
    for other in ("Moon full mallory", f"Bearer {(tmp_path / 'token').read_text().strip()}"):
        assert door.ask(("Authorization", other), ("On-Behalf-Of", "alice"))[0] == 200
        assert door.seen[-1].on_behalf_of is None


@pytest.mark.parametrize(("groups", "is_known"), [({"night"}, True), ({"night", "x"}, True), ({"x"}, False)])
def test_an_answer_that_goes_on_ends_for_who_has_left_a_group(
    moon: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: set[str], is_known: bool
) -> None:
    door = Door(tmp_path, **moon)
    said: list[bool] = []

    async def follow(scope: Any, _receive: Any, send: Any) -> None:
        monkeypatch.setattr(MoonAuthenticator, "groups", frozenset(groups))
        said.append(await is_still_known(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    door.app = guarded(door.config, Served(follow, tmp_path, "test", "/info"))
    assert door.ask(("Authorization", "moon full ada"))[0] == 200
    assert said == [is_known]


def test_two_credentials_are_one_too_many(moon: dict[str, Any], tmp_path: Path) -> None:
    door = Door(tmp_path, **moon)
    alice, bob = ("Authorization", "Moon full alice"), ("Authorization", "Moon full bob")
    assert door.ask(alice, bob)[0] == 400
    assert not door.seen


@pytest.mark.parametrize(
    "path",
    ["/health/", "//health", "/HEALTH", "/health/x", "/health%2f", "/auth/", "/auth/x", "/info/", "/info/x"],
)
def test_what_only_looks_public_is_not(moon: dict[str, Any], tmp_path: Path, path: str) -> None:
    door = Door(tmp_path, **moon)
    assert door.ask(path=path)[0] == 401 and not door.seen


def test_what_is_public_is_a_setting(moon: dict[str, Any], tmp_path: Path) -> None:
    door = Door(tmp_path, **moon)
    assert door.ask(path="/info")[0] == 200
    assert door.seen[-1].roles == set() and not door.seen[-1].is_admin
    assert door.ask(path="/health") == (
        200,
        {"content-type": "application/json", "content-length": "16"},
        b'{"status": "ok"}',
    )
    assert door.ask(path="/info", method="POST")[0] == 401
    assert door.ask(path="/health", method="DELETE")[0] == 401
    shut = Door(tmp_path, **moon, public=[])
    assert [shut.ask(path=path)[0] for path in ("/info", "/health", "/auth")] == [401, 401, 200]


def test_a_forgotten_type_of_scope_reaches_nobody(tmp_path: Path) -> None:
    door = Door(tmp_path)
    asyncio.run(door.app({"type": "websocket", "path": "/", "headers": []}, None, None))  # type: ignore[arg-type]
    assert not door.seen
