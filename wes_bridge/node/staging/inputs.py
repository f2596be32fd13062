"""A session's downloads: where they go, and how they get there from what all sessions share.

What a command only reads is linked: a hard link in the session's folder, outside its file system, which its
platform shows read-only. So the shared content can go at any moment, and the session keeps its own name for
it. What a command may change, or could change since nothing shields it, is a copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from wes_bridge.node.layout import is_below
from wes_bridge.node.staging.file import copy
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.plan import Entry, Kind, Tree
from wes_bridge.node.staging.schemes import Schemes, Tokens, Wanted, scheme_of


@dataclass(frozen=True)
class Inputs:
    """How a session gets what must be fetched.

    Attributes:
        folder: its own, outside its file system.
        incoming: all that is fetched at this node.
        user: for whom.
        shields: whether its platform lets no command change what is linked.
        tokens: of that user, for stores that want them.
    """

    folder: Path
    incoming: Incoming
    user: str = ""
    shields: bool = False
    tokens: Tokens | None = None

    def bring(self, entry: Entry, tree: Tree, schemes: Schemes, *, links: bool, stop: Event) -> None:
        """Fetch one thing of a tree, and put it there. Blocks.

        Raises:
            OSError, ValueError: it cannot be had; the text says why.
        """
        scheme = schemes.get(entry.location)
        if scheme is None:
            raise ValueError("no way to fetch this kind of URL")
        target = tree.paths.host(entry.path)
        wanted = Wanted(entry.location, entry.directory, entry.expected, self.user, self.tokens)
        if not self._may_link(entry, tree):

            def place(content: Path, is_mine: bool) -> None:
                _put(content, target, is_mine=is_mine, writable=entry.writable)

            self.incoming.bring(scheme, wanted, stop, place)
            return
        inner = self._inner(entry, target.name)
        self.incoming.bring(scheme, wanted, stop, lambda content, is_mine: _link(content, inner, is_mine))
        tree.entries[entry.path] = _linked(entry, inner)
        if links:
            target.symlink_to(inner)

    def adopt(self, tree: Tree) -> None:
        """Know what an earlier process of the node has fetched."""
        if not self.folder.is_dir():
            return
        for entry in list(tree.entries.values()):
            if entry.kind is Kind.FETCH and scheme_of(entry.location) != "data":
                inner = self._inner(entry, tree.paths.host(entry.path).name)
                if inner.exists():
                    tree.entries[entry.path] = _linked(entry, inner)

    def _may_link(self, entry: Entry, tree: Tree) -> bool:
        """What lies in an output goes with it, so it must be the session's own."""
        is_output = any(is_below(entry.path, path) for path, _ in tree.outputs)
        return self.shields and not entry.writable and not is_output

    def _inner(self, entry: Entry, name: str) -> Path:
        """The name stays: commands look at it."""
        place = hashlib.sha256(entry.path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / place / name


def _linked(entry: Entry, inner: Path) -> Entry:
    return replace(entry, kind=Kind.LINK, source=inner, writable=False)


def _link(content: Path, inner: Path, is_mine: bool) -> None:
    """Give what has come a second name, or its only one."""
    inner.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_mine:
        shutil.move(content, inner)
    elif content.is_dir():
        for folder, _, names in os.walk(content):
            there = inner / Path(folder).relative_to(content)
            there.mkdir()
            for name in names:
                _link_file(Path(folder, name), there / name)
    else:
        _link_file(content, inner)


def _link_file(content: Path, there: Path) -> None:
    try:
        os.link(content, there, follow_symlinks=False)
    except OSError:  # another disk, or no more links to this file
        shutil.copy2(content, there, follow_symlinks=False)


def _put(content: Path, target: Path, *, is_mine: bool, writable: bool) -> None:
    """Move or copy what has come, with the permissions that the session is to have."""
    if is_mine:
        shutil.move(content, target)
    else:
        copy(content, target)
    for path in (target, *(target.rglob("*") if target.is_dir() else ())):
        with contextlib.suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):  # a link has permissions that mean nothing
                path.chmod((0o644 if writable else 0o444) | (mode & 0o111))
