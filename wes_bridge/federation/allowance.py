"""How much one run may bring to the workspace from nodes that share no disk with it.

What a node says of an output's size is its own word, and what it sends is as long as that: without a limit
one run can fill the disk of all. What a run has brought is noted in its folder, where the worker finds it
that takes the run up. It must not know nodes, nor how bytes come.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wes_bridge.data.beneath import real_path
from wes_bridge.small_files import read_small

_NOTE = ".brought"
_LONGEST_NOTE = 256 * 1024**2
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class _Brought(BaseModel):
    """A line of the note."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    place: str
    size: int = Field(ge=0)


class TooMuchError(OSError):
    """A run would have brought more than it may."""


class Allowance:
    """Counts what runs bring. For all threads of a process.

    Args:
        workspace: folder of the runs' folders.
        most: bytes of one run; None: any number.
    """

    def __init__(self, workspace: Path, most: int | None) -> None:
        self._workspace = Path(real_path(workspace))
        self._most = most
        self._lock = Lock()
        self._brought: dict[str, dict[str, int]] = {}
        self._totals: dict[str, int] = {}

    def take(self, place: str | Path, size: int) -> None:
        """Say that so much will be brought to a place in a run's folder, which counts once. Blocks.

        Raises:
            TooMuchError: that is more than the run may have.
            OSError: it cannot be noted.
        """
        real = Path(real_path(place))
        if self._most is None or not real.is_relative_to(self._workspace):
            return
        run, *inside = real.relative_to(self._workspace).parts
        place = "/".join(inside)
        with self._lock:
            brought = self._known(run)
            others = self._totals[run] - brought.get(place, 0)
            if others + size > self._most:
                raise TooMuchError(
                    f"its node says that it has {size} bytes, and this run has brought {others} of at most"
                    f" {self._most} (engine.bring_gib)"
                )
            if brought.get(place) != size:
                self._note(run, _Brought(place=place, size=size))
                brought[place], self._totals[run] = size, others + size

    def _known(self, run: str) -> dict[str, int]:
        """What a run has brought, by its note: a place's last line counts, and a torn one does not."""
        found = self._brought.get(run)
        if found is None:
            found = {}
            try:
                lines = read_small(self._workspace / run / _NOTE, _LONGEST_NOTE, follow=False).splitlines()
            except FileNotFoundError:
                lines = []
            for line in lines:
                try:
                    one = _Brought.model_validate_json(line)
                except ValidationError:
                    continue
                found[one.place] = one.size
            self._brought[run], self._totals[run] = found, sum(found.values())
        return found

    def _note(self, run: str, one: _Brought) -> None:
        file = os.open(self._workspace / run / _NOTE, _FLAGS, 0o600)
        try:
            os.write(file, b"\n" + one.model_dump_json().encode() + b"\n")
        finally:
            os.close(file)

    def forget(self, folder: Path) -> None:
        """A run has ended."""
        with self._lock:
            self._brought.pop(folder.name, None)
            self._totals.pop(folder.name, None)
