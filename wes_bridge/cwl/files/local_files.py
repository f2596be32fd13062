"""Which files of this machine a run may touch: the one place where a ``file:`` URL becomes a path.

Locations come from jobs and documents, and from what expressions and commands make up. All are taken alike:
a path, with links followed, must lie in the run's own folder, in a folder that the site lets workflows read,
or, for a private service, be something that the job or a document names. It must not know what files are for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from cwltool.utils import visit_files_directories
from schema_salad.exceptions import ValidationException

from wes_bridge.cwl.files.linked import Linked, TooManyLinksError, links_out
from wes_bridge.data.beneath import held, real_path
from wes_bridge.data.stand_ins import Elsewhere
from wes_bridge.data.workspace import url_path

Names = tuple[dict[str, str], dict[str, set[str]]]
"""Real paths that are named, and by folder the beginnings of the names of what belongs to them."""


class LocalFiles:
    """The files of one run.

    Args:
        own: folders of the run itself.
        shared: folders that the site lets workflows read.
        only_named: of those, only what the job or a document names (:meth:`name`).

    Attributes:
        elsewhere: knows where the bytes are of files that only stand in here; None: there are none.
    """

    def __init__(self, own: Iterable[Path], shared: Iterable[Path], *, only_named: bool) -> None:
        self._own = _prefixes(own)
        self._shared = _prefixes(shared)
        self.only_named = only_named
        self.elsewhere: Elsewhere | None = None
        self._free = self._own if only_named else (*self._own, *self._shared)
        self._named: dict[str, str] = {}
        self._roots: dict[str, set[str]] = {}
        self._linked: dict[str, list[Linked]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For the process that loads workflows: steps have not made anything then."""
        return {**vars(self), "elsewhere": None}

    def name(self, value: Any) -> None:
        """Note the Files and Directories in a document as named by it."""
        if self.only_named:
            visit_files_directories(value, self._name)

    def name_in_job(self, value: Any) -> None:
        """Note those in a job order, and what links in the Directories lead to: they are the user's."""
        if self.only_named:
            visit_files_directories(value, self._name)
            visit_files_directories(value, self._name_linked)

    def _name_linked(self, item: Any) -> None:
        if item.get("class") != "Directory":
            return
        for path in _paths(item):
            with contextlib.suppress(TooManyLinksError):  # it is told when it is staged
                for link in self.links_out(path):
                    if f"{link.target}/".startswith(self._shared):
                        self._named[link.target] = link.target

    def links_out(self, path: str | Path) -> list[Linked]:
        """The links in a Directory that lead out of it; none of one that a step of this run has made, for a
        command's links are not followed.

        Raises:
            TooManyLinksError: there are very many.
        """
        real = real_path(path)
        if f"{real}/".startswith(self._own):
            return []
        found = self._linked.get(real)
        if found is None:
            found = self._linked[real] = links_out(real)
        return found

    @property
    def names(self) -> Names:
        """What was noted as named: for a copy of this in another process."""
        return self._named, self._roots

    def take(self, names: Names) -> None:
        """Note what a copy of this in another process has noted, where the workflow was loaded."""
        self._named.update(names[0])
        for folder, roots in names[1].items():
            self._roots.setdefault(folder, set()).update(roots)

    def _name(self, item: Any) -> None:
        for path in _paths(item):
            with contextlib.suppress(ValueError, OSError):
                self._add(path)

    def _add(self, path: Path) -> None:
        real = real_path(path)
        if not f"{real}/".startswith(self._shared):
            return
        self._named[real] = real
        # its secondary files are beside it: by the name that is given, and where a link leads
        for folder, name in ((real_path(path.parent), path.name), os.path.split(real)):
            root = name if name.startswith(".") else name.partition(".")[0]
            if root:
                self._roots.setdefault(folder, set()).add(root)

    def allows(self, real: str) -> bool:
        """Whether a path, links followed, may be read."""
        if f"{real}/".startswith(self._free):
            return True
        return self.only_named and self._is_named(real)

    def _is_named(self, real: str) -> bool:
        """Whether a path is named, is in a Directory that is, or belongs to a File that is, by its name."""
        path = real
        while path not in ("", "/"):
            folder, name = os.path.split(path)
            roots = self._roots.get(folder, ())
            if path in self._named or (roots and any(name[:end] in roots for end in range(1, len(name) + 1))):
                return True
            path = folder
        return False

    def allows_document(self, real: str) -> bool:
        """Whether a path, links followed, may be read as a part of a document."""
        return f"{real}/".startswith((*self._own, *self._shared))

    def check(self, path: str | Path) -> str:
        """Refuse a path that must not be read.

        Returns:
            The path with links followed.

        Raises:
            ValidationException: with the reason.
        """
        real = real_path(path)
        if not self.allows(real):
            raise self.refusal(path)
        return real

    @contextlib.contextmanager
    def checked(self, path: str | Path) -> Iterator[tuple[str, str]]:
        """As :meth:`check`, and hold what was checked: its real path, and a name to open it by.

        Raises:
            OSError: there is nothing.
            ValidationException: with the reason.
        """
        try:
            hold = held(path)
            real, name = hold.__enter__()
        except OSError:
            self.check(path)
            raise
        try:
            if not self.allows(real):
                raise self.refusal(path)
            yield real, name
        finally:
            hold.__exit__(None, None, None)

    def may_change(self, path: str | Path) -> bool:
        """Whether a path may be updated in place: the site's shared folders are for reading."""
        real = real_path(path)
        return f"{real}/".startswith(self._own) or (self.only_named and self._is_named(real))

    def url(self, url: str) -> str:
        """A location as a node is to be given it; a local one is checked, and written so that it means to
        everybody what was checked.

        Raises:
            ValidationException: with the reason.
        """
        if url.startswith("/"):
            path = Path(os.path.normpath(url))
        elif urlsplit(url[:8]).scheme.lower() == "file":
            try:
                path = url_path(url)
            except ValueError as error:
                raise ValidationException(f"Cannot read {url}: {error}") from error
        else:
            return url
        self.check(path)
        return f"file://{quote(str(path))}"

    def refusal(self, path: str | Path) -> ValidationException:
        """Words for a path that must not be read."""
        if self.only_named:
            return ValidationException(
                f"{path} is neither named by the job or a document, nor in a folder that they name, nor did a"
                " step of this run make it, so it is not read (name it in the job file)"
            )
        return ValidationException(
            f"{path} is outside the folders this service lets workflows read"
            " (attach the file, or ask the site to add its folder to fetch.files)"
        )


def _paths(item: Any) -> Iterator[Path]:
    """The paths on this machine that a File or Directory is said to have."""
    for location in (item.get("location"), item.get("path")):
        with contextlib.suppress(ValueError, OSError):
            if isinstance(location, str) and (location[:5].lower() == "file:" or location[:1] == "/"):
                yield Path(location) if location[0] == "/" else url_path(location)


def _prefixes(folders: Iterable[Path]) -> tuple[str, ...]:
    """As texts, links followed, with a slash at the end: they are compared for every file."""
    return tuple(f"{folder.resolve()}/".replace("//", "/") for folder in folders)
