"""A run's outputs as a client can use them: stored file URLs become download URLs."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import unquote

from wes_bridge.model.run_urls import inside

_FILES = ("File", "Directory")


class Links(Protocol):
    """Knows where files can be downloaded."""

    def file(self, run_id: str, path: str) -> str:
        """The URL of a file of a run; ``path`` relative to the run's folder, unquoted."""


def public_outputs(outputs: Any, run_id: str, links: Links) -> dict[str, Any]:
    """The CWL output object with every location inside the run's folder made downloadable.

    Args:
        outputs: as stored; anything but an object (a run that has none) becomes ``{}``.
        run_id: the run.
        links: say where.

    Returns:
        A new object. ``path`` is dropped from Files and Directories: it means nothing to a client. Locations
        of other schemes, or elsewhere, stay as they are.
    """
    if not isinstance(outputs, dict):
        return {}
    rewritten = _rewrite(outputs, run_id, links)
    assert isinstance(rewritten, dict)
    return rewritten


def _rewrite(value: Any, run_id: str, links: Links) -> Any:
    if isinstance(value, list):
        return [_rewrite(item, run_id, links) for item in value]
    if not isinstance(value, dict):
        return value
    is_file = value.get("class") in _FILES
    result = {}
    for key, item in value.items():
        if is_file and key == "path":
            continue
        if is_file and key == "location" and isinstance(item, str):
            result[key] = _location(item, run_id, links)
        else:
            result[key] = _rewrite(item, run_id, links)
    return result


def _location(location: str, run_id: str, links: Links) -> str:
    relative = unquote(inside(location, run_id) or "")
    if not relative or ".." in relative.split("/"):
        return location
    return links.file(run_id, relative)
