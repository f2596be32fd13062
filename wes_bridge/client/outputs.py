"""Fetching a run's outputs: File and Directory objects become files and folders here.

A file keeps its name; of two of one name the second goes into a folder of its own
(:mod:`wes_bridge.model.output_places`). Names are the service's and not trusted: none may lead outside the
folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from wes_bridge.client.errors import DownloadError
from wes_bridge.client.fetching import Fetch, fetch_archives, fetch_one, local_path
from wes_bridge.client.http import Http
from wes_bridge.model.output_places import NameConflictError, Named, OutputPlaces

PARALLEL = 4
"""Files fetched at once."""
_DROPPED = ("nameroot", "nameext", "dirname")

CwlObject = dict[str, Any]


def download_outputs(http: Http, outputs: CwlObject, directory: Path) -> CwlObject:
    """Fetch all files of an output object into ``directory``; returns the object with local locations.

    Raises:
        DownloadError: see :meth:`wes_bridge.client.WESClient.download`.
        OSError: nothing can be written there.
    """
    plan = _Plan(http, directory.absolute())
    result = plan.outputs(outputs)
    if plan.jobs or plan.fetches:
        plan.root.mkdir(parents=True, exist_ok=True)
        plan.run()
    return result


class _Plan:
    """Where each file goes, and what is to be fetched."""

    def __init__(self, http: Http, root: Path) -> None:
        self.http = http
        self.root = root
        self.jobs: list[Callable[[], None]] = []
        self.fetches: list[Fetch] = []
        self._same = _same_names(root)
        self._planned: set[Path] = set()

    def outputs(self, outputs: CwlObject) -> CwlObject:
        """An output object, its files planned into the root folder."""
        result = self._value(outputs, self._places(self.root, _files_of(outputs)))
        assert isinstance(result, dict)
        return result

    def _places(self, folder: Path, files: Iterable[CwlObject]) -> OutputPlaces:
        """The places in a folder; none is one where the user has a file."""
        names = [_name(member) for item in files for member in _members(item)]

        def is_free(name: str) -> bool:
            return not (folder / name).exists() or (folder / name).is_dir()

        return OutputPlaces(names, is_free, self._same)

    def _value(self, value: Any, places: OutputPlaces) -> Any:
        if isinstance(value, list):
            return [self._value(item, places) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") in ("File", "Directory"):
            return self._group(value, self.root, places)
        return {key: self._value(item, places) for key, item in value.items()}

    def _group(self, entry: CwlObject, folder: Path, places: OutputPlaces) -> CwlObject:
        """A File or Directory and its secondary files, planned into one folder at or below ``folder``."""
        try:
            part = places.place([_named(member) for member in _members(entry)])
        except NameConflictError as error:
            raise DownloadError(f"an output of the service cannot be stored: {error}") from error
        return self._entry(entry, folder / part)

    def _entry(self, entry: CwlObject, folder: Path) -> CwlObject:
        source, target = _source(entry), folder / _name(entry)
        done = {key: item for key, item in entry.items() if key not in _DROPPED}
        done["location"], done["path"] = "file://" + quote(str(target)), str(target)
        done["basename"] = target.name
        fresh = target not in self._planned
        self._planned.add(target)
        if entry["class"] == "Directory":
            self._directory(entry, source, target, done, fresh)
        else:
            self._file(entry, source, target, done, fresh)
        if entry.get("secondaryFiles"):
            done["secondaryFiles"] = [self._entry(item, folder) for item in entry["secondaryFiles"]]
        return done

    def _file(self, entry: CwlObject, source: str, target: Path, done: CwlObject, fresh: bool) -> None:
        done.pop("contents", None)
        if not fresh:
            return
        if source:
            self.fetches.append(Fetch(source, target, entry, done))
        else:
            content = str(entry.get("contents", "")).encode()
            done.update(size=len(content), checksum=_sha1(content))
            self.jobs.append(lambda: _write(target, content))

    def _directory(self, entry: CwlObject, source: str, target: Path, done: CwlObject, fresh: bool) -> None:
        listing = entry.get("listing")
        if listing is None and source:
            listing = _listing(self.http, source)
        if fresh:
            # At its place in the queue's front, so that it is there even when it is empty.
            self.jobs.insert(0, lambda: target.mkdir(parents=True, exist_ok=True))
        places = self._places(target, listing or [])
        done["listing"] = [self._group(item, target, places) for item in listing or []]

    def run(self) -> None:
        """Do it all; the first failure ends it."""
        for fetch in fetch_archives(self.http, self.fetches):
            self.jobs.append(functools.partial(fetch_one, self.http, fetch))
        if len(self.jobs) == 1:
            self.jobs[0]()
            return
        with ThreadPoolExecutor(PARALLEL) as pool:
            pending = [pool.submit(job) for job in self.jobs]
            try:
                for future in pending:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _same_names(root: Path) -> Callable[[str], str]:
    """Equal for names that are one name where ``root`` is or will be.

    Looked at without writing: where upper and lower case are one, a folder is there under both.
    """
    there = next((path for path in (root, *root.parents) if path.exists()), root)
    other = there.with_name(there.name.swapcase()) if there.name else there
    try:
        is_blind = other != there and other.samefile(there)
    except OSError:
        is_blind = False
    return _folded if is_blind else str


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _files_of(value: Any) -> Iterator[CwlObject]:
    """The Files and Directories of a CWL value, not what is in them."""
    if isinstance(value, list):
        for item in value:
            yield from _files_of(item)
    elif isinstance(value, dict):
        if value.get("class") in ("File", "Directory"):
            yield value
        else:
            yield from _files_of(list(value.values()))


def _members(entry: CwlObject) -> list[CwlObject]:
    """A File or Directory and all its secondary files."""
    found = [entry]
    for item in entry.get("secondaryFiles") or ():
        found += _members(item)
    return found


def _named(entry: CwlObject) -> Named:
    return _name(entry), _source(entry) or json.dumps(entry, sort_keys=True)


def _source(entry: CwlObject) -> str:
    return str(entry.get("location") or entry.get("path") or "")


def _name(entry: CwlObject) -> str:
    source = _source(entry)
    name = entry.get("basename") or unquote(urlsplit(source).path.rstrip("/").rpartition("/")[2])
    if not name:
        name = "output" if entry["class"] == "File" else "directory"
    if name in (".", "..") or "/" in name or "\x00" in name:
        raise DownloadError(f"the service calls an output {name!r}: it would land outside the folder")
    return str(name)


def _listing(http: Http, source: str) -> list[CwlObject]:
    """What is in a Directory of which only the URL is known (wes-bridge's JSON listing, or file://)."""
    local = local_path(source)
    if local is not None:
        return [_local_entry(path) for path in sorted(local.iterdir())]
    url = source if source.endswith("/") else source + "/"
    entries = http.json("GET", source).get("entries")
    if not isinstance(entries, list):
        raise DownloadError(f"{source}: a directory without a listing")
    return [_listed_entry(item, url) for item in entries]


def _listed_entry(item: CwlObject, url: str) -> CwlObject:
    is_directory = str(item.get("type", "")).lower() in ("directory", "dir", "folder")
    entry: CwlObject = {"class": "Directory" if is_directory else "File", "basename": item.get("name")}
    entry["location"] = item.get("url") or url + quote(str(item.get("name")))
    if not is_directory and isinstance(item.get("size"), int):
        entry["size"] = item["size"]
    return entry


def _local_entry(path: Path) -> CwlObject:
    kind = "Directory" if path.is_dir() else "File"
    return {"class": kind, "basename": path.name, "location": "file://" + quote(str(path))}


def _sha1(content: bytes) -> str:
    return "sha1$" + hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
