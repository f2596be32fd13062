"""Fetching a run's outputs: File and Directory objects become files and folders here.

Names are the service's and not trusted: none may lead outside the folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from wes_bridge.client.errors import DownloadError
from wes_bridge.client.fetching import Fetch, fetch_archives, fetch_one, local_path
from wes_bridge.client.http import Http

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
    result = plan.value(outputs)
    if plan.jobs or plan.fetches:
        plan.root.mkdir(parents=True, exist_ok=True)
        plan.run()
    return dict(result)


class _Plan:
    """Where each file goes, and what is to be fetched."""

    def __init__(self, http: Http, root: Path) -> None:
        self.http = http
        self.root = root
        self.jobs: list[Callable[[], None]] = []
        self.fetches: list[Fetch] = []
        self._taken: dict[Path, str] = {}  # target -> where it comes from
        self._chosen: dict[tuple[Path, str], Path] = {}
        self._numbers: dict[Path, int] = {}  # the last number given to a name: no counting from 2 again

    def value(self, value: Any) -> Any:
        """Any CWL value, its files planned into the root folder."""
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") in ("File", "Directory"):
            return self.entry(value, self.root)
        return {key: self.value(item) for key, item in value.items()}

    def entry(self, entry: CwlObject, folder: Path) -> CwlObject:
        """A File or Directory, planned into ``folder``."""
        source = entry.get("location") or entry.get("path") or ""
        target = self._target(folder / _name(entry, source), source or json.dumps(entry, sort_keys=True))
        fresh = target not in self._taken
        self._taken.setdefault(target, source or json.dumps(entry, sort_keys=True))
        done = {key: item for key, item in entry.items() if key not in _DROPPED}
        done["location"], done["path"] = "file://" + quote(str(target)), str(target)
        done["basename"] = target.name
        if entry["class"] == "Directory":
            self._directory(entry, source, target, done, fresh)
        else:
            self._file(entry, source, target, done, fresh)
        if entry.get("secondaryFiles"):
            done["secondaryFiles"] = [self.entry(item, target.parent) for item in entry["secondaryFiles"]]
        return done

    def _target(self, wanted: Path, source: str) -> Path:
        if (wanted, source) in self._chosen:
            return self._chosen[wanted, source]
        target, number = wanted, self._numbers.get(wanted, 1)
        while self._taken.get(target, source) != source:
            number += 1
            target = wanted.with_name(f"{wanted.name}_{number}")
        self._numbers[wanted] = number
        self._chosen[wanted, source] = target
        return target

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
        done["listing"] = [self.entry(item, target) for item in listing or []]

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


def _name(entry: CwlObject, source: str) -> str:
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
