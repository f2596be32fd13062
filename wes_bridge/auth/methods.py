"""The ways to be known that there are: ours, and those that other packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wes_bridge.auth.authenticator import Authenticator, Method
from wes_bridge.auth.tokens import read_secret
from wes_bridge.model.access import AuthenticationConfig, NoSettings
from wes_bridge.plugging import Key, Kind, PluginError, SettingError, checked, dotted, unreadable

_OURS = {"oidc": "oidc", "basic": "passwords", "keys": "api_keys"}
_KIND: Kind[Method[Any]] = Kind(
    "wes_bridge.authenticators",
    "an authenticator",
    Method,
    {name: f"wes_bridge.auth.{module}:METHOD" for name, module in _OURS.items()},
)


def configured(config: AuthenticationConfig, state: Path) -> list[Authenticator]:
    """The authenticators of a configuration.

    Raises:
        PluginError: one of them cannot be used.
    """
    return [_made(name, settings, state) for _, name, settings in _wanted(config)]


def findings(config: AuthenticationConfig) -> Iterator[tuple[Key, str]]:
    """What is wrong with a configuration: key, and what to do; nothing is opened that stays open."""
    for key, name, settings in _wanted(config):
        try:
            method, read = _read(name, settings)
            method.check(read)
        except OSError as error:
            yield key, f"{dotted(key)}: {unreadable(error)}"
        except SettingError as error:
            place = (*key, "settings", *error.key)
            yield place, f"{dotted(place)}: {error}"
        except (PluginError, ValueError) as error:
            yield key, f"{dotted(key)}: {error}"
    for index, service in enumerate(config.services):
        try:
            read_secret(service.file)
        except UnicodeDecodeError:
            yield ("services", index, "file"), f"services[{index}].file: {service.file} is no text"
        except OSError as error:
            yield ("services", index, "file"), f"services[{index}].file: {unreadable(error)}"


def _wanted(config: AuthenticationConfig) -> Iterator[tuple[Key, str, BaseModel | dict[str, Any]]]:
    for index, issuer in enumerate(config.oidc):
        yield ("oidc", index), "oidc", issuer
    if config.basic is not None:
        yield ("basic",), "basic", config.basic
    for index, plugin in enumerate(config.plugins):
        yield ("plugins", index), plugin.name, plugin.settings
    yield ("keys",), "keys", NoSettings()


def _read(name: str, settings: BaseModel | dict[str, Any]) -> tuple[Method[Any], BaseModel]:
    method = _KIND.load(name)
    return method, settings if isinstance(settings, BaseModel) else checked(method.settings, settings)


def _made(name: str, settings: BaseModel | dict[str, Any], state: Path) -> Authenticator:
    method, read = _read(name, settings)
    try:
        made: Authenticator = method.make(read, state)
    except (OSError, ValueError) as error:
        raise PluginError(str(error)) from error
    return made
