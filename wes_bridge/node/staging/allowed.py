"""Which URLs a node takes data from and writes to: those that its configuration lists, by their beginnings.

A ``file:`` URL is looked at twice: as it is written, when an offer is made, and again where it really leads
when it is used, since a command may have left a link in a folder that is allowed. It must not know requests.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from wes_bridge.data.beneath import folder_at, folder_beneath, held, real_path
from wes_bridge.data.workspace import url_path
from wes_bridge.fetching.errors import UrlError
from wes_bridge.fetching.urls import is_below, parse_url
from wes_bridge.node.staging.schemes import scheme_of


class Allowed:
    """The URLs.

    Args:
        prefixes: their beginnings (``NodeConfig.data``).

    Attributes:
        prefixes: the same.
    """

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._others = [text for text in prefixes if scheme_of(text) != "file"]
        self._folders = [_folder(text) for text in prefixes if scheme_of(text) == "file"]
        self.prefixes = list(prefixes)

    def __str__(self) -> str:
        return ", ".join(self.prefixes)

    def names(self, location: str) -> bool:
        """Whether a URL, as it is written, is one of them; of a path with ``..`` taken out."""
        if scheme_of(location) == "file":
            try:
                return _is_in(str(file_path(location)), self._folders)
            except ValueError:
                return False
        return any(_starts(location, prefix) for prefix in self._others)

    def check(self, real: str) -> None:
        """Refuse a path, links followed, that is in none of the folders.

        Raises:
            ValueError: says so.
        """
        if "/" in self._folders or _is_in(real, self._folders):
            return
        if not _is_in(real, [real_path(folder) for folder in self._folders]):
            raise ValueError(f"it leads to {real}, by a link, and this node takes only {self}")

    def source(self, path: Path) -> Path:
        """Where data is, links followed.

        Raises:
            OSError: there is nothing.
            ValueError: it is not for this node.
        """
        with held(path) as (real, _):
            self.check(real)
            return Path(real)

    def destination(self, path: Path) -> tuple[int, str]:
        """A descriptor of the folder that something is to be put in, made if missing, and its name there.

        Links above it are followed as they are now, and never again.

        Raises:
            OSError: it cannot be made.
            ValueError: it is not for this node.
        """
        if not path.name:
            raise ValueError("the root folder is no place for an output")
        return self._folder(path, make=True), path.name

    def present(self, path: Path) -> tuple[int, str]:
        """The same of a folder that must be there.

        Raises:
            OSError: it is not there.
            ValueError: it is not for this node.
        """
        return self._folder(path, make=False), path.name

    def _folder(self, path: Path, *, make: bool) -> int:
        """A descriptor of the folder that something is in, or is to be in."""
        found, real, missing = folder_at(str(path.parent), partly=make)
        try:
            self.check("/".join((real.rstrip("/"), *filter(None, (missing, path.name)))))
            if not missing:
                return os.dup(found)
            return folder_beneath(found, missing, make=True)
        finally:
            os.close(found)


@functools.lru_cache(maxsize=4096)
def file_path(location: str) -> Path:
    """The absolute path of a ``file:`` URL, ``..`` taken out.

    Raises:
        ValueError: the URL names another host, or no absolute path.
    """
    return url_path(location)


def _folder(prefix: str) -> str:
    return os.path.normpath(unquote(prefix.partition("://")[2]))


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _starts(location: str, prefix: str) -> bool:
    """Whether a URL starts with a configured prefix; hosts of the web are compared as a whole."""
    if scheme_of(prefix) in ("http", "https") and len(prefix.partition("//")[2]) > 0:
        try:
            return is_below(parse_url(location), parse_url(prefix))
        except UrlError:
            return False
    head = len(scheme_of(prefix))
    return location[:head].lower() == prefix[:head] and location[head:].startswith(prefix[head:])
