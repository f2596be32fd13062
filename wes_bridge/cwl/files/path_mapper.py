"""cwltool's two views of files, on URLs: reading what a step left behind, and placing what it needs.

Everything is a ``file://`` URL of the workspace or of an attachment; inputs at other URLs stay where they are
and are staged by the node.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator, MutableSequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from cwl_utils.types import CWLDirectoryType, CWLFileType
from cwltool.errors import WorkflowException
from cwltool.pathmapper import MapperEnt, PathMapper
from cwltool.stdfsaccess import StdFsAccess, abspath
from cwltool.utils import adjustFileDirObjs
from schema_salad.exceptions import ValidationException
from schema_salad.ref_resolver import file_uri, uri_file_path

from wes_bridge.cwl.files.names import check_name
from wes_bridge.cwl.files.output_object import MOST_BYTES, OUTPUT_OBJECT, read_output_object
from wes_bridge.cwl.loading.fetching import Policy, fetch_http
from wes_bridge.data.beneath import real_path
from wes_bridge.data.special import readable, what_is_wrong
from wes_bridge.small_files import NotSmallError, open_regular


class RunFsAccess(StdFsAccess):
    """cwltool's file access for one job: local files behind the run's :class:`Policy`.

    cwltool asks up to five times for a file; what was allowed once is not looked at again.
    """

    policy: Policy
    most_output: int = MOST_BYTES

    def __init__(self, basedir: str) -> None:
        super().__init__(basedir)
        self._permitted: dict[str, Path] = {}

    def _local(self, name: str) -> Path:
        path = self._permitted.get(name)
        if path is None:
            path = Path(abspath(name, self.basedir))
            self.policy.files.check(path)
            self._permitted[name] = path
        return path

    def glob(self, pattern: str) -> list[str]:
        """``file://`` URLs matching ``pattern``, in no particular order.

        Raises:
            ValidationException: it leads out of what may be read.
            WorkflowException: a name is no text.
        """
        found = glob.glob(abspath(pattern, self.basedir))  # noqa: PTH207  # hidden-file rules of glob.glob are CWL's
        files = self.policy.files
        if not all(files.allows(real_path(folder)) for folder in {os.path.dirname(name) for name in found}):  # noqa: PTH120
            for name in found:
                files.check(name)
        try:
            return [file_uri(name) for name in found]
        except UnicodeEncodeError as error:
            name = readable(os.path.relpath(error.object, self.basedir))
            raise WorkflowException(f"{name} has a name that is not UTF-8, so it can be no output") from error

    def open(self, fn: str, mode: str) -> IO[Any]:
        """Open a file to read; one at an http(s) URL is fetched."""
        if urlsplit(fn).scheme in ("http", "https"):
            content = fetch_http(fn, self.policy)
            return io.BytesIO(content) if "b" in mode else io.StringIO(content.decode())
        if set(mode) - set("rbt"):
            raise ValueError(f"files of a run are not written to by this way: {mode!r}")
        with self.policy.files.checked(abspath(fn, self.basedir)) as (real, name):
            return self._open_local(os.path.basename(real), Path(name), mode)  # noqa: PTH119

    def _open_local(self, called: str, path: Path, mode: str) -> IO[Any]:
        """Open a regular file; cwl.output.json, which cwltool reads as a whole, within its limits.

        Args:
            called: its name.
            path: by which it is held.
            mode: as of :func:`open`.

        Raises:
            ValidationException: it is something else, or too large.
        """
        try:
            if called == OUTPUT_OBJECT and "b" not in mode:
                return io.StringIO(read_output_object(path, self.most_output))
            return os.fdopen(open_regular(path), mode)
        except NotSmallError as error:
            reason = str(error).partition(" ")[2]  # it knows the file by a number
            raise ValidationException(f"{readable(called)} {reason}") from error

    def exists(self, fn: str) -> bool:
        """Whether there is a file or directory that may be read; http(s) is taken on trust."""
        return _is_remote(fn) or self._allowed(fn, Path.exists)

    def isfile(self, fn: str) -> bool:
        """Whether it is a file that may be read."""
        return _is_remote(fn) or self._allowed(fn, Path.is_file)

    def isdir(self, fn: str) -> bool:
        """Whether it is a directory that may be read.

        Raises:
            ValidationException: it is something else than a file or directory, a pipe or a broken link.
        """
        if _is_remote(fn) or fn.startswith("_:"):
            return False
        if self._allowed(fn, Path.is_dir):
            return True
        path = abspath(fn, self.basedir)
        wrong = what_is_wrong(path)
        if wrong is not None:
            name = readable(os.path.basename(path))  # noqa: PTH119
            raise ValidationException(f"{name} is {wrong}, so it can be no File or Directory")
        return False

    def _allowed(self, name: str, test: Any) -> bool:
        path = self._permitted.get(name)
        if path is not None:
            return bool(test(path))
        path = Path(abspath(name, self.basedir))
        if not test(path) or not self.policy.files.allows(real_path(path)):
            return False
        self._permitted[name] = path
        return True

    def size(self, fn: str) -> int:
        """Size of a file, bytes.

        Raises:
            OSError: there is none, it is remote, or a literal.
        """
        if _is_remote(fn) or fn.startswith("_:"):
            raise OSError(f"the size of {fn} is not known")
        return self._local(fn).stat().st_size

    def listdir(self, fn: str) -> list[str]:
        """``file://`` URLs of what is in a directory."""
        base = fn if fn.startswith("file://") else file_uri(abspath(fn, self.basedir))
        with self.policy.files.checked(abspath(fn, self.basedir)) as (_, name):
            return [f"{base.rstrip('/')}/{quote(entry)}" for entry in sorted(os.listdir(name))]  # noqa: PTH208

    def realpath(self, path: str) -> str:
        """The path as it is: paths of sessions do not exist here."""
        return path


def _is_remote(name: str) -> bool:
    return urlsplit(name).scheme in ("http", "https")


def fs_access(policy: Policy, most_output: int = MOST_BYTES) -> type[RunFsAccess]:
    """A file-access class bound to ``policy``, and to how large a cwl.output.json may be: cwltool wants a
    constructor of one argument."""
    return type("BoundFsAccess", (RunFsAccess,), {"policy": policy, "most_output": most_output})


class UrlPathMapper(PathMapper):
    """Maps inputs to paths in the session, naming folders by number so that commands are reproducible.

    ``resolved`` is where an input comes from: a plain path for a local one (cwltool expects that when an
    output turns out to be an input), a URL otherwise, the text of a literal. Nothing is downloaded.

    cwltool's knows one target for each location, so that a file in two listings, or under two names, is in
    one of them only. This one keeps the others, too (:meth:`entries`).
    """

    def __init__(
        self,
        referenced_files: MutableSequence[CWLFileType | CWLDirectoryType],
        basedir: str,
        stagedir: str,
        separateDirs: bool = True,
    ) -> None:
        self._pathmap: dict[str, MapperEnt] = {}
        self._others: list[tuple[str, MapperEnt]] = []
        self._named: dict[str, dict[str, str]] = {}
        self._collected: tuple[str, str] | None = None
        self.stagedir = stagedir
        self.separateDirs = separateDirs
        self.setup(referenced_files, basedir)

    def setup(self, referenced_files: MutableSequence[CWLFileType | CWLDirectoryType], basedir: str) -> None:
        """Give each input a folder of its own below ``stagedir`` (when they are to be separate)."""
        listed = _listed(referenced_files)
        numbered = sorted(enumerate(referenced_files), key=lambda pair: pair[1]["location"] in listed)
        for number, item in numbered:  # a Directory comes before what is in it
            stagedir = f"{self.stagedir}/{number}" if self.separateDirs else self.stagedir
            if self.separateDirs:
                if self._is_placed(item):
                    continue
                self._set_aside(item)
            self.visit(item, stagedir, basedir, copy=bool(item.get("writable")), staged=True)

    def visit(
        self,
        obj: CWLFileType | CWLDirectoryType,
        stagedir: str,
        basedir: str,
        copy: bool = False,
        staged: bool = False,
    ) -> None:
        """Map one File or Directory and what belongs to it."""
        location = obj["location"]
        if location in self._pathmap and not staged:
            return
        check_name(obj)
        folder = obj.get("dirname") or stagedir
        target = os.path.join(folder, obj["basename"])  # noqa: PTH118  # a path of the session, not of here
        if obj["class"] == "Directory":
            kind = "WritableDirectory" if copy else "Directory"
            self._put(location, MapperEnt(_local_path(location), target, kind, staged))
            inside = staged and location.startswith("_:")
            self.visitlisting(obj.get("listing", []), target, basedir, copy=copy, staged=inside)
            return
        if location.startswith("_:") and "contents" in obj:
            kind = "CreateWritableFile" if copy else "CreateFile"
            self._put(location, MapperEnt(obj["contents"], target, kind, staged))
        else:
            resolved = _local_path(abspath(location, basedir))
            self._put(location, MapperEnt(resolved, target, "WritableFile" if copy else "File", staged))
        self.visitlisting(obj.get("secondaryFiles", []), folder, basedir, copy=copy, staged=staged)

    def _put(self, location: str, entry: MapperEnt) -> None:
        known = self._pathmap.setdefault(location, entry)
        if known.target != entry.target:
            self._others.append((location, entry))
        name = os.path.basename(entry.target)  # noqa: PTH119
        self._named.setdefault(location, {}).setdefault(name, entry.target)

    def _is_placed(self, item: CWLFileType | CWLDirectoryType) -> bool:
        """Whether an input is there under its name already, and its secondary files beside it."""
        target = self._named.get(item["location"], {}).get(item["basename"])
        if target is None:
            return False
        folder = os.path.dirname(target)  # noqa: PTH120
        return all(
            self._named.get(other["location"], {}).get(other["basename"]) == f"{folder}/{other['basename']}"
            for other in item.get("secondaryFiles", [])
        )

    def _set_aside(self, item: CWLFileType | CWLDirectoryType) -> None:
        """Let an input that is somewhere already, under another name or alone, have its next place first."""
        known = self._pathmap.pop(item["location"], None)
        if known is not None:
            self._others.append((item["location"], known))
            self._named[item["location"]].pop(item["basename"], None)
        for other in item.get("secondaryFiles", []):
            self._set_aside(other)

    def update(
        self, key: str, resolved: str, target: str, ctype: str | None, stage: bool | None
    ) -> MapperEnt:
        """Give an input another place, in the working directory: it is not at its first any more."""
        old, names = self._pathmap[key], self._named.setdefault(key, {})
        if old.staged:
            self._named[key] = names = {name: place for name, place in names.items() if place != old.target}
            inside = f"{old.target}/"
            self._others = [item for item in self._others if not item[1].target.startswith(inside)]
        names[os.path.basename(target)] = target  # noqa: PTH119
        return super().update(key, resolved, target, ctype, stage)

    def entries(self) -> Iterator[tuple[str, MapperEnt]]:
        """Location and place of all there is to be, also of what is there more than once."""
        yield from self._pathmap.items()
        yield from self._others

    def target_of(self, item: CWLFileType | CWLDirectoryType) -> str:
        """The path in the session of an input, by its name where it has several."""
        location = item["location"]
        target = self._named.get(location, {}).get(item.get("basename", ""))
        return self.mapper(location).target if target is None else target

    def reversemap(self, target: str) -> tuple[str, str] | None:
        """The location and origin of the input at ``target``.

        None for a literal, which has no other place, and where the command has put something else.
        """
        for location, entry in self.entries():
            if entry.target == target:
                is_input = not location.startswith("_:") and not self._is_replaced(entry)
                return (location, entry.resolved) if is_input else None
        return None

    def collect_from(self, workdir: str, place: str) -> None:
        """Say where what the command left in the session's ``workdir`` is now."""
        self._collected = (f"{workdir}/", place)

    def _is_replaced(self, entry: MapperEnt) -> bool:
        """Whether something else is now where an input was in the working directory: ``sed -i`` writes a new
        file, and the link to the input is gone."""
        workdir, place = self._collected or ("", "")
        if not workdir or not entry.target.startswith(workdir):
            return False
        left = os.path.join(place, entry.target[len(workdir) :])  # noqa: PTH118
        try:
            return os.path.lexists(left) and not os.path.samefile(left, entry.resolved)  # noqa: PTH121
        except OSError:
            return True


def _listed(items: Iterable[CWLFileType | CWLDirectoryType]) -> set[str]:
    """Locations of all that is in listings of Directories."""
    found: set[str] = set()
    for item in items:
        for entry in item.get("listing", []) if item["class"] == "Directory" else ():
            adjustFileDirObjs(entry, lambda inner: found.add(inner["location"]))
    return found


def _local_path(location: str) -> str:
    return str(uri_file_path(location)) if location.startswith("file://") else location
