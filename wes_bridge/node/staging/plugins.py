"""Data schemes as plug-ins: what an entry point ``wes_bridge.data`` names, and those that a node has.

Ours are entry points like any other, and cannot be replaced by installed ones. It must not know any scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from wes_bridge.config import NodeConfig
from wes_bridge.model.stores import DataPluginConfig, S3Config, WebdavConfig
from wes_bridge.node.staging.allowed import Allowed
from wes_bridge.node.staging.schemes import Scheme

GROUP = "wes_bridge.data"
_OURS = ("file", "http", "literal", "s3", "webdav")
Key = tuple[str | int, ...]


class SchemeError(Exception):
    """A data scheme cannot be used; the text says why."""


class NoSettings(BaseModel):
    """Of a scheme that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class S3Settings(NoSettings):
    """Of ``s3:``."""

    stores: list[S3Config]


class WebdavSettings(NoSettings):
    """Of ``davs:``."""

    folders: list[WebdavConfig]


@dataclass(frozen=True)
class Site:
    """What a scheme is told of the node that it works for.

    Attributes:
        config: of the node.
        allowed: which URLs may be used, where a scheme has no settings of its own.
    """

    config: NodeConfig
    allowed: Allowed


_Settings = TypeVar("_Settings", bound=BaseModel)


def nothing(_settings: BaseModel) -> Iterator[tuple[Key, str]]:
    """What a plug-in says that finds nothing wrong with its settings."""
    return iter(())


@dataclass(frozen=True)
class DataPlugin(Generic[_Settings]):
    """What an entry point names.

    Attributes:
        settings: the model of its part of the configuration.
        make: makes the scheme of these settings. What cannot be used is a ``ValueError`` or an ``OSError``
            in words for the administrator.
        check: looks at what the settings name, files say, before anything is started: the key of each mistake
            in the settings, and what is wrong.
    """

    settings: type[_Settings]
    make: Callable[[_Settings, Site], Scheme]
    check: Callable[[_Settings], Iterator[tuple[Key, str]]] = nothing


def scheme_names() -> list[str]:
    """The names of all plug-ins that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)} | set(_OURS))


def configured(site: Site) -> Sequence[Scheme]:
    """The schemes of a node.

    Raises:
        SchemeError: one of them cannot be used.
    """
    found: list[Scheme] = []
    for _, name, settings in _wanted(site.config):
        plugin, checked = _checked(name, settings)
        try:
            found.append(plugin.make(checked, site))
        except (OSError, ValueError) as error:
            raise SchemeError(f"the data scheme {name} cannot be used: {error}") from error
    return found


def findings(config: NodeConfig) -> Iterator[tuple[Key, str]]:
    """What is wrong with a node's configuration: key, and what to do; nothing is opened that stays open."""
    for key, name, settings in _wanted(config):
        try:
            plugin, checked = _checked(name, settings)
            for inner, text in plugin.check(checked):
                yield (*key, *inner), f"{_dotted((*key, *inner))}: {text}"
        except _SettingError as error:
            place = (*key, "settings", *error.key)
            yield place, f"{_dotted(place)}: {error}"
        except SchemeError as error:
            yield key, f"{_dotted(key)}: {error}"


class _SettingError(SchemeError):
    def __init__(self, key: Key, text: str) -> None:
        super().__init__(text)
        self.key = key


def _wanted(config: NodeConfig) -> Iterator[tuple[Key, str, BaseModel | dict[str, Any]]]:
    for name in ("file", "http", "literal"):
        yield (), name, NoSettings()
    if config.s3:
        yield ("s3",), "s3", S3Settings(stores=config.s3)
    if config.webdav:
        yield ("webdav",), "webdav", WebdavSettings(folders=config.webdav)
    for index, plugin in enumerate(config.data_plugins):
        yield ("data_plugins", index), plugin.name, _settings_of(plugin)


def _settings_of(plugin: DataPluginConfig) -> dict[str, Any]:
    return dict(plugin.settings)


def _checked(name: str, settings: BaseModel | dict[str, Any]) -> tuple[DataPlugin[Any], BaseModel]:
    point = _point(name)
    if point is None:
        raise SchemeError(f"no data scheme {name!r} is installed; known: {', '.join(scheme_names())}")
    try:
        plugin = point.load()
    except Exception as error:
        raise SchemeError(f"the data scheme {name} cannot be loaded: {error}") from error
    if not isinstance(plugin, DataPlugin):
        raise SchemeError(f"the data scheme {name} is no wes_bridge.node.staging.plugins.DataPlugin")
    if isinstance(settings, BaseModel):
        return plugin, settings
    if name in _OURS:
        raise SchemeError(f"{name} is no plug-in: it has a section of its own")
    try:
        return plugin, plugin.settings.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise _SettingError(tuple(first["loc"]), first["msg"]) from error


def _point(name: str) -> EntryPoint | None:
    if name in _OURS:  # what is installed is not looked through for them
        return EntryPoint(name, f"wes_bridge.node.staging.{name}:PLUGIN", GROUP)
    return next(iter(entry_points(group=GROUP, name=name)), None)


def _dotted(key: Key) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
