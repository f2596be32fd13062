"""Files that come with a submission: written as they arrive, shown to others only when all is there.

They are collected below ``WORKSPACE/.incoming/RUN`` and moved to ``WORKSPACE/RUN`` in one step, so that a
submission that fails half-way, for whatever reason, leaves nothing behind. It must not know HTTP.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from wes_bridge.data.workspace import UnsafeNameError, Workspace, safe_relative

_INCOMING = ".incoming"
_STALE = 86400.0


class BadAttachmentError(ValueError):
    """An attachment that cannot be kept as sent; the text says which and why."""


class TooManyAttachmentsError(ValueError):
    """More attachments than allowed."""


class Incoming:
    """The attachments of one submission, on their way in.

    Args:
        workspace: where the run's folder will be.
        run_id: the run to be.
        max_files: how many attachments at most.
    """

    def __init__(self, workspace: Workspace, run_id: str, max_files: int) -> None:
        self.names: list[str] = []
        self._base = workspace.root / _INCOMING / run_id
        self._final = workspace.run(run_id).root
        self._folder = self._base / "attachments"
        self._max_files = max_files
        self._begun = 0
        self.size = 0
        self._file: int | None = None
        self._again: str | None = None  # the name, while an attachment comes a second time

    @property
    def folder(self) -> Path:
        """Where they are before they are published, in a folder called ``attachments``."""
        return self._base

    def begin(self, name: str, *, is_executable: bool = False) -> None:
        """Start the attachment called ``name`` (relative; sub-folders are made).

        Of a file's permissions only that to execute it is kept.

        The same name may come again with the same content: ``wes-client`` sends the workflow twice when it is
        listed among the attachments.

        Raises:
            BadAttachmentError: a name that leads outside, or stands in another's way.
            TooManyAttachmentsError: it is one too many.
            OSError: it cannot be stored.
        """
        self._begun += 1
        if self._begun > self._max_files:
            raise TooManyAttachmentsError(f"more than {self._max_files} attachments; pack them or send fewer")
        name = without_dots(name)
        try:
            path = self._folder / safe_relative(name)
        except UnsafeNameError as error:
            raise BadAttachmentError(f"workflow_attachment: {error}") from error
        if name in self.names:
            self._again = name
            path = self._second
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o755 if is_executable else 0o644
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise BadAttachmentError(
                f"workflow_attachment: {name!r} is a file and a folder at once"
            ) from error
        except (OSError, UnicodeEncodeError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise
            raise BadAttachmentError(f"workflow_attachment: {name[:80]!r} cannot be a file's name") from error
        if self._again is None:
            self.names.append(name)

    def write(self, chunk: bytes | memoryview) -> None:
        """Append to the attachment begun last.

        Raises:
            OSError: the disk is full, or worse.
        """
        assert self._file is not None
        view = memoryview(chunk)
        self.size += len(view)
        while view:
            view = view[os.write(self._file, view) :]

    def end(self) -> None:
        """Finish the attachment begun last.

        Raises:
            BadAttachmentError: it came before, and was not the same.
        """
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._again is not None:
            name, self._again = self._again, None
            same = filecmp.cmp(self._folder / name, self._second, shallow=False)
            self._second.unlink()
            if not same:
                raise BadAttachmentError(f"workflow_attachment: {name!r} was sent twice, and differs")

    @property
    def _second(self) -> Path:
        return self._base / "again"

    def publish(self) -> None:
        """Move everything to where the run expects it; nothing happens when nothing came.

        Raises:
            OSError: it cannot be moved.
        """
        self.end()
        if self.names:
            self._base.rename(self._final)

    def discard(self) -> None:
        """Remove everything, published or not. Never fails."""
        with contextlib.suppress(OSError):
            if self._file is not None:
                os.close(self._file)
        self._file = None
        if self.names or self._base.exists():
            shutil.rmtree(self._base, ignore_errors=True)
            shutil.rmtree(self._final, ignore_errors=True)


def remove_stale(workspace: Workspace, older_than: float = _STALE) -> None:
    """Remove what submissions that died with their server left behind, ``older_than`` seconds ago."""
    folder = workspace.root / _INCOMING
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - older_than:
                shutil.rmtree(path, ignore_errors=True)


def without_dots(name: str) -> str:
    """A name without the segments that mean "here": ``./types/./x`` is ``types/x``."""
    *folders, last = name.split("/")
    return "/".join([*(part for part in folders if part != "."), last])


def find_attachment(url: str, exists: Callable[[str], bool]) -> tuple[str, str] | None:
    """Which attachment a relative URL means.

    Args:
        url: for example ``wf.cwl``, ``tools/a%20b.cwl``, ``./pack.json#main``.
        exists: tells whether there is an attachment of this name.

    Returns:
        The attachment's name and the fragment (without ``#``, may be empty), or None.
    """
    before, _, fragment = url.partition("#")
    for name, rest in ((url, ""), (before, fragment), (unquote(before), fragment)):
        plain = without_dots(name)
        with contextlib.suppress(UnsafeNameError):
            safe_relative(plain)
            if exists(plain):
                return plain, rest
    return None
