"""Showing a run while it goes on: a bar on a terminal, a line per change elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from wes_bridge.cli.flow import tasks_of
from wes_bridge.cli.steps import FINAL, Task, state, summary
from wes_bridge.client import WESClient

_REFRESH = 0.25
"""Seconds between two looks at the tasks, at least; a run of very many steps is looked at more rarely."""
_SHARE = 10
"""Times as long as a look takes, until the next."""


class Progress:
    """Follows one run; use as a context and give :meth:`update` to ``WESClient.wait``.

    Args:
        client: to ask for tasks with.
        stream: where to write.
        quiet: show nothing.
    """

    def __init__(self, client: WESClient, stream: TextIO = sys.stderr, quiet: bool = False) -> None:
        self._client = client
        self._stream = stream
        self._quiet = quiet
        self._next_look = 0.0
        self._last = ""
        self._bar: Any = None
        self._bar_task: Any = None

    def __enter__(self) -> Progress:
        """Begin to show."""
        if not self._quiet and self._stream.isatty():
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
            from rich.progress import Progress as Bar  # noqa: PLC0415

            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            self._bar.start()
            self._bar_task = self._bar.add_task("starting", total=None, detail="")
        return self

    def __exit__(self, *_error: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Say what is done before the run exists."""
        if self._bar is not None:
            self._bar.update(self._bar_task, description=text)

    def update(self, now: dict[str, Any]) -> None:
        """Show how the run is; looks at its tasks now and then, unless they come along."""
        final = now["state"] in FINAL
        if self._quiet or (not final and time.monotonic() < self._next_look):
            return
        begun = time.monotonic()
        told = now.get("tasks")
        tasks = tasks_of(self._client, now["run_id"]) if told is None else list(told)
        self._show(now["state"], tasks)
        ended = time.monotonic()
        least = _REFRESH if told is None else 0.0
        self._next_look = ended + max(least, _SHARE * (ended - begun))

    def _show(self, run_state: str, tasks: list[Task]) -> None:
        detail = summary(tasks)
        if self._bar is not None:
            done = sum(state(task) in FINAL for task in tasks)
            self._bar.update(
                self._bar_task,
                description=run_state,
                total=len(tasks) or None,
                completed=done,
                detail=detail,
            )
            return
        text = f"{run_state}: {detail}" if tasks else run_state
        if text != self._last:
            self._last = text
            self._stream.write(text + "\n")
            self._stream.flush()
