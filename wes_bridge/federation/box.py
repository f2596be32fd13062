"""The folder that a step's container and we both see: made before the session, read after it.

For brokers that stage nothing but mounts, and give nothing back. All of it is blocking: not for the event
loop. It must not know the broker's protocol.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from wes_bridge.federation.wrapper import EXIT, NOTES, SCRIPT, STARTED, STOP
from wes_bridge.model.step_plan import StagedFile, StageMode

_OPEN = 0o777
"""Mode of what the container's user, whoever that is, writes in; the folder above lets nobody list it."""
_LINE = 4096
"""Bytes of the wrapper's last line that are read."""


def local_path(url: str) -> Path:
    """The path of a ``file://`` URL of this machine.

    Raises:
        ValueError: it is not one.
    """
    split = urlsplit(url)
    if split.scheme != "file" or split.netloc not in ("", "localhost"):
        raise ValueError(f"not a file URL of this machine: {url}")
    return Path(unquote(split.path))


@dataclass(frozen=True)
class Mounted:
    """A part of the box and the absolute container path it is shown at."""

    inside: str
    path: str


class Box:
    """One session's folder.

    Args:
        folder: absolute, not there yet.
        root: container path at which ``folder/fs`` is shown.
        outside: other mounts of the box, for paths that are not below ``root``.
    """

    def __init__(self, folder: Path, root: str, outside: tuple[Mounted, ...] = ()) -> None:
        self.folder = folder
        self.mounts = (Mounted("fs", root), *outside)
        self.notes = folder / "fs" / NOTES
        self._kept = folder.with_name(folder.name + ".ended")

    def here(self, path: str) -> Path:
        """Where a container path is on this machine.

        Raises:
            ValueError: it is not in the box.
        """
        wanted = PurePosixPath(path)
        if ".." in wanted.parts:
            raise ValueError(f"{path} has '..'")
        for mount in reversed(self.mounts):
            if wanted.is_relative_to(mount.path):
                return self.folder / mount.inside / wanted.relative_to(mount.path)
        raise ValueError(f"{path} is not in the session's folder")

    def make(self, script: str, workdir: str, files: list[str]) -> None:
        """Make the folder, its script, its working directory, and empty files that will be written.

        Args:
            script: the wrapper's text.
            workdir: container path.
            files: container paths.
        """
        self.folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o711)
        for mount in self.mounts:
            self._folder(self.folder / mount.inside)
        self._folder(self.notes)
        self._folder(self.here(workdir))
        (self.notes / SCRIPT).write_text(script, encoding="utf-8", errors="surrogateescape")
        for path in files:
            self._file(self.here(path), b"")

    def place(self, item: StagedFile) -> None:
        """Put a literal, an empty directory, or a copy of a local file or directory at its path.

        Raises:
            OSError: it cannot be read or written.
        """
        target = self.here(item.path)
        if item.contents is not None:
            self._file(target, item.contents.encode("utf-8", "surrogateescape"))
            return
        if item.url is None:
            self._folder(target)
            return
        source = local_path(item.url)
        self._folder(target.parent)
        if item.directory:
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        if item.mode is not StageMode.READ:
            _open_all(target)

    def mount_point(self, item: StagedFile) -> None:
        """Make what a mount covers: left to the container engine, it would belong to another user.

        Raises:
            FileNotFoundError: the source is not there; an engine would silently make an empty directory.
        """
        source = local_path(item.url or "")
        if not source.exists():
            raise FileNotFoundError(2, "No such file or directory", str(source))
        with contextlib.suppress(ValueError):  # outside the box: the engine's business
            target = self.here(item.path)
            if source.is_dir():
                self._folder(target)
            else:
                self._file(target, b"")

    def folder_of(self, path: str) -> None:
        """Make the directory that ``path`` will be in."""
        self._folder(self.here(path).parent)

    def show(self, path: str, elsewhere: Path) -> None:
        """Make a file of the box appear elsewhere too, as it grows and for good: as a second name of it.

        Never by a copy afterwards: what the container leaves at ``path`` may be a link to anything.

        Raises:
            OSError: the file system has no hard links, or they are on two.
        """
        elsewhere.parent.mkdir(parents=True, exist_ok=True)
        elsewhere.unlink(missing_ok=True)
        elsewhere.hardlink_to(self.here(path))

    def state(self) -> tuple[bool, str | None]:
        """Whether the wrapper began, and the line it ended with, None when it has not."""
        ending = _line(self.notes / EXIT) or _line(self._kept)
        return ending is not None or (self.notes / STARTED).exists(), ending

    def times(self) -> tuple[float | None, float | None]:
        """When the wrapper began and when it wrote its last line, seconds since the epoch."""
        return _written(self.notes / STARTED), _written(self.notes / EXIT)

    def ask_to_stop(self) -> None:
        """Have the wrapper end the command, or not begin it."""
        with contextlib.suppress(OSError):
            (self.notes / STOP).touch()

    def take(self, workdir: str, destination: Path) -> None:
        """Move what is in the working directory to ``destination``, in one step where the file system can.

        Nothing is done when an earlier engine did it: then only the destination is there.

        Raises:
            OSError: it cannot be, or the command put a link in its place.
        """
        source = self.here(workdir)
        if source.resolve() != self.folder.resolve() / source.relative_to(self.folder):
            raise NotADirectoryError(20, "the command replaced its working directory by a link", str(source))
        if not source.exists() and destination.exists():
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.exists():
            shutil.rmtree(destination)
        shutil.move(source, destination)

    def finish(self) -> None:
        """Delete all but the line it ended with, which :meth:`state` goes on telling."""
        ending = _line(self.notes / EXIT)
        if ending is None:
            self.remove()
            return
        with contextlib.suppress(OSError):  # then all of it is kept
            new = self._kept.with_suffix(".new")
            new.write_text(ending + "\n", encoding="utf-8")
            new.replace(self._kept)
            shutil.rmtree(self.folder, ignore_errors=True)

    def remove(self) -> None:
        """Delete it, as far as its files' owners let us."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._kept.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def _folder(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(_OPEN)

    def _file(self, path: Path, content: bytes) -> None:
        self._folder(path.parent)
        path.write_bytes(content)
        path.chmod(0o666)


def _line(path: Path) -> str | None:
    """A file's content without following what a container may have left in its place; None for none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(file, _LINE).decode(errors="replace").strip() or None
    except OSError:
        return None
    finally:
        os.close(file)


def _written(path: Path) -> float | None:
    """When a file was written last; None when it is not there, or is no plain file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_mtime if stat.S_ISREG(found.st_mode) else None


def _open_all(path: Path) -> None:
    """Let anybody change a copy, as the step may."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    for item in paths:
        if not item.is_symlink():
            item.chmod(item.stat().st_mode | (0o777 if item.is_dir() else 0o666))
