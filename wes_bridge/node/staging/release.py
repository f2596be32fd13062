"""After the command: bring outputs to where they were asked for, and leave nothing in them that points at
the session's folder, which goes away."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from wes_bridge.model.execution_broker import Session
from wes_bridge.node.errors import ReleaseError
from wes_bridge.node.layout import SessionFolder, clean_relative
from wes_bridge.node.staging.file import copy, drop_rights, file_path
from wes_bridge.node.staging.plan import Kind, Tree
from wes_bridge.node.staging.schemes import Schemes, scheme_of
from wes_bridge.small_files import read_small

MOST_REWRITTEN = 16 * 1024**2
OF_THE_IMAGE = "/nonexistent/file-of-the-container-image"
"""Where links lead that led to a file of a container's own."""


def release(
    tree: Tree, session: Session, schemes: Schemes, links: bool, most_rewritten: int = MOST_REWRITTEN
) -> None:
    """Transfer all outputs of a session. Blocks; may be called again after a crash.

    Args:
        tree: the session's file system.
        session: the session.
        schemes: how to store.
        links: whether the tree was made with symbolic links (see ``place``).
        most_rewritten: bytes of a file that paths are written into.

    Raises:
        ReleaseError: names the output, its destination and the reason.
    """
    if links:
        _rewrite_files(tree, session, most_rewritten)
    for path, data in tree.outputs:
        source = tree.paths.host(path)
        location = data.location or ""
        try:
            kind = _kind(source)
            if kind is None:
                if _is_done(location):
                    continue
                raise FileNotFoundError(2, "the command left nothing there")
            if not links:
                _show_mounted(tree, path)
            if kind == stat.S_IFDIR or (kind == stat.S_IFLNK and source.is_dir()):
                if kind == stat.S_IFLNK and not links:
                    raise ValueError("the command put a link in its place")
                _settle_links(tree, source, links)
                if not links:
                    _break_foreign_links(source, _sources(tree))
            elif kind == stat.S_IFREG:
                drop_rights(str(source), source.lstat().st_mode)
            scheme = schemes.get(location)
            if scheme is None or not scheme.can_store:
                raise ValueError("no way to write to this kind of URL")
            scheme.store(source, location)
        except (OSError, ValueError, shutil.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ReleaseError(path, location, reason) from error


def stream_file(session: Session, folder: SessionFolder, tree: Tree, name: str) -> Path | None:
    """The file that holds stream ``name`` (stdout, stderr) now; None when there is none yet."""
    for path in _stream_places(session, folder, tree, name):
        if not path.is_file() or path.is_symlink():
            continue
        if not path.is_relative_to(folder.root) or path.resolve().is_relative_to(folder.root):
            return path
    return None


def keep_streams(session: Session, folder: SessionFolder, tree: Tree) -> None:
    """Bring streams out of the session's file system, which is about to be removed."""
    for name in ("stdout", "stderr"):
        if stream_path(session, name) is None:
            continue  # it is in the session's folder already
        path = stream_file(session, folder, tree, name)
        if path is not None and path.is_relative_to(folder.fs):
            (folder.root / name).hardlink_to(path)


def share_streams(session: Session, folder: SessionFolder, *, final: bool) -> None:
    """Give the streams that have a destination to it: by a hard link, so that it grows with the stream.

    Args:
        session: names the destinations; those that are not ``file:`` URLs are passed over.
        folder: holds the streams.
        final: whether the command has ended, and copying will do where linking does not.
    """
    streams = session.executable.streams if session.executable else None
    for name in ("stdout", "stderr"):
        stream = getattr(streams, name, None) if streams else None
        if stream is None or scheme_of(stream.destination or "") != "file":
            continue
        source, target = folder.root / name, file_path(stream.destination)
        if final and os.path.lexists(target):
            continue
        with contextlib.suppress(OSError):
            os.close(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(source)
            except FileExistsError:
                continue
            except OSError:
                if final:
                    shutil.copyfile(source, target)


def stream_path(session: Session, name: str) -> str | None:
    """Where, relative to the working directory, the request wants stream ``name`` written."""
    streams = session.executable.streams if session.executable else None
    stream = getattr(streams, name, None) if streams else None
    return clean_relative(stream.path, f"streams.{name}.path") if stream and stream.path else None


def _stream_places(session: Session, folder: SessionFolder, tree: Tree, name: str) -> list[Path]:
    places = [folder.root / name]
    relative = stream_path(session, name)
    if relative is None:
        return places
    inside = f"{tree.workdir}/{relative}"
    for path, data in tree.outputs:
        if inside.startswith(path + "/") and scheme_of(data.location or "") == "file":
            places.insert(0, file_path(data.location or "") / inside[len(path) + 1 :])
    places.insert(0, tree.paths.host(inside))
    return places


def _kind(path: Path) -> int | None:
    """The file's type, as ``stat`` has it; None when there is nothing."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_done(location: str) -> bool:
    """Whether an output that is no longer here was moved before a crash."""
    return scheme_of(location) == "file" and os.path.lexists(file_path(location))


def _rewrite_files(tree: Tree, session: Session, most: int) -> None:
    """Write the session's paths into files that the command wrote ours into."""
    executable = session.executable
    for name in (executable.rewrite or []) if executable else []:
        path = tree.paths.host(f"{tree.workdir}/{clean_relative(name, 'executable.rewrite')}")
        if not path.is_file() or path.is_symlink():
            continue
        if path.resolve().is_relative_to(tree.paths.real):
            try:
                content = read_small(path, most, follow=False)
            except OSError as error:
                raise ReleaseError(name, "", f"{error} (the node's max_rewrite)") from error
            changed = tree.paths.outward(content)
            if changed != content:
                path.write_bytes(changed)


def _show_mounted(tree: Tree, output: str) -> None:
    """Put links where a container had mounts: the engine leaves empty files and folders there."""
    for entry in tree.ordered():
        if entry.kind is not Kind.LINK or not entry.path.startswith(output + "/"):
            continue
        target = tree.paths.host(entry.path)
        if target.is_symlink() or not target.exists():
            continue
        if target.is_dir():
            target.rmdir()
        elif target.stat().st_size == 0:
            target.unlink()
        else:
            continue
        target.symlink_to(entry.source)


def _settle_links(tree: Tree, top: Path, links: bool, folder: Path | None = None) -> None:
    """Make all links in ``folder`` (default: ``top``) and below good for when ``top`` has moved, and let no
    program keep the rights of the node's user."""
    with os.scandir(folder or top) as entries:
        for entry in list(entries):
            if entry.is_symlink():
                _settle(tree, top, Path(entry.path), links)
            elif entry.is_dir(follow_symlinks=False):
                _settle_links(tree, top, links, Path(entry.path))
            else:
                drop_rights(entry.path, entry.stat(follow_symlinks=False).st_mode)


def _settle(tree: Tree, top: Path, link: Path, links: bool) -> None:
    """Make one link good for when ``top`` has moved and the rest of the session is gone."""
    raw = link.readlink()
    there = Path(os.path.normpath(link.parent / _here(tree, str(raw))))
    fs = Path(tree.paths.real)
    if not there.is_relative_to(fs):
        if there.is_relative_to(fs.parent.parent):
            link.unlink()  # into another session
        return
    if there.is_relative_to(top):
        wanted: Path | None = Path(os.path.relpath(there, link.parent))
    else:
        wanted = _outside(tree, there, fs)
    if wanted == raw:
        return
    if wanted is None:
        if not there.exists() or (not links and not there.resolve().is_relative_to(fs)):
            return  # by way of a link that a container's command made, to somewhere on this machine
        link.unlink()
        copy(there.resolve(), link)
        return
    link.unlink()
    link.symlink_to(wanted)


def _sources(tree: Tree) -> list[Path]:
    """What the session was given to see of this machine, without links."""
    return [entry.source.resolve() for entry in tree.entries.values() if entry.kind is Kind.LINK]


def _break_foreign_links(top: Path, sources: list[Path]) -> None:
    """Let no link of a container's output lead to files of this machine: it meant those of its image, which
    are gone with it. It then leads nowhere, by a name that says why."""
    real_top = top.resolve()
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            link = Path(folder, name)
            if not link.is_symlink():
                continue
            raw, there = link.readlink(), Path(os.path.realpath(link))
            inside = not raw.is_absolute() and there.is_relative_to(real_top)
            if inside or (raw.is_absolute() and any(map(there.is_relative_to, sources))):
                continue
            link.unlink()
            link.symlink_to(f"{OF_THE_IMAGE}/{str(raw).lstrip('/')}")


def _here(tree: Tree, target: str) -> Path:
    """Where on this machine a link of the session leads; one of a container may name its paths outside the
    root, such as an output directory that the image demands."""
    path = os.path.normpath(target)
    if path.startswith("/") and not tree.paths.is_rooted(path) and tree.has(path):
        return tree.paths.host(path)
    return Path(tree.paths.inward(target))


def _outside(tree: Tree, there: Path, fs: Path) -> Path | None:
    """Where a staged thing really is, when that is not in the session's folder."""
    source = tree.resolve(tree.paths.session_path(there))
    if not source.exists():
        return None
    real = source.resolve()
    return None if real.is_relative_to(fs.parent.parent) else real
