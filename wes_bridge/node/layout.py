"""Where a session's things are on this machine, and how the client's paths map to them."""

from __future__ import annotations

import string
from pathlib import Path, PurePosixPath

from wes_bridge.node.errors import BadRequestError

INPUTS = "inputs"


class SessionFolder:
    """The folder of one session: ``fs`` is its file system, the rest is the node's own.

    Attributes:
        root: absolute, with no symbolic links.
        fs: what is below ``Executable.root``, or below ``/`` when the request has no root.
        inputs: what was fetched and is only read; links in ``fs`` lead there, or mounts are of it.
        stdout, stderr: the streams, unless the request named files for them.
        command: the keeper's record of the command: process id and start; its exit code once it has ended.
        stop: why the node ended the command, if it did.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fs = root / "fs"
        self.inputs = root / INPUTS
        self.stdout = root / "stdout"
        self.stderr = root / "stderr"
        self.command = root / "command"
        self.stop = root / "stop"


def clean_path(path: str, what: str) -> str:
    """Check an absolute path of the session's file system; written without ``//``, ``.`` or a final ``/``.

    Args:
        path: as in the request.
        what: which field it is, for the error.

    Raises:
        BadRequestError: relative, has ``..`` or a NUL.
    """
    if not path.startswith("/") or "\x00" in path:
        raise BadRequestError(f"{what} must be an absolute path, not {path!r}")
    if ".." in path.split("/"):
        raise BadRequestError(f"{what} must not contain '..': {path!r}")
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def clean_relative(path: str, what: str) -> str:
    """Check a path relative to the working directory; written like :func:`clean_path`.

    Raises:
        BadRequestError: absolute, empty, has ``..`` or a NUL.
    """
    if path.startswith("/") or "\x00" in path or ".." in path.split("/"):
        raise BadRequestError(f"{what} must be a relative path without '..', not {path!r}")
    clean = "/".join(part for part in path.split("/") if part not in ("", "."))
    if not clean:
        raise BadRequestError(f"{what} is empty")
    return clean


def is_below(path: str, root: str) -> bool:
    """Whether a clean path is ``root`` or inside it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


_IN_NAMES = frozenset(string.ascii_letters + string.digits + "_-")


def _replace(text: str, old: str, new: str) -> str:
    """Replace a path wherever it is not the beginning of a longer name.

    Not by a regular expression: compiling one for each session took a third of a millisecond.
    """
    found, done = text.find(old), 0
    parts = []
    while found >= 0:
        end = found + len(old)
        if text[end : end + 1] in _IN_NAMES:
            end = found + 1
        else:
            parts += [text[done:found], new]
            done = end
        found = text.find(old, end)
    return "".join(parts) + text[done:]


def _as_bytes(path: str) -> str:
    """A path's bytes, one character each."""
    return path.encode().decode("latin-1")


_OUTSIDE = ".outside"
"""Folder, in a session's file system here, of what is not below the client's root."""


class RootMap:
    """The client's ``root`` and the directory it stands for here.

    Args:
        root: clean absolute path, or None when the request has none (nothing is then rewritten).
        real: the directory.
    """

    def __init__(self, root: str | None, real: Path) -> None:
        self.root = root
        self.real = str(real)

    def inward(self, text: str) -> str:
        """Replace the client's root by the real directory wherever it stands in ``text``."""
        return text if self.root is None else _replace(text, self.root, self.real)

    def inward_bytes(self, content: bytes) -> bytes:
        """As :meth:`inward`, for the content of a file."""
        if self.root is None or self.root.encode() not in content:
            return content
        return self.inward(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def outward(self, text: bytes) -> bytes:
        """Replace the real directory by the client's root wherever it stands in ``text``."""
        if self.root is None:
            return text
        return _replace(text.decode("latin-1"), _as_bytes(self.real), _as_bytes(self.root)).encode("latin-1")

    def is_rooted(self, path: str) -> bool:
        """Whether a session path is below the client's root; the others only a container can show."""
        return self.root is not None and is_below(path, self.root)

    def host(self, path: str) -> Path:
        """Where the session path ``path`` is in the session's folder."""
        return Path(f"{self.real}/{self.below(path)}")

    def below(self, path: str) -> str:
        """The same, relative to the session's folder; empty for that folder itself.

        With texts only: pathlib took a third of the time of staging and releasing a quick command.
        """
        if self.root is None:
            return path.strip("/")
        if not self.is_rooted(path):
            return f"{_OUTSIDE}{path}"
        return path[len(self.root) :].strip("/")

    def session_path(self, here: Path) -> str:
        """The reverse of :meth:`host`, for a path in the session's folder."""
        relative = PurePosixPath(here).relative_to(self.real)
        if self.root is not None and relative.parts[:1] == (_OUTSIDE,):
            return "/" + "/".join(relative.parts[1:])
        return f"{self.root or ''}/{relative}"
