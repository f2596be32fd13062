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

from wes_bridge.cwl.files.fs_access import RunFsAccess
from wes_bridge.cwl.files.names import file_name
from wes_bridge.cwl.vocabulary import ValidationException, visit_files_directories
from wes_bridge.data.beneath import opened, top_of
from wes_bridge.data.linking import share
from wes_bridge.data.special import broken_link, not_kept, readable, special_kind
from wes_bridge.data.stand_ins import ElsewhereError, is_stand_in
from wes_bridge.data.workspace import file_url, url_path
from wes_bridge.model.output_places import NameConflictError, Named, OutputPlaces

_DERIVED = ("path", "nameroot", "nameext", "dirname", "http://commonwl.org/cwltool#generation")
_MOST_PROBLEMS = 50
_DEEPEST = 100
"""Folders in one another."""

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
        return self._files.policy.files.check(url_path(location))

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
            with self._files.policy.files.checked(url_path(location)) as (real, name):
                return place | self._given(name, target, (real,))
        if location.startswith("file:"):
            with self._files.policy.files.checked(url_path(location)) as (real, name):
                self._given(name, target, (real,))
        else:
            target.write_text(item.get("contents", ""))
        return place

    def _given(self, name: str, target: Path, above: tuple[str, ...]) -> CwlObject:
        """What a location names, of which no entry of a folder is known."""
        with opened(top_of("/")) as top:
            found = self._thing(top, name, target, target.name, above) or {}
        return {"listing": found["listing"]} if "listing" in found else {}

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

    def _tree(self, source: int, target: Path, shown: str, above: tuple[str, ...]) -> list[CwlObject]:
        """Bring all below a folder; returns its listing.

        Args:
            source: descriptor of the folder, which is closed.
            target: where it goes.
            shown: what the user calls it.
            above: it and the folders around it, links followed.
        """
        with opened(source):
            target.mkdir()
            with os.scandir(source) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            placed = (self._entry(source, entry, target, f"{shown}/{entry.name}", above) for entry in entries)
            return [item for item in placed if item is not None]

    def _entry(
        self, source: int, entry: os.DirEntry[str], folder: Path, shown: str, above: tuple[str, ...]
    ) -> CwlObject | None:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            self._problem(shown, "has a name that is not UTF-8")
            return None
        target, path = folder / entry.name, f"{above[-1]}/{entry.name}"
        if not entry.is_symlink():
            return self._thing(source, entry.name, target, shown, (*above, path))
        try:
            with self._files.policy.files.checked(path) as (real, name):
                return self._thing(source, name, target, shown, (*above, real))
        except ValidationException:
            to = os.readlink(entry.name, dir_fd=source)
            led = f"a link to {readable(to)}, which is not among the run's files"
            self._problem(shown, f"is {not_kept(to) or led}")
        except OSError as error:
            self._problem(shown, f"is {broken_link(path, error)}")
        return None

    def _thing(
        self, source: int, name: str, target: Path, shown: str, above: tuple[str, ...]
    ) -> CwlObject | None:
        """What an entry is, or leads to.

        Args:
            source: descriptor of the folder it is in.
            name: its name there, or that of something that is held.
            target: where it goes.
            shown: what the user calls it.
            above: where it really is, last, and the folders around it.
        """
        is_held = os.path.isabs(name)  # noqa: PTH117 - texts, for each file
        status = os.stat(name, dir_fd=source, follow_symlinks=is_held)
        if stat.S_ISDIR(status.st_mode):
            return self._folder_in(source, name, target, shown, above)
        if is_stand_in(status):
            return self._brought(source, target, shown, above)
        special = special_kind(status.st_mode)
        if special is not None:
            self._problem(shown, f"is {special}")
            return None
        if status.st_uid != os.geteuid() and not os.access(name, os.R_OK, dir_fd=source):
            self._problem(shown, "cannot be read by this service")
            return None
        share(source, name, target)
        place: CwlObject = {"location": file_url(target), "basename": target.name}
        return place | {"class": "File", "size": status.st_size}

    def _brought(self, source: int, target: Path, shown: str, above: tuple[str, ...]) -> CwlObject | None:
        """The same of a file whose bytes are still at the node that made it."""
        files = self._files.policy.files
        if files.elsewhere is None:
            raise ElsewhereError(above[-1])
        files.elsewhere.bring(above[-1])
        with files.checked(above[-1]) as (real, name):
            if is_stand_in(os.stat(name)):  # noqa: PTH116 - a command has made it look so
                os.utime(real)
            return self._thing(source, name, target, shown, above)

    def _folder_in(
        self, source: int, name: str, target: Path, shown: str, above: tuple[str, ...]
    ) -> CwlObject | None:
        """The same of a folder."""
        if above[-1] in above[:-1]:
            self._problem(shown, "leads back, through a link, to a folder that it is in")
            return None
        if len(above) > _DEEPEST:
            self._problem(shown, f"is in more than {_DEEPEST} folders")
            return None
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        flags |= 0 if os.path.isabs(name) else os.O_NOFOLLOW  # noqa: PTH117
        place: CwlObject = {"location": file_url(target), "basename": target.name, "class": "Directory"}
        try:
            inner = os.open(name, flags, dir_fd=source)
        except PermissionError as error:
            target.mkdir()
            self._problem(shown, f"cannot be read ({error.strerror})")
            return place | {"listing": []}
        return place | {"listing": self._tree(inner, target, shown, above)}

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
    return file_name(item.get("basename") or item.get("location", "").rpartition("/")[2], "an output")


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
