"""How much one run may bring to the workspace from nodes that share no disk with it.

What a node says of an output's size is its own word, and what it sends is as long as that: without a limit
one run can fill the disk of all. It must not know nodes, nor how bytes come.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from wes_bridge.data.beneath import real_path


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
        """Say that so much will be brought to a place in a run's folder; the second time counts no more.

        Raises:
            TooMuchError: that is more than the run may have.
        """
        real = Path(real_path(place))
        if self._most is None or not real.is_relative_to(self._workspace):
            return
        run = real.relative_to(self._workspace).parts[0]
        with self._lock:
            brought = self._brought.setdefault(run, {})
            others = self._totals.get(run, 0) - brought.get(str(real), 0)
            if others + size > self._most:
                raise TooMuchError(
                    f"its node says that it has {size} bytes, and this run has brought {others} of at most"
                    f" {self._most} (engine.bring_gib)"
                )
            brought[str(real)], self._totals[run] = size, others + size

    def forget(self, folder: Path) -> None:
        """A run has ended."""
        with self._lock:
            self._brought.pop(folder.name, None)
            self._totals.pop(folder.name, None)
