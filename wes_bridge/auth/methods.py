"""The ways to be known that there are: ours, and those that other packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from wes_bridge.auth.authenticator import Authenticator, Method
from wes_bridge.auth.tokens import read_secret
from wes_bridge.model.access import AuthenticationConfig, NoSettings

GROUP = "wes_bridge.authenticators"
_OURS = {"oidc": "oidc", "basic": "passwords", "keys": "api_keys"}
Key = tuple[str | int, ...]


class MethodError(Exception):
    """A way to be known cannot be used; the text says why."""


def method_names() -> list[str]:
    """The names of all that are installed."""
    return sorted(_points())


def configured(config: AuthenticationConfig, state: Path) -> list[Authenticator]:
    """The authenticators of a configuration.

    Raises:
        MethodError: one of them cannot be used.
    """
    return [_made(name, settings, state) for _, name, settings in _wanted(config)]


def findings(config: AuthenticationConfig) -> Iterator[tuple[Key, str]]:
    """What is wrong with a configuration: key, and what to do; nothing is opened that stays open."""
    for key, name, settings in _wanted(config):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        try:
            method, checked = _checked(name, settings)
            method.check(checked)
        except OSError as error:
            yield key, f"{where}: {_words(error)}"
        except (MethodError, ValueError) as error:
            yield key, f"{where}: {error}"
    for index, service in enumerate(config.services):
        try:
            read_secret(service.file)
        except UnicodeDecodeError:
            yield ("services", index, "file"), f"services[{index}].file: {service.file} is no text"
        except OSError as error:
            yield ("services", index, "file"), f"services[{index}].file: {_words(error)}"


def _words(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}" if error.strerror else str(error)


def _wanted(config: AuthenticationConfig) -> Iterator[tuple[Key, str, BaseModel | dict[str, Any]]]:
    for index, issuer in enumerate(config.oidc):
        yield ("oidc", index), "oidc", issuer
    if config.basic is not None:
        yield ("basic",), "basic", config.basic
    for index, plugin in enumerate(config.plugins):
        yield ("plugins", index), plugin.name, plugin.settings
    yield ("keys",), "keys", NoSettings()


def _checked(name: str, settings: BaseModel | dict[str, Any]) -> tuple[Method[Any], BaseModel]:
    point = _own().get(name) or _points().get(name)
    if point is None:
        raise MethodError(f"no authenticator {name!r} is installed; known: {', '.join(method_names())}")
    try:
        method = point.load()
    except Exception as error:
        raise MethodError(f"the authenticator {name} cannot be loaded: {error}") from error
    if not isinstance(method, Method):
        raise MethodError(f"the authenticator {name} is no wes_bridge.auth.authenticator.Method")
    if isinstance(settings, BaseModel):
        return method, settings
    try:
        return method, method.settings.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise MethodError(f"settings.{place}: {first['msg']}" if place else first["msg"]) from error


def _made(name: str, settings: BaseModel | dict[str, Any], state: Path) -> Authenticator:
    method, checked = _checked(name, settings)
    try:
        made: Authenticator = method.make(checked, state)
    except (OSError, ValueError) as error:
        raise MethodError(str(error)) from error
    return made


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)} | _own()


def _own() -> dict[str, EntryPoint]:
    """Ours: they cannot be replaced, and what is installed is not looked through for them."""
    return {
        name: EntryPoint(name, f"wes_bridge.auth.{module}:METHOD", GROUP) for name, module in _OURS.items()
    }
