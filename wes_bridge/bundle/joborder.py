"""The input object: local files in it are taken along, and their locations become what the service sees."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from wes_bridge.bundle.closure import files_below, has_empty_folder
from wes_bridge.bundle.document import Document, parse_document, read_document
from wes_bridge.bundle.errors import BundleError, TooMuchError
from wes_bridge.bundle.inputs import Input
from wes_bridge.bundle.layout import Layout
from wes_bridge.bundle.references import find_local, is_expression
from wes_bridge.bundle.secondary import NOTHING, UNKNOWN, Wanted, guessed_siblings, siblings
from wes_bridge.bundle.sendable import odd_entries
from wes_bridge.model.expansion import MOST_VALUES, TOO_MANY
from wes_bridge.model.locations import is_elsewhere

STDIN = "-"
_MOST_IMPORTS = 5_000
"""Documents that the inputs of one run may import; one that is imported twice counts twice."""


def read_job(source: Mapping[str, Any] | str | Path | None, folder: Path) -> tuple[Document, Path]:
    """Read an input object; returns it and the folder its paths are relative to.

    Args:
        source: the object, the path of its file, ``-`` for standard input, or ``None`` for none.
        folder: what a ``source`` that is no file is relative to.

    Raises:
        BundleError: it cannot be read or is not an object.
    """
    if source is None:
        return Document("inputs", "", {}), folder
    if isinstance(source, Mapping):
        return Document("inputs", "", dict(source)), folder
    if str(source) == STDIN:
        document = parse_document(sys.stdin.read(), "standard input", quick=True)
    else:
        named = unquote(str(source).removeprefix("file://")) if str(source).startswith("file://") else source
        path = folder / named
        document, folder = read_document(path, quick=True), path.parent
    if document.data is None:
        document.data = {}
    if not isinstance(document.data, dict):
        raise BundleError(
            f"{document.name}: must be an object of input names and values,"
            f" not {type(document.data).__name__}"
        )
    return document, folder


class Packer:
    """Rewrites one input object.

    Args:
        document: of the input object.
        base: the folder its paths are relative to.
        layout: names of uploaded files; ``None``: the service reads this machine's files itself.
        importing: the one that imports this document.

    Attributes:
        files: to upload.
        problems: what is wrong, one line each.
    """

    def __init__(
        self, document: Document, base: Path, layout: Layout | None, importing: Packer | None = None
    ) -> None:
        self.files: dict[Path, None] = {}
        self.problems: list[str] = []
        self._document = document
        self._base = base
        self._layout = layout
        self._importing = importing
        self._counted: Iterator[int] = importing._counted if importing else itertools.count(1)
        self._imports: Iterator[int] = importing._imports if importing else itertools.count(1)

    def pack(self, inputs: dict[str, Input] | None) -> dict[str, Any]:
        """The input object for the service.

        Args:
            inputs: what the workflow declares; ``None`` when that is not known.
        """
        result = {}
        for name, value in self._document.data.items():
            wanted = UNKNOWN if inputs is None else NOTHING
            if inputs and str(name) in inputs:
                wanted = inputs[str(name)].wanted
            result[str(name)] = self._value(value, wanted, self._document.data, name)
        return result

    def _value(self, value: Any, wanted: Wanted, holder: Any, key: Any) -> Any:
        if next(self._counted) > MOST_VALUES:  # few imports of imports make many values
            raise TooMuchError(f"{self._document.name}: {TOO_MANY}")
        if isinstance(value, list):
            return [self._value(item, wanted, value, index) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            if isinstance(value, float) and not math.isfinite(value):
                where = self._document.where(holder, key)
                self.problems.append(
                    f"{where}: {key}: {value} cannot be sent, since inputs are JSON, which has finite numbers"
                    " only; give a large number, or a string if the input takes one"
                )
            return value
        for directive in ("$import", "$include"):
            if isinstance(value.get(directive), str):
                return self._imported(directive, value, wanted)
        if value.get("class") == "File":
            return self._file(value, wanted, holder, key)
        if value.get("class") == "Directory":
            return self._directory(value, holder, key)
        unsure = UNKNOWN if wanted is UNKNOWN else NOTHING
        return {
            str(name): self._value(item, wanted.fields.get(str(name), unsure), value, name)
            for name, item in value.items()
        }

    def _imported(self, directive: str, value: dict[str, Any], wanted: Wanted) -> Any:
        path = find_local(value[directive], self._base)
        if path is None:
            return value
        if next(self._imports) > _MOST_IMPORTS:
            raise TooMuchError(
                f"{self._document.name}: the inputs import more than {_MOST_IMPORTS} documents, each as"
                " often as it is imported; write their values out"
            )
        try:
            if directive == "$include":
                return path.read_text(encoding="utf-8")
            if path in self._above():
                raise BundleError(f"{path} imports itself")
            other = Packer(read_document(path), path.parent, self._layout, self)
            result = other._value(other._document.data, wanted, None, None)
        except TooMuchError:
            raise
        except (OSError, UnicodeDecodeError, BundleError) as error:
            self.problems.append(f"{self._document.where(value, directive)}: {directive}: {error}")
            return None
        self.files.update(other.files)
        self.problems += other.problems
        return result

    def _above(self) -> Iterator[Path]:
        """The documents that are being read: this one, and those that import it."""
        packer: Packer | None = self
        while packer is not None:
            yield Path(packer._document.name)
            packer = packer._importing

    def _find(self, value: dict[str, Any], holder: Any, key: Any) -> Path | None:
        """The local path of a File or Directory; ``None``: it is elsewhere, or literal, or missing."""
        kind, plain = value["class"], "location" not in value
        target = value.get("location", value.get("path"))
        if not isinstance(target, str) or is_elsewhere(target) or is_expression(target):
            return None
        path = self._base / target if plain and (self._base / target).exists() else None
        path = Path(os.path.normpath(path)) if path else find_local(target, self._base)
        if path is None:
            return None
        is_right = path.is_dir() if kind == "Directory" else path.exists() and not path.is_dir()
        if is_right:
            return path
        where = self._document.where(value, "path" if plain else "location")
        if where == self._document.name:
            where = self._document.where(holder, key)
        found = "is not there" if not path.exists() else "is a file" if path.is_file() else "is a folder"
        self.problems.append(f"{where}: {kind} {target!r} {found} ({path})")
        return None

    def _location(self, path: Path) -> str:
        if self._layout is None:
            return "file://" + quote(str(path))
        return quote(self._layout.name(path))

    def _file(self, value: dict[str, Any], wanted: Wanted, holder: Any, key: Any) -> dict[str, Any]:
        path = self._find(value, holder, key)
        result = {name: item for name, item in value.items() if name != "secondaryFiles"}
        if path is not None:
            result.pop("path", None)
            result["location"] = self._location(path)
            self._take(path)
        listed = value.get("secondaryFiles")
        if isinstance(listed, list):
            result["secondaryFiles"] = [
                self._value(item, NOTHING, listed, index) for index, item in enumerate(listed)
            ]
        if path is not None and self._layout is not None:
            self._add_secondary(path, result, wanted)
        return result

    def _add_secondary(self, path: Path, result: dict[str, Any], wanted: Wanted) -> None:
        listed = {_basename(item) for item in result.get("secondaryFiles", []) if isinstance(item, dict)}
        for sibling in siblings(path, str(result.get("basename", path.name)), wanted.patterns):
            if sibling.name in listed:
                continue
            kind = "Directory" if sibling.is_dir() else "File"
            entry = {"class": kind, "location": quote(str(sibling))}
            result.setdefault("secondaryFiles", []).append(self._value(entry, NOTHING, None, None))
        if wanted.unsure:
            for sibling in guessed_siblings(path):
                self._take(sibling)

    def _directory(self, value: dict[str, Any], holder: Any, key: Any) -> dict[str, Any]:
        path = self._find(value, holder, key)
        dropped = ("path", "location", "listing") if path is not None else ("listing",)
        result = {name: item for name, item in value.items() if name not in dropped}
        listing = value.get("listing")
        if path is None:
            if isinstance(listing, list):
                result["listing"] = [
                    self._value(item, NOTHING, listing, index) for index, item in enumerate(listing)
                ]
        elif self._layout is None:
            result["location"] = self._location(path)
        elif odd := list(odd_entries(path)):
            self.problems += odd
        elif self._keeps_shape(path):
            result["location"] = self._location(path)
        else:
            result.setdefault("basename", path.name)
            result["listing"] = self._listing(path, ())
        return result

    def _keeps_shape(self, folder: Path) -> bool:
        """Whether the folder can be found again below its own name once its files are uploaded.

        Not so when it holds empty folders (only files can be uploaded), links in a circle, or files that
        the layout puts elsewhere: then it is sent as a literal with a listing.
        """
        assert self._layout is not None
        prefix = self._layout.tree(folder) + "/"
        files = list(files_below(folder))
        names = {path: self._layout.name(path) for path in files}
        if any(name != prefix + path.relative_to(folder).as_posix() for path, name in names.items()):
            return False
        if not files or has_empty_folder(folder):
            return False
        for path in files:
            self._take(path)
        return True

    def _listing(self, folder: Path, above: tuple[str, ...]) -> list[dict[str, Any]]:
        real = os.path.realpath(folder)
        entries: list[dict[str, Any]] = []
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                if os.path.realpath(path) not in (*above, real):
                    listing = self._listing(path, (*above, real))
                    entries.append({"class": "Directory", "basename": path.name, "listing": listing})
            elif path.is_file():
                self._take(path)
                entries.append({"class": "File", "location": self._location(path)})
        return entries

    def _take(self, path: Path) -> None:
        if self._layout is not None:
            self.files[path] = None


def _basename(item: dict[str, Any]) -> str:
    place = str(item.get("location", item.get("path", "")))
    return str(item.get("basename") or unquote(place.rstrip("/").rpartition("/")[2]))
