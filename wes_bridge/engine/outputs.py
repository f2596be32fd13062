"""A run's final outputs: gathered into one folder under their own names.

Files are hard-linked where they can be (no bytes are copied within a workspace) and links are followed. Names
stay as they are; of two outputs of one name the second goes into a folder of its own
(:mod:`wes_bridge.model.output_places`). What cannot be handed out (pipes, links that lead nowhere, names that
are no text, numbers that JSON does not have) is reported as a problem, and all other
outputs are gathered.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cwltool.errors import WorkflowException
from cwltool.utils import visit_files_directories
from schema_salad.exceptions import ValidationException

from wes_bridge.data.linking import share
from wes_bridge.data.special import broken_link, readable, special_kind
from wes_bridge.data.workspace import file_url, url_path
from wes_bridge.engine.files import RunFsAccess
from wes_bridge.model.output_places import NameConflictError, Named, OutputPlaces

_DERIVED = ("path", "nameroot", "nameext", "dirname", "http://commonwl.org/cwltool#generation")
_MOST_PROBLEMS = 50

CwlObject = dict[str, Any]


class OutputFolder:
    """Gathers outputs into ``folder``.

    Args:
        folder: emptied first: a replay gathers anew.
        files: what may be read.

    Attributes:
        problems: what cannot be handed out, each with the output's name, the entry and the reason.
    """

    def __init__(self, folder: Path, files: RunFsAccess) -> None:
        self._folder = folder
        self._files = files
        self._made: dict[Path, CwlObject] = {}
        self._output = ""
        self.problems: list[str] = []
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def gather(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Place every File and Directory of an output object; return it with the new locations.

        Raises:
            OSError: no room, or a file vanished.
            ValidationException: an output leads outside what the run may read.
            WorkflowException: an output has a name that no file can have.
        """
        places = OutputPlaces(_names(outputs))
        result: dict[str, Any] = {}
        for name, value in outputs.items():
            self._output = name
            result[name] = self._value(value, places)
        visit_files_directories(result, _tidy)
        return result

    def _value(self, value: Any, places: OutputPlaces) -> Any:
        if isinstance(value, list):
            return [self._value(item, places) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            self._add_problem(
                f"output {self._output}: a number in it is {value}, which JSON cannot hold, so it is null;"
                " the workflow should give null, or a text, for such a number"
            )
            return None
        if not isinstance(value, dict):
            return value
        if value.get("class") in ("File", "Directory"):
            return self._group(value, self._folder, places)
        return {name: self._value(item, places) for name, item in value.items()}

    def _group(self, item: CwlObject, folder: Path, places: OutputPlaces) -> CwlObject:
        """A File or Directory with its secondary files, in one folder."""
        members = [member for member in _members(item) if _is_here(member)]
        try:
            part = places.place([self._named(member) for member in members]) if members else ""
        except NameConflictError as error:
            self._problem(error.name, "is the name of two files that belong together")
            item = {name: value for name, value in item.items() if name != "secondaryFiles"}
            return self._group(item, folder, places)
        if part:
            folder /= part
            folder.mkdir(exist_ok=True)
        return self._placed(item, folder)

    def _named(self, item: CwlObject) -> Named:
        location = item.get("location", "")
        what = self._real(location) if location.startswith("file:") else location
        if "listing" in item:
            what = json.dumps([what, _outline(item["listing"])])
        return _name(item), what

    def _real(self, location: str) -> str:
        return self._files.policy.check_path(url_path(location))

    def _placed(self, item: CwlObject, folder: Path) -> CwlObject:
        item = dict(item)
        if _is_here(item):
            target = folder / _name(item)
            if target not in self._made:
                self._made[target] = self._make(item, target)
            item |= self._made[target]
            item.pop("contents", None)
        if item.get("secondaryFiles"):
            item["secondaryFiles"] = [self._placed(entry, folder) for entry in item["secondaryFiles"]]
        return item

    def _make(self, item: CwlObject, target: Path) -> CwlObject:
        """Bring the bytes to ``target``; what is new of the object."""
        place: CwlObject = {"location": file_url(target), "basename": target.name}
        location = item.get("location", "")
        if item["class"] == "Directory":
            if "listing" in item or not location.startswith("file:"):
                return place | {"listing": self._literal(item.get("listing", []), target)}
            real = self._real(location)
            return place | {"listing": self._tree(real, target, target.name, (real,))}
        if location.startswith("file:"):
            real = self._real(location)
            share(real, target, os.stat(real))  # noqa: PTH116
        else:
            target.write_text(item.get("contents", ""))
        return place

    def _literal(self, listing: list[CwlObject], target: Path) -> list[CwlObject]:
        """A Directory that is made of its listing: what is in it cannot have folders apart."""
        target.mkdir()
        taken: dict[str, Named] = {}
        placed = []
        for entry in listing:
            names = [self._named(member) for member in filter(_is_here, _members(entry))]
            twice = [named[0] for named in names if taken.setdefault(named[0], named) != named]
            for name in twice:
                self._problem(f"{target.name}/{name}", "is the name of two entries")
            if not twice:
                placed.append(self._placed(entry, target))
        return placed

    def _tree(self, source: str, target: Path, shown: str, above: tuple[str, ...]) -> list[CwlObject]:
        """Bring all below a folder; returns its listing.

        Args:
            source: the folder, links followed.
            target: where it goes.
            shown: what the user calls it.
            above: it and the folders around it, links followed.
        """
        target.mkdir()
        try:
            entries = sorted(os.scandir(source), key=lambda entry: entry.name)
        except PermissionError as error:
            self._problem(shown, f"cannot be read ({error.strerror})")
            return []
        listing = []
        for entry in entries:
            found = self._entry(entry, target, f"{shown}/{entry.name}", above)
            if found is not None:
                listing.append(found)
        return listing

    def _entry(
        self, entry: os.DirEntry[str], folder: Path, shown: str, above: tuple[str, ...]
    ) -> CwlObject | None:
        real, status = self._look(entry, shown)
        if status is None:
            return None
        target = folder / entry.name
        if stat.S_ISDIR(status.st_mode):
            if real in above:
                self._problem(shown, "leads back, through a link, to a folder that it is in")
                return None
            listing = self._tree(real, target, shown, (*above, real))
            return {
                "location": file_url(target),
                "basename": entry.name,
                "class": "Directory",
                "listing": listing,
            }
        special = special_kind(status.st_mode)
        if special is not None:
            self._problem(shown, f"is {special}")
            return None
        if status.st_uid != os.geteuid() and not os.access(real, os.R_OK):
            self._problem(shown, "cannot be read by this service")
            return None
        share(real, target, status)
        return {
            "location": file_url(target),
            "basename": entry.name,
            "class": "File",
            "size": status.st_size,
        }

    def _look(self, entry: os.DirEntry[str], shown: str) -> tuple[str, os.stat_result | None]:
        """Where an entry really is, and what; None for what cannot be handed out."""
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            self._problem(shown, "has a name that is not UTF-8")
            return "", None
        if not entry.is_symlink():
            return entry.path, entry.stat(follow_symlinks=False)
        try:
            real = self._files.policy.check_path(Path(entry.path))
            return real, os.stat(real)  # noqa: PTH116
        except ValidationException:
            to = readable(os.readlink(entry.path))  # noqa: PTH115
            self._problem(shown, f"is a link to {to}, which is not among the run's files")
        except OSError as error:
            self._problem(shown, f"is {broken_link(entry.path, error)}")
        return "", None

    def _problem(self, shown: str, what: str) -> None:
        self._add_problem(
            f"output {self._output}: {readable(shown)} {what}, so it cannot be handed out;"
            " the tool should remove it, or the output's glob leave it out"
        )

    def _add_problem(self, text: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS and text not in self.problems:
            self.problems.append(text)


def _members(item: CwlObject) -> list[CwlObject]:
    """A File or Directory and all its secondary files."""
    found = [item]
    for entry in item.get("secondaryFiles") or ():
        found += _members(entry)
    return found


def _is_here(item: CwlObject) -> bool:
    """Whether it is a local file or a literal: what is elsewhere (http and the like) stays there."""
    location = item.get("location", "")
    return location.startswith("_:") or urlsplit(location).scheme in ("", "_", "file")


def _name(item: CwlObject) -> str:
    name = item.get("basename") or item.get("location", "").rpartition("/")[2]
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise WorkflowException(f"the basename {name!r} of an output is not the name of a file")
    return str(name)


def _names(value: Any) -> Iterable[str]:
    """All names that outputs and their secondary files have."""
    if isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, dict):
        if value.get("class") in ("File", "Directory"):
            yield from (_name(member) for member in _members(value) if _is_here(member))
        else:
            yield from _names(list(value.values()))


def _outline(listing: list[CwlObject]) -> list[Any]:
    """What tells one listing from another."""
    return [
        [
            item.get("basename"),
            item.get("location"),
            _outline(item.get("listing") or []),
            _outline(item.get("secondaryFiles") or []),
        ]
        for item in listing
    ]


def _tidy(item: CwlObject) -> None:
    for name in _DERIVED:
        item.pop(name, None)
