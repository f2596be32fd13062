"""URLs of a run's own files as they are stored: relative to the run's folder, so that it may be moved.

``file:///srv/wb/workspace/RUN/outputs/map.fits`` is stored as ``outputs/map.fits``. Older databases have the
whole URL, of wherever the workspace was then and however it was spelled; the run's id in it tells them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_PARTS = ("attachments", "logs", "outputs", "taken", "tasks")
_FILES = ("File", "Directory")


def inside(url: str, run_id: str) -> str | None:
    """The URL relative to the run's folder (quoted); None for one of something else."""
    if url.startswith("file:"):
        _, found, rest = url.partition(f"/{run_id}/")
        return rest if found and _is_ours(rest) else None
    return url if _is_ours(url) else None


def _is_ours(path: str) -> bool:
    first, _, rest = path.partition("/")
    return first in _PARTS and ".." not in rest.split("/")


def to_store(value: Any, run_id: str) -> Any:
    """An output object, or what holds one, with locations as they are stored."""
    return _with_locations(value, lambda url: stored_url(url, run_id))


def stored_url(url: str, run_id: str) -> str:
    """One URL as it is stored."""
    return (inside(url, run_id) if url.startswith("file:") else None) or url


def from_store(value: Any, run_id: str, folder: str) -> Any:
    """What :func:`to_store` gave, or an older release stored, with locations as they are now.

    Args:
        value: as stored.
        run_id: of the run.
        folder: URL of the run's folder, without a slash at the end.
    """
    return _with_locations(value, lambda url: url_now(url, run_id, folder))


def url_now(url: str, run_id: str, folder: str) -> str:
    """One stored URL as it is now; ``folder`` as in :func:`from_store`."""
    relative = inside(url, run_id)
    return url if relative is None else f"{folder}/{relative}"


def _with_locations(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_with_locations(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _with_locations(item, change) for name, item in value.items()}
    if value.get("class") in _FILES and isinstance(value.get("location"), str):
        changed["location"] = change(value["location"])
    return changed
