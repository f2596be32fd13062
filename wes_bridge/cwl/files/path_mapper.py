"""Where a step finds its files: cwltool's path mapper, on URLs and on paths of the session.

Inputs stay where they are, and are staged by the node. It must not read any of them.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, MutableSequence

from cwl_utils.types import CWLDirectoryType, CWLFileType, is_file
from cwltool.builder import Builder
from cwltool.errors import WorkflowException
from cwltool.pathmapper import MapperEnt, PathMapper
from cwltool.stdfsaccess import abspath
from cwltool.utils import adjustFileDirObjs
from schema_salad.ref_resolver import uri_file_path

from wes_bridge.cwl.files.names import check_name
from wes_bridge.model.locations import is_elsewhere


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
            resolved = _local_path(location if is_elsewhere(location) else abspath(location, basedir))
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


def check_adjust(
    accepted: re.Pattern[str], builder: Builder, item: CWLFileType | CWLDirectoryType
) -> CWLFileType | CWLDirectoryType:
    """Give an input its path in the session, by its location and, other than cwltool's, its name.

    Raises:
        WorkflowException: it is called what no input may be called.
    """
    mapper = builder.pathmapper
    assert isinstance(mapper, UrlPathMapper)
    path = mapper.target_of(item)
    folder, _, name = path.rpartition("/")
    item["path"], item["basename"] = path, name
    if is_file(item):
        item["dirname"] = folder
        item["nameroot"], item["nameext"] = posixpath.splitext(name)
    if not accepted.match(name):
        raise WorkflowException(f"Invalid filename: {name!r} contains illegal characters")
    return item
