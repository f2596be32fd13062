"""Data schemes as plug-ins: what an entry point ``wes_bridge.data`` names, and those that a node has.

It must not know any scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from wes_bridge.config import NodeConfig
from wes_bridge.fetching.errors import UrlError
from wes_bridge.fetching.urls import parse_url
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.model.stores import S3Config, WebdavConfig
from wes_bridge.node.staging.allowed import Allowed
from wes_bridge.node.staging.schemes import Scheme
from wes_bridge.plugging import Key, Kind, PluginError, SettingError, checked, dotted, unreadable

_OURS = ("file", "http", "literal", "s3", "webdav")


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


_KIND: Kind[DataPlugin[Any]] = Kind(
    "wes_bridge.data",
    "a data scheme",
    DataPlugin,
    {name: f"wes_bridge.node.staging.{name}:PLUGIN" for name in _OURS},
)


def scheme_names() -> list[str]:
    """The names of all plug-ins that are installed."""
    return _KIND.names()


def configured(site: Site) -> Sequence[Scheme]:
    """The schemes of a node.

    Raises:
        PluginError: one of them cannot be used.
    """
    found: list[Scheme] = []
    for _, name, settings in _wanted(site.config):
        plugin, read = _read(name, settings)
        try:
            found.append(plugin.make(read, site))
        except (OSError, ValueError) as error:
            raise PluginError(f"the data scheme {name} cannot be used: {error}") from error
    return found


def findings(config: NodeConfig) -> Iterator[tuple[Key, str]]:
    """What is wrong with a node's configuration: key, and what to do; nothing is opened that stays open."""
    for key, name, settings in _wanted(config):
        try:
            plugin, read = _read(name, settings)
            for inner, text in plugin.check(read):
                yield (*key, *inner), f"{dotted((*key, *inner))}: {text}"
        except SettingError as error:
            place = (*key, "settings", *error.key)
            yield place, f"{dotted(place)}: {error}"
        except PluginError as error:
            yield key, f"{dotted(key)}: {error}"
    for place, text in (*_token_findings(config), *_issuer_findings(config)):
        yield place, f"{dotted(place)}: {text}"


def _token_findings(config: NodeConfig) -> Iterator[tuple[Key, str]]:
    for index, folder in enumerate(config.web):
        try:
            parse_url(folder.url)
        except UrlError as error:
            yield ("web", index, "url"), str(error)
    places: list[tuple[Key, DelegatedTo | None]] = [
        *((("webdav", index, "delegation"), folder.delegation) for index, folder in enumerate(config.webdav)),
        *((("web", index, "delegation"), folder.delegation) for index, folder in enumerate(config.web)),
    ]
    for key, wanted in places:
        if wanted is None:
            continue
        if wanted.exchanger == "issuer" and not config.delegation.issuers:
            yield key, f"delegation.issuers must name who makes tokens for {wanted.audience!r}"
        if wanted.exchanger == "authn" and config.delegation.authn is None:
            yield key, f"delegation.authn must say who makes tokens for {wanted.audience!r}"


def _issuer_findings(config: NodeConfig) -> Iterator[tuple[Key, str]]:
    for index, issuer in enumerate(config.delegation.issuers):
        if issuer.secret is not None and issuer.secret.file is not None:
            try:
                issuer.secret.file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                yield ("delegation", "issuers", index, "secret"), f"{issuer.secret.file} is no text"
            except OSError as error:
                yield ("delegation", "issuers", index, "secret"), unreadable(error)


def _wanted(config: NodeConfig) -> Iterator[tuple[Key, str, BaseModel | dict[str, Any]]]:
    for name in ("file", "http", "literal"):
        yield (), name, NoSettings()
    if config.s3:
        yield ("s3",), "s3", S3Settings(stores=config.s3)
    if config.webdav:
        yield ("webdav",), "webdav", WebdavSettings(folders=config.webdav)
    for index, plugin in enumerate(config.data_plugins):
        yield ("data_plugins", index), plugin.name, dict(plugin.settings)


def _read(name: str, settings: BaseModel | dict[str, Any]) -> tuple[DataPlugin[Any], BaseModel]:
    plugin = _KIND.load(name)
    if isinstance(settings, BaseModel):
        return plugin, settings
    if name in _OURS:
        raise PluginError(f"{name} is no plug-in: it has a section of its own")
    return plugin, checked(plugin.settings, settings)
