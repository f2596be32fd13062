"""The documents of a workflow and everything they refer to on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from wes_bridge.bundle.document import Document, read_document
from wes_bridge.bundle.errors import BundleError, OutsideError
from wes_bridge.bundle.inputs import read_inputs
from wes_bridge.bundle.inside import Roots, is_cwl
from wes_bridge.bundle.layout import Layout
from wes_bridge.bundle.references import Reference, find_local, is_expression, references
from wes_bridge.bundle.secondary import Wanted, guessed_siblings, siblings
from wes_bridge.bundle.shape import PROCESSES

ANY_FILE = "*"
"""Stands for the files of a folder whose place among the others must be kept."""


class Closure:
    """What one main document needs.

    Args:
        main: absolute path.
        roots: folders that files may be taken from.

    Attributes:
        documents: by path, the main one first.
        files: other files to upload.
        anchors: paths whose places relative to each other must be kept.

    Raises:
        BundleError: documents that cannot be read, or that refer to documents that are not there.
        OutsideError: they refer to files outside the roots.
    """

    def __init__(self, main: Path, roots: Roots) -> None:
        self.documents: dict[Path, Document] = {}
        self.files: dict[Path, None] = {}
        self.anchors: dict[Path, None] = {main: None}
        self._parsed: dict[Path, Document] = {}
        self._moved: dict[Path, list[tuple[Reference, Path]]] = {}  # absolute references, to be rewritten
        self._queue = [main]
        self._problems: list[str] = []
        self._roots = roots
        self._outside: dict[Path, str] = {}
        while self._queue:
            self._read(self._queue.pop(0))
        if self._problems:
            raise BundleError(*self._problems)
        if self._outside:
            raise OutsideError(list(self._outside), *self._outside.values(), self._advice())

    def _advice(self) -> str:
        folders = dict.fromkeys(str(path if path.is_dir() else path.parent) for path in self._outside)
        flags = " ".join(f"--upload-from {shlex.quote(folder)}" for folder in folders)
        return (
            f"the workflow's project is {self._roots.project}; files elsewhere that the workflow names are"
            f" not uploaded, since they may be private; to allow these, add: {flags}"
        )

    def _may_take(self, path: Path, where: str) -> bool:
        """Whether a file may be taken along; one that may not is noted."""
        if self._roots.hold(path):
            return True
        real = os.path.realpath(path)
        led = f" (a link to {real})" if real != str(path) else ""
        self._outside.setdefault(path, f"{where}: {path}{led} is outside the workflow's project")
        return False

    def _read(self, path: Path) -> None:
        if path in self.documents:
            return
        try:
            document = self._parse(path)
        except BundleError as error:
            if self._may_take(path, "a document that the workflow names"):
                self._problems += error.problems
            return
        if not self._roots.hold(path) and not is_cwl(document.data):
            self._may_take(path, "a document that the workflow names, which is no CWL")
            return
        self.documents[path] = document
        for reference in references(document):
            self._follow(path, document, reference)
        for item, wanted in self._defaults(path, document.data):
            self._add_secondary(item, wanted, path.parent)

    def _follow(self, path: Path, document: Document, reference: Reference) -> None:
        if is_expression(reference.target):
            return
        target = find_local(reference.target, path.parent)
        if target is None or target == path:
            return
        if not target.exists():
            if reference.kind != "schema" and not reference.optional:
                where = document.where(reference.holder, reference.key)
                path_of = "" if str(target) == reference.target else f" ({target})"
                self._problems.append(f"{where}: {reference.key}: {reference.target!r} is not there{path_of}")
            return
        where = document.where(reference.holder, reference.key)
        if reference.kind != "document" and not self._may_take(target, where):
            return  # of documents it is seen when they are read
        if reference.target.startswith(("/", "file:")):
            self._moved.setdefault(path, []).append((reference, target))
        else:
            self.anchors[target] = None
            self._anchor_way(path.parent, reference.target)
        if reference.kind == "document":
            self._queue.append(target)
        elif target.is_dir():
            self._take_all(files_below(target), where)
        else:
            self.files[target] = None

    def _take_all(self, paths: Iterable[Path], where: str) -> None:
        self.files.update(dict.fromkeys(path for path in paths if self._may_take(path, where)))

    def _anchor_way(self, folder: Path, target: str) -> None:
        """Keep the folders that a reference goes through: ``../tools/b.cwl`` in ``tools`` needs that name."""
        for part in unquote(target.partition("#")[0]).split("/"):
            if part == "..":
                folder = folder.parent
                self.anchors[folder / ANY_FILE] = None
            elif part not in ("", "."):
                folder /= part

    def load(self, target: str, base: Path) -> Any:
        """What an import of ``target`` from a document in folder ``base`` holds; ``None``: not local."""
        path = find_local(target, base)
        if path is None:
            return None
        try:
            return self._parse(path).data
        except BundleError:
            return None

    def _parse(self, path: Path) -> Document:
        if path not in self._parsed:
            self._parsed[path] = read_document(path)
        return self._parsed[path]

    def _defaults(self, path: Path, data: Any) -> Iterator[tuple[Any, Wanted]]:
        """The default values of all processes' inputs, with the secondary files asked for."""
        version = str(data.get("cwlVersion", "v1.2")) if isinstance(data, dict) else "v1.2"
        for process in _processes(data):
            for item in read_inputs(process, version, lambda target: self.load(target, path.parent)).values():
                if item.default is not None:
                    yield item.default, item.wanted

    def _add_secondary(self, value: Any, wanted: Wanted, base: Path) -> None:
        if isinstance(value, list):
            for item in value:
                self._add_secondary(item, wanted, base)
        elif isinstance(value, dict) and value.get("class") == "File":
            target = value.get("location", value.get("path"))
            primary = find_local(target, base) if isinstance(target, str) else None
            if primary is not None and primary.is_file():
                found = siblings(primary, str(value.get("basename", primary.name)), wanted.patterns)
                found += guessed_siblings(primary) if wanted.unsure else []
                for path in found:
                    self._take_all(files_below(path) if path.is_dir() else [path], str(primary))
        elif isinstance(value, dict):
            for key, item in value.items():
                if key in wanted.fields:
                    self._add_secondary(item, wanted.fields[key], base)

    def content(self, path: Path, layout: Layout) -> Path | bytes:
        """What to upload for a document: the file, or its text with absolute references made relative."""
        moved = self._moved.get(path)
        if not moved:
            return path
        document = self.documents[path]
        folder = PurePosixPath(layout.name(path)).parent
        edits = {}
        for reference, target in moved:
            mark = document.marks[id(reference.holder), reference.key]
            fragment = reference.target.partition("#")[1:]
            relative = quote(os.path.relpath(layout.name(target), folder)) + "".join(fragment)
            edits[mark.start, mark.end] = '"' + relative + '"'
        text = document.text
        for (start, end), new in sorted(edits.items(), reverse=True):
            text = text[:start] + new + text[end:]
        return text.encode()


def _processes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _processes(item)
    elif isinstance(value, dict):
        if value.get("class") in PROCESSES and "inputs" in value:
            yield value
        for key in ("$graph", "steps", "run"):
            yield from _processes(value.get(key))
        if "class" not in value and isinstance(value, dict):  # steps as a map by id
            for item in value.values():
                if isinstance(item, dict) and isinstance(item.get("run"), dict):
                    yield from _processes(item["run"])


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its folders, links followed, sorted; a link to a folder above is skipped."""
    yield from _below(folder, ())


def _below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _below(path, (*above, real))
        elif path.is_file():
            yield path


def has_empty_folder(folder: Path) -> bool:
    """Whether a folder, or one in it, holds nothing, or a link to a folder above."""
    return _has_empty(folder, ())


def _has_empty(folder: Path, above: tuple[str, ...]) -> bool:
    real = os.path.realpath(folder)
    if real in above:
        return True
    entries = list(folder.iterdir())
    return not entries or any(path.is_dir() and _has_empty(path, (*above, real)) for path in entries)
