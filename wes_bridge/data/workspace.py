"""Where a run's files live: one folder a run, the same shape everywhere.

``RUN/attachments`` holds what was uploaded, ``RUN/tasks/TASK/out`` what each task wrote, ``RUN/outputs`` the
run's final outputs, ``RUN/logs`` the engine's words. It must not know WES or CWL; it hands out paths that are
guaranteed to stay inside.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from wes_bridge.model.run_urls import from_store, url_now


class UnsafeNameError(ValueError):
    """A name that would lead outside its folder, or could not be stored as given."""


def safe_relative(name: str) -> PurePosixPath:
    """Check the name of an attachment or output: relative, no ``..``, no empty or odd segments.

    Raises:
        UnsafeNameError: says what is wrong with the name.
    """
    if not name or "\x00" in name or "\\" in name:
        raise UnsafeNameError(f"file name {name!r} is empty or has a NUL or backslash")
    if name.startswith("/") or (name[1:3] == ":/" and name[0].isalpha()):
        raise UnsafeNameError(f"file name {name!r} is absolute; names must be relative")
    parts = stored_relative(name).parts
    if any(len(part.encode()) > 255 for part in parts):
        raise UnsafeNameError(f"file name {name[:40]!r}... has a segment over 255 bytes")
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        raise UnsafeNameError(f"file name {name!r} has a control character")
    return PurePosixPath(name)


def stored_relative(name: str) -> PurePosixPath:
    """Check the name of a file that a command may have made: relative and without ``..``, and else any.

    Raises:
        UnsafeNameError: says what is wrong with the name.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise UnsafeNameError(f"file name {name!r} has an empty, '.' or '..' segment")
    if "\x00" in name:
        raise UnsafeNameError(f"file name {name!r} has a NUL")
    return PurePosixPath(name)


def file_url(path: Path) -> str:
    """The ``file://`` URL of an absolute path."""
    return "file://" + quote(str(path))


def url_path(url: str) -> Path:
    """The path of a ``file:`` URL, ``..`` taken out: the one way in which all of us read such a URL.

    Raises:
        ValueError: another scheme, a host that is not this one, or no absolute path.
    """
    split = urlsplit(url.replace("?", "%3F").replace("#", "%23"))
    if split.scheme != "file" or split.netloc not in ("", "localhost"):
        raise ValueError(f"not a file URL of this host: {url}")
    path = unquote(split.path)
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"not an absolute path: {url}")
    return Path(os.path.normpath(path))


class TaskUrls(NamedTuple):
    """Where what comes out of a task is kept."""

    out: str
    stdout: str
    stderr: str


class RunFolder:
    """The folder of one run. Attributes are absolute paths; nothing is made before it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attachments = root / "attachments"
        self.tasks = root / "tasks"
        self.outputs = root / "outputs"
        self.logs = root / "logs"
        self.stdout = self.logs / "stdout"
        self.stderr = self.logs / "stderr"
        self._inputs = self.logs / "inputs.json"

    @functools.cached_property
    def real_root(self) -> Path:
        """``root`` with symbolic links followed: looked at once, not for every file."""
        return self.root.resolve()

    def declare_inputs(self, names: list[str]) -> None:
        """Write down the names of the workflow's inputs, for those who cannot read CWL."""
        self.logs.mkdir(exist_ok=True)
        self._inputs.write_text(json.dumps(names))

    def declared_inputs(self) -> list[str] | None:
        """The names of the workflow's inputs; None while nobody has loaded it."""
        try:
            return [str(name) for name in json.loads(self._inputs.read_bytes())]
        except (OSError, ValueError):
            return None

    def attachment(self, name: str) -> Path:
        """Where the attachment called ``name`` is kept.

        Raises:
            UnsafeNameError: see :func:`safe_relative`.
        """
        return self.attachments / safe_relative(name)

    def task_out(self, task_id: str) -> Path:
        """Where a task's output directory ends up."""
        return self.tasks / task_id / "out"

    def task_stream(self, task_id: str, name: str) -> Path:
        """Where a task's ``stdout`` or ``stderr`` is kept."""
        return self.tasks / task_id / name

    def task_urls(self, task_id: str) -> TaskUrls:
        """The ``file://`` URLs of :meth:`task_out` and of both :meth:`task_stream`."""
        base = f"{self._tasks_url}/{quote(task_id)}"
        return TaskUrls(f"{base}/out", f"{base}/stdout", f"{base}/stderr")

    @functools.cached_property
    def url(self) -> str:
        """Its ``file://`` URL, without a slash at the end."""
        return file_url(self.root)

    def url_now(self, stored: str) -> str:
        """The URL that a file of the run has now, of the one stored (:mod:`wes_bridge.model.run_urls`)."""
        return url_now(stored, self.root.name, self.url)

    def outputs_now(self, stored: Any) -> Any:
        """The same for all locations in an output object, or in what holds one."""
        return from_store(stored, self.root.name, self.url)

    @functools.cached_property
    def _tasks_url(self) -> str:
        return file_url(self.tasks)

    def contains(self, path: Path) -> bool:
        """Whether ``path``, symbolic links followed, is inside this folder."""
        return path.resolve().is_relative_to(self.real_root)

    def remove(self) -> None:
        """Delete everything of the run."""
        shutil.rmtree(self.root, ignore_errors=True)


class Workspace:
    """All runs' folders below one directory.

    Args:
        root: absolute path; made if missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run; ``run_id`` must have been made by us (it is one safe segment).

        Raises:
            UnsafeNameError: it is not.
        """
        if len(safe_relative(run_id).parts) != 1:
            raise UnsafeNameError(f"not a run id: {run_id!r}")
        return RunFolder(self.root / run_id)
