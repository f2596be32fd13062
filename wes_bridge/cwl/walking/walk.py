"""Walking one run's graph: cwltool's generator of jobs, pulled a few at a time.

A Walk is plain synchronous code, called by one thread at a time. It runs what needs no node (expressions,
sub-workflows' bookkeeping) itself and hands out the rest as jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cwltool.stdfsaccess import StdFsAccess

from wes_bridge.cwl.errors import PlaceTakenError
from wes_bridge.cwl.loading.load import LoadedRun, check_outputs
from wes_bridge.cwl.tools.context import run_context
from wes_bridge.cwl.tools.jobs import BridgeJob
from wes_bridge.cwl.tools.process import Recalled
from wes_bridge.cwl.walking.waking import wake

_logger = logging.getLogger("cwltool")


@dataclass(frozen=True)
class Finished:
    """A job that has ended: its output object and cwltool status."""

    job: BridgeJob
    outputs: dict[str, Any]
    status: str


@dataclass(frozen=True)
class Pulled:
    """What one pull brought.

    Attributes:
        jobs: ready to be placed.
        stuck: nothing more will come before a job ends (or ever).
    """

    jobs: list[BridgeJob]
    stuck: bool


class Walk:
    """The state of one run's graph.

    Args:
        run_id: of the run.
        loaded: what to walk.
        make_fs_access: cwltool file access bound to the run.
        options: attributes of cwltool's RuntimeContext to set.

    Attributes:
        status: cwltool's word for how it ended, None while it goes on.
        outputs: the output object, None when there is none.
    """

    def __init__(
        self,
        run_id: str,
        loaded: LoadedRun,
        make_fs_access: type[StdFsAccess],
        options: dict[str, Any],
    ) -> None:
        self.status: str | None = None
        self.outputs: dict[str, Any] | None = None
        self._process = loaded.process
        self._context = run_context(run_id, make_fs_access, options, checksums=True)
        self._jobs: Iterator[Any] = loaded.process.job(loaded.job_order, self._on_outputs, self._context)
        self._ended = False
        self._places: set[str] = set()

    def _on_outputs(self, outputs: dict[str, Any] | None, status: str) -> None:
        self.outputs, self.status = outputs, status

    def check_outputs(self) -> None:
        """Refuse final outputs of another type than declared.

        Raises:
            WorkflowException: names the output.
        """
        if self.status == "success" and self.outputs is not None:
            check_outputs(self._process, self.outputs)

    def advance(self, finished: list[Finished], room: int) -> Pulled:
        """Tell the graph what has ended, then pull up to ``room`` jobs.

        Raises:
            WorkflowException: the graph cannot go on, with the reason.
            PlaceTakenError: two jobs have one place.
        """
        for item in finished:
            item.job.read_no_more()
            if item.job.output_callback:
                item.job.output_callback(item.outputs, item.status)
                wake(item.job.output_callback)
        if finished:
            self._wake_those_after_any()
        jobs: list[BridgeJob] = []
        while len(jobs) < room and not self._ended:
            job: Any = next(self._jobs, _END)
            if job is _END:
                self._ended = True
            elif job is None:
                return Pulled(jobs, stuck=True)
            elif isinstance(job, BridgeJob):
                self._take_place(job.key)
                jobs.append(job)
            else:
                if isinstance(job, Recalled):
                    self._take_place(job.key)
                job.run(self._context)
        return Pulled(jobs, stuck=self._ended)

    def settled(self) -> tuple[list[str], list[Any]]:
        """See :meth:`~wes_bridge.cwl.walking.waking.WakingWorkflowJob.settled`; empty for a single tool."""
        for workflow in self._context.workflows:
            found: tuple[list[str], list[Any]] = workflow.settled()
            return found
        return [], []

    def _take_place(self, key: str) -> None:
        """Note that a place has its job. Places are read off cwltool's callbacks (``tools/process.py``): were
        these made in another way, the elements of a scatter would all have the place of their step."""
        if key in self._places:
            raise PlaceTakenError(key)
        self._places.add(key)

    def _wake_those_after_any(self) -> None:
        waiting = self._context.after_any[:]
        self._context.after_any.clear()
        for callback in waiting:
            wake(callback)


_END = object()
