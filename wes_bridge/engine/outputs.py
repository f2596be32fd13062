"""A run's final outputs: gathered into one folder under the names a person expects.

Files are hard-linked where they can be (no bytes are copied within a workspace), links are followed, and two
outputs of the same name get ``_2``, ``_3``, as cwltool does.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cwltool.utils import visit_files_directories

from wes_bridge.data.workspace import file_url, url_path
from wes_bridge.engine.files import RunFsAccess

_DERIVED = ("path", "nameroot", "nameext", "dirname", "http://commonwl.org/cwltool#generation")


class OutputFolder:
    """Gathers outputs into ``folder``.

    Args:
        folder: emptied first: a replay gathers anew.
        files: what may be read.
    """

    def __init__(self, folder: Path, files: RunFsAccess) -> None:
        self._folder = folder
        self._files = files
        self._placed: dict[str, Path] = {}
        self._numbers: dict[Path, int] = {}  # the last number given to a name: no counting from 2 again
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def gather(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Place every File and Directory of an output object; return it with the new locations.

        Raises:
            OSError: no room, or a file vanished.
            ValidationException: an output leads outside what the run may read.
        """
        result: dict[str, Any] = self._value(outputs, self._folder)
        visit_files_directories(result, _tidy)
        return result

    def _value(self, value: Any, folder: Path) -> Any:
        if isinstance(value, list):
            return [self._value(item, folder) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("class") in ("File", "Directory"):
            return self._placed_object(value, folder)
        return {name: self._value(item, folder) for name, item in value.items()}

    def _placed_object(self, item: dict[str, Any], folder: Path) -> dict[str, Any]:
        item = dict(item)
        target = self._place(item, folder)
        if target is not None:
            item["location"] = file_url(target)
            item["basename"] = target.name
            item.pop("contents", None)
            if item["class"] == "Directory" and "listing" not in item:
                item["listing"] = _listing(target)
            elif item["class"] == "Directory":
                item["listing"] = [self._placed_object(entry, target) for entry in item["listing"]]
        if item.get("secondaryFiles"):
            item["secondaryFiles"] = [self._placed_object(entry, folder) for entry in item["secondaryFiles"]]
        return item

    def _place(self, item: dict[str, Any], folder: Path) -> Path | None:
        """Where the bytes are now; None for what stays elsewhere (http and the like)."""
        location = item.get("location", "")
        if urlsplit(location).scheme not in ("", "_", "file") and not location.startswith("_:"):
            return None
        is_local = location.startswith("file:")
        # two links to one file are one file
        known = self._files.policy.check_path(url_path(location)) if is_local else location
        if known in self._placed and self._placed[known].parent == folder:
            return self._placed[known]
        basename = item.get("basename") or location.rpartition("/")[2]
        target = self._free(folder / basename)
        if is_local:
            source = Path(known)
            already = source.is_relative_to(self._folder)
            if item["class"] == "Directory" and "listing" in item:
                target.mkdir()
            elif not already:
                _link(source, target, self._files)
        elif item["class"] == "Directory":
            target.mkdir()
        else:
            target.write_text(item.get("contents", ""))
        self._placed[known] = target
        return target

    def _free(self, target: Path) -> Path:
        """``target``, or it with ``_2``, ``_3``, ... where that name is taken."""
        candidate = target
        number = self._numbers.get(target, 1)
        while candidate.exists():
            number += 1
            candidate = target.with_name(f"{target.name}_{number}")
        self._numbers[target] = number
        return candidate


def _link(source: Path, target: Path, files: RunFsAccess) -> None:
    if source.is_dir():
        target.mkdir()
        for entry in source.iterdir():
            files.policy.check_path(entry)
            _link(entry.resolve(), target / entry.name, files)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _listing(folder: Path) -> list[dict[str, Any]]:
    entries = []
    for path in sorted(folder.iterdir()):
        entry: dict[str, Any] = {"location": file_url(path), "basename": path.name}
        if path.is_dir():
            entry |= {"class": "Directory", "listing": _listing(path)}
        else:
            entry |= {"class": "File", "size": path.stat().st_size}
        entries.append(entry)
    return entries


def _tidy(item: dict[str, Any]) -> None:
    for name in _DERIVED:
        item.pop(name, None)
