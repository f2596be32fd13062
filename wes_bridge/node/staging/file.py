"""``file:`` URLs: things on this machine. Inputs are used where they are; outputs are moved into place."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from wes_bridge.data.beneath import open_beneath, opened, top_of
from wes_bridge.data.copying import copy_thing, move, move_copy
from wes_bridge.node.staging.allowed import Allowed, file_path
from wes_bridge.node.staging.plugins import DataPlugin, NoSettings, Site
from wes_bridge.node.staging.schemes import Fetched, UnusableError, Wanted


class FileScheme:
    """Files and directories of this machine.

    Args:
        allowed: those that may be used.
    """

    names: tuple[str, ...] = ("file",)
    can_store = True
    places: Sequence[str] | None = None

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """None: what is wrong with a path, :meth:`local` says."""
        return None

    def local(self, location: str) -> Path | None:
        """The path of a ``file:`` URL.

        Raises:
            ValueError: the URL names another host, or no absolute path.
        """
        return file_path(location)

    def scope(self, wanted: Wanted) -> str:
        """All of this node: its user reads it."""
        return ""

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Copy; used when a link will not do."""
        copy(self._allowed.source(file_path(wanted.location)), target)
        return Fetched()

    def store(self, folder: int, name: str, location: str, beside: Sequence[Path]) -> None:
        """Move it to ``location``; in one step when nothing is there yet."""
        self._bring(folder, name, location, move)

    def store_copy(self, folder: int, name: str, location: str) -> None:
        """Move a copy of it there: somebody may hold it open."""
        self._bring(folder, name, location, move_copy)

    def _bring(
        self, folder: int, name: str, location: str, way: Callable[[int, str, int, str], None]
    ) -> None:
        there, new_name = self._allowed.destination(file_path(location))
        with opened(there):
            way(folder, name, there, new_name)
            if stat.S_ISLNK(os.lstat(new_name, dir_fd=there).st_mode):  # put there since it was looked at
                os.unlink(new_name, dir_fd=there)
                raise UnusableError("the command put a link in its place")


def copy(source: Path, target: Path) -> None:
    """A hard copy of a file or directory that its owner may write to, and that gives nobody more rights.

    Args:
        source: links followed already: none is followed now.
        target: in a folder of our own.

    Raises:
        OSError: there is no room, or something cannot be read.
    """
    with opened(top_of(target.parent)) as folder:
        copy_into(source, folder, target.name)


def copy_into(source: Path, folder: int, name: str) -> None:
    """The same, to a folder that is open."""
    with opened(top_of("/")) as top, opened(open_beneath(top, str(source)[1:])) as thing:
        copy_thing(thing, folder, name, usable=True)


def _make(_settings: NoSettings, site: Site) -> FileScheme:
    return FileScheme(site.allowed)


PLUGIN = DataPlugin(NoSettings, _make)
