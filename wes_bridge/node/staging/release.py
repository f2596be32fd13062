"""After the command: bring outputs to where they were asked for, and leave nothing in them that points at
the session's folder, which goes away."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from wes_bridge.data.beneath import (
    LinkInTheWayError,
    folder_beneath,
    kind_beneath,
    open_beneath,
    opened,
    parent_beneath,
    regular_file,
    top_of,
)
from wes_bridge.data.copying import copy_thing, drop_rights, move_copy
from wes_bridge.data.special import special_kind
from wes_bridge.model.execution_broker import Data, Session
from wes_bridge.node.errors import ReleaseError
from wes_bridge.node.kept.settling import bring_in
from wes_bridge.node.layout import SessionFolder, clean_relative
from wes_bridge.node.staging.allowed import Allowed, file_path
from wes_bridge.node.staging.file import FileScheme
from wes_bridge.node.staging.plan import Kind, Tree
from wes_bridge.node.staging.schemes import Delegating, Schemes, Tokens, UnusableError, scheme_of
from wes_bridge.node.staging.settling import Settling, sources_of
from wes_bridge.small_files import NotSmallError

MOST_REWRITTEN = 16 * 1024**2
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Keeper(Protocol):
    """Keeps outputs where they are made."""

    def keep(self, data: Data, folder: int | None, name: str) -> object:
        """Keep one, or go on where a crash has ended that.

        Args:
            data: what is asked for.
            folder: descriptor of the folder that it is in; None: it is not there any more.
            name: its name there.

        Raises:
            OSError, ValueError: it cannot be kept.
        """

    def open_file(self, data: Data, path: str) -> int:
        """A descriptor, to read, of a file of an output that is kept. Raises OSError: there is none."""


def release(  # noqa: PLR0917
    tree: Tree,
    session: Session,
    schemes: Schemes,
    links: bool,
    most_rewritten: int = MOST_REWRITTEN,
    keeper: Keeper | None = None,
    tokens: Tokens | None = None,
    is_held: bool = False,
) -> None:
    """Transfer all outputs of a session. Blocks; may be called again after a crash.

    Args:
        tree: the session's file system.
        session: the session.
        schemes: how to store.
        links: whether the tree was made with symbolic links (see ``place``).
        most_rewritten: bytes of a file that paths are written into.
        keeper: keeps the outputs that are to stay.
        tokens: of whom the session is, for stores that want them.
        is_held: whether a command that goes on may hold open, to write, what is brought away: then files of
            this machine are copies.

    Raises:
        ReleaseError: names the output, its destination and the reason.
    """
    try:
        top = top_of(tree.paths.real)
    except FileNotFoundError:
        top = None  # all was brought away before a crash
    try:
        if links and top is not None:
            _rewrite_files(tree, session, top, most_rewritten)
        for path, data in tree.outputs:
            location = data.location or ""
            try:
                if data.keep is not None and keeper is not None:
                    location = "the outputs that this node keeps"
                    _keep(tree, top, path, links=links, way=_Keeping(data, keeper, is_held))
                else:
                    way = _Way(schemes, location, tokens, is_held)
                    _release(tree, top, path, links=links, way=way)
            except (OSError, ValueError, shutil.Error) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                by_command = isinstance(error, UnusableError)
                raise ReleaseError(path, location, reason, by_command=by_command) from error
    finally:
        if top is not None:
            os.close(top)


@dataclass(frozen=True)
class _Way:
    """How an output is brought away.

    Attributes:
        to: how to store.
        location: where to.
        tokens, is_held: as of :func:`release`.
    """

    to: Schemes
    location: str
    tokens: Tokens | None
    is_held: bool


def _release(tree: Tree, top: int | None, path: str, *, links: bool, way: _Way) -> None:
    """Transfer one output; ``top`` is a descriptor of the session's folder, None when that is gone.

    Another session may hold a descriptor of that folder, and change it now: it is walked by descriptors.
    """
    kind = _kind_of(tree, top, path)
    if kind is None or top is None:
        if _is_done(way.location):
            return
        raise FileNotFoundError(2, "the command left nothing there")
    folder, name = parent_beneath(top, tree.paths.below(path))
    with opened(folder):
        _settle(tree, top, (folder, name), path, links=links, break_links=scheme_of(way.location) != "file")
        scheme = way.to.get(way.location)
        if scheme is None or not scheme.can_store:
            raise ValueError("no way to write to this kind of URL")
        if way.is_held and isinstance(scheme, FileScheme):
            scheme.store_copy(folder, name, way.location)
        elif isinstance(scheme, Delegating):
            scheme.store(folder, name, way.location, sources_of(tree), way.tokens)
        else:
            scheme.store(folder, name, way.location, sources_of(tree))


@dataclass(frozen=True)
class _Keeping:
    """How an output is kept; ``is_held`` as of :func:`release`."""

    data: Data
    keeper: Keeper
    is_held: bool


def _keep(tree: Tree, top: int | None, path: str, *, links: bool, way: _Keeping) -> None:
    """Have one output kept; of links to what the session was given it gets copies."""
    if top is None or _kind_of(tree, top, path) is None:
        way.keeper.keep(way.data, None, "")
        return
    folder, name = parent_beneath(top, tree.paths.below(path))
    with opened(folder):
        _settle(tree, top, (folder, name), path, links=links, break_links=False)
        with (
            contextlib.suppress(LinkInTheWayError),  # it is a file
            opened(open_beneath(folder, name, os.O_RDONLY | os.O_DIRECTORY)) as output,
        ):
            bring_in(output, sources_of(tree), top)
        if way.is_held:
            _keep_copy(Path(tree.paths.real).parent, (folder, name), way)
        else:
            way.keeper.keep(way.data, folder, name)


def _keep_copy(session: Path, place: tuple[int, str], way: _Keeping) -> None:
    """Have a copy kept, which is made where no command gets."""
    new = f"released-{uuid4().hex[:8]}"
    with opened(top_of(session)) as top:
        os.mkdir(new, 0o700, dir_fd=top)
        with opened(folder_beneath(top, new)) as folder:
            move_copy(*place, folder, place[1])
            way.keeper.keep(way.data, folder, place[1])
        with contextlib.suppress(OSError):
            os.rmdir(new, dir_fd=top)


def _kind_of(tree: Tree, top: int | None, path: str) -> int | None:
    """What an output is; None where there is nothing.

    Raises:
        UnusableError: it is neither a file nor a folder.
    """
    relative = tree.paths.below(path)
    kind = kind_beneath(top, relative) if top is not None and relative else None
    if kind == stat.S_IFLNK:
        raise UnusableError("the command put a link in its place")
    if kind not in (None, stat.S_IFDIR, stat.S_IFREG):
        raise UnusableError(f"the command put {special_kind(kind or 0)} in its place")
    return kind


def _settle(
    tree: Tree, top: int, place: tuple[int, str], path: str, *, links: bool, break_links: bool
) -> None:
    """Make an output good for when the session's folder has gone.

    Args:
        tree: the session's file system.
        top: descriptor of its folder.
        place: descriptor of the folder that the output is in, and its name there.
        path: of the output in the session.
        links: whether the tree was made with symbolic links.
        break_links: whether links to files of this machine are broken, too, where the tree was.
    """
    folder, name = place
    if not links:
        _show_mounted(tree, top, path)
    try:
        output = open_beneath(folder, name, os.O_RDONLY | os.O_DIRECTORY)
    except LinkInTheWayError as error:
        if kind_beneath(folder, name) == stat.S_IFREG:
            drop_rights(name, folder)
            return
        raise UnusableError(str(error.strerror)) from error
    try:
        with opened(output):
            settling = Settling(tree, top, output, tree.paths.host(path))
            settling.settle()
            if break_links or not links:
                settling.break_foreign_links()
    except LinkInTheWayError as error:  # it was changed while we looked
        raise UnusableError(str(error.strerror)) from error


def open_stream(  # noqa: PLR0917
    session: Session,
    folder: SessionFolder,
    tree: Tree | None,
    name: str,
    allowed: Allowed,
    keeper: Keeper,
) -> int | None:
    """A descriptor, to read, of the file that holds stream ``name`` (stdout, stderr) now; None when there is
    none yet. The command may put links anywhere, at any moment: none is followed.

    Args:
        session: whose it is.
        folder: of the session.
        tree: the session's file system, where that is known.
        name: of the stream.
        allowed: where outputs may have gone.
        keeper: has those that stayed here.
    """
    with contextlib.suppress(OSError, ValueError):
        with opened(top_of(folder.root)) as root:
            inside = _stream_in(session, folder, tree, name)
            found = regular_file(root, inside) if inside is not None else None
            if found is None:
                found = regular_file(root, name)
            if found is not None:
                return found
        return _open_released(session, tree, name, allowed, keeper)
    return None


def _open_released(
    session: Session, tree: Tree | None, name: str, allowed: Allowed, keeper: Keeper
) -> int | None:
    """The same of one that has gone with an output."""
    relative = stream_path(session, name)
    if relative is None or tree is None:
        return None
    inside = f"{tree.workdir}/{relative}"
    for path, data in tree.outputs:
        if inside.startswith(path + "/") and data.keep is not None:
            return keeper.open_file(data, inside[len(path) + 1 :])
        if inside.startswith(path + "/") and scheme_of(data.location or "") == "file":
            folder, place = allowed.present(file_path(data.location or ""))
            with opened(folder), opened(folder_beneath(folder, place)) as out:
                return regular_file(out, inside[len(path) + 1 :])
    return None


def keep_streams(session: Session, folder: SessionFolder, tree: Tree) -> None:
    """Bring streams out of the session's file system, which is about to be removed."""
    with opened(top_of(folder.root)) as root:
        for name in ("stdout", "stderr"):
            inside = _stream_in(session, folder, tree, name)
            if inside is None or kind_beneath(root, inside) != stat.S_IFREG:
                continue  # it is in the session's folder already, or has gone with an output
            here, there = parent_beneath(root, inside)
            with opened(here):
                os.link(there, name, src_dir_fd=here, dst_dir_fd=root, follow_symlinks=False)


def share_streams(session: Session, folder: SessionFolder, allowed: Allowed, *, final: bool) -> None:
    """Give the streams that have a destination to it: by a hard link, so that it grows with the stream.

    Args:
        session: names the destinations; those that are not ``file:`` URLs are passed over.
        folder: holds the streams.
        allowed: where they may go.
        final: whether the command has ended, and copying will do where linking does not.
    """
    streams = session.executable.streams if session.executable else None
    for name in ("stdout", "stderr"):
        stream = getattr(streams, name, None) if streams else None
        if stream is None or scheme_of(stream.destination or "") != "file":
            continue
        target = file_path(stream.destination)
        if final and os.path.lexists(target):
            continue
        with contextlib.suppress(OSError, ValueError):
            _share_stream(folder, name, target, allowed, final)


def _share_stream(folder: SessionFolder, name: str, target: Path, allowed: Allowed, final: bool) -> None:
    with opened(top_of(folder.root)) as root:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        there, place = allowed.destination(target)
        with opened(there), opened(os.open(name, flags, 0o644, dir_fd=root)) as stream:
            try:
                os.link(name, place, src_dir_fd=root, dst_dir_fd=there, follow_symlinks=False)
            except FileExistsError:
                pass
            except OSError:
                if final:
                    copy_thing(stream, there, place, usable=True)


def stream_path(session: Session, name: str) -> str | None:
    """Where, relative to the working directory, the request wants stream ``name`` written."""
    streams = session.executable.streams if session.executable else None
    stream = getattr(streams, name, None) if streams else None
    return clean_relative(stream.path, f"streams.{name}.path") if stream and stream.path else None


def _stream_in(session: Session, folder: SessionFolder, tree: Tree | None, name: str) -> str | None:
    """Where a stream is that is written to the session's file system, relative to the session's folder."""
    relative = stream_path(session, name)
    if relative is None or tree is None:
        return None
    return f"{folder.fs.name}/{tree.paths.below(f'{tree.workdir}/{relative}')}"


def _is_done(location: str) -> bool:
    """Whether an output that is no longer here was moved before a crash."""
    return scheme_of(location) == "file" and os.path.lexists(file_path(location))


def _rewrite_files(tree: Tree, session: Session, top: int, most: int) -> None:
    """Write the session's paths as the client knows them, in files that it reads paths from."""
    executable = session.executable
    for name in (executable.rewrite or []) if executable else []:
        relative = tree.paths.below(f"{tree.workdir}/{clean_relative(name, 'executable.rewrite')}")
        with contextlib.suppress(FileNotFoundError, LinkInTheWayError):
            if kind_beneath(top, relative) == stat.S_IFREG:
                try:
                    _rewrite(tree, top, relative, most)
                except NotSmallError as error:
                    raise ReleaseError(name, "", f"{error} (the node's max_rewrite)") from error


def _rewrite(tree: Tree, top: int, relative: str, most: int) -> None:
    """A new file is written: the old one may have other names, which are not the session's."""
    folder, name = parent_beneath(top, relative)
    with opened(folder):
        with os.fdopen(open_beneath(folder, name), "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise NotSmallError(f"{name} is larger than {most} bytes")
        changed = tree.paths.outward(content)
        if changed == content:
            return
        new = f".{uuid4().hex}"
        with os.fdopen(os.open(new, _NEW, 0o644, dir_fd=folder), "wb") as file:
            file.write(changed)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)


def _show_mounted(tree: Tree, top: int, output: str) -> None:
    """Put links where a container had mounts: the engine leaves empty files and folders there."""
    for entry in tree.ordered():
        if entry.kind is not Kind.LINK or not entry.path.startswith(output + "/"):
            continue
        with contextlib.suppress(FileNotFoundError, LinkInTheWayError):  # the command has put others there
            folder, name = parent_beneath(top, tree.paths.below(entry.path))
            with opened(folder):
                _put_link(folder, name, entry.source)


def _put_link(folder: int, name: str, source: Path) -> None:
    status = os.lstat(name, dir_fd=folder)
    if stat.S_ISDIR(status.st_mode):
        os.rmdir(name, dir_fd=folder)
    elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
        os.unlink(name, dir_fd=folder)
    else:
        return
    os.symlink(source, name, dir_fd=folder)
