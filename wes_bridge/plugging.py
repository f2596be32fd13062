"""Plug-ins: found by their entry points, loaded, and given checked settings; what is wrong is told in words.

Ours are entry points like any other, and cannot be replaced by installed ones. It must not know what any kind
of plug-in is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

Key = tuple[str | int, ...]
"""Of a setting, in the configuration."""
_Contract = TypeVar("_Contract")
_Settings = TypeVar("_Settings", bound=BaseModel)


class PluginError(Exception):
    """A plug-in cannot be used; the text says why."""


class SettingError(PluginError):
    """One of its settings is wrong.

    Attributes:
        key: which.
    """

    def __init__(self, key: Key, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True)
class Kind(Generic[_Contract]):
    """One kind of plug-in.

    Attributes:
        group: of its entry points.
        what: one is called, with its article.
        contract: of what entry points name.
        own: ours by name, each as an entry point has it. What is installed is not looked through for them.
    """

    group: str
    what: str
    contract: type[_Contract]
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """All that there are."""
        return sorted({point.name for point in entry_points(group=self.group)} | set(self.own))

    def load(self, name: str) -> _Contract:
        """The plug-in of a name.

        Raises:
            PluginError: there is none, or it is of no use.
        """
        called = self.what.partition(" ")[2]
        point = self._point(name)
        if point is None:
            raise PluginError(f"no {called} {name!r} is installed; known: {', '.join(self.names())}")
        try:
            plugin = point.load()
        except Exception as error:
            raise PluginError(f"the {called} {name} cannot be loaded: {error}") from error
        if not isinstance(plugin, self.contract):
            contract = f"{self.contract.__module__}.{self.contract.__qualname__}"
            raise PluginError(f"the {called} {name} is no {contract}")
        return plugin

    def _point(self, name: str) -> EntryPoint | None:
        if name in self.own:
            return EntryPoint(name, self.own[name], self.group)
        return next(iter(entry_points(group=self.group, name=name)), None)


def checked(model: type[_Settings], settings: Mapping[str, Any]) -> _Settings:
    """Settings as their model.

    Raises:
        SettingError: the first that is wrong.
    """
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(tuple(first["loc"]), first["msg"]) from error


def dotted(key: Key) -> str:
    """A key as people write it: ``plugins[0].settings.host``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def unreadable(error: OSError) -> str:
    """What is wrong with a file that a setting names."""
    if error.filename and error.strerror:
        return f"{error.filename} cannot be read: {error.strerror}"
    return error.strerror or str(error)
