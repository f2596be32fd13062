"""A workflow's steps are looked at when something has happened to them, instead of all of them at each turn.

Whenever a job ends, cwltool asks every step of every workflow that is under way whether it can begin, or has
more to give, and every element of a scatter: the time of a walk grows with the square of the number of steps.
Here a step begins when the last of its sources is there, and what has begun is asked again when a job below
it has ended: :func:`wake` follows the job's callback up to the top and marks what it passes. It must not know
what jobs are, nor where they run.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from cwltool.context import RuntimeContext, getdefault
from cwltool.errors import WorkflowException
from cwltool.process import shortname
from cwltool.utils import WorkflowStateItem, aslist
from cwltool.workflow_job import ReceiveScatterOutput, WorkflowJobLoopStep, WorkflowJobStep
from schema_salad.sourceline import SourceLine

from wes_bridge.cwl.walking.scatter_check import CheckedWorkflowJob

_logger = logging.getLogger("cwltool")
_GOOD = ("success", "skipped")

Steps = list[Iterator[Any] | None]


def wake(callback: Any) -> None:
    """Have everything asked again that a job was for, up to the whole workflow.

    Args:
        callback: what the job's outputs were given to.
    """
    while isinstance(callback, functools.partial):
        owner = getattr(callback.func, "__self__", None)
        if isinstance(owner, WakingScatter):
            owner.awake[callback.args[0]] = None
            callback = owner.output_callback
        elif isinstance(owner, WakingWorkflowJob):
            owner.wake(callback.args[0])
            callback = callback.args[2]
        elif isinstance(owner, WakingLoop):
            callback = owner.output_callback
        else:  # a WorkflowStep, which gives its outputs their whole names
            callback = callback.args[0]


class WakingScatter(ReceiveScatterOutput):
    """Collects the outputs of a scatter's elements, and knows in which of them something has happened."""

    def __init__(self, output_callback: Any, dest: Any, total: int) -> None:
        super().__init__(output_callback, dest, total)
        self.awake: dict[int, None] = {}


class WakingLoop(WorkflowJobLoopStep):
    """A loop that knows whom it gives its outputs."""

    output_callback: Any = None

    def job(self, joborder: Any, output_callback: Any, runtimeContext: RuntimeContext) -> Iterator[Any]:
        """The jobs of all rounds."""
        self.output_callback = output_callback
        yield from super().job(joborder, output_callback, runtimeContext)


def parallel_steps(steps: Steps, rc: WakingScatter, context: RuntimeContext) -> Iterator[Any]:
    """Yield the jobs of a scatter's elements; None when there is nothing to do until one ends.

    Args:
        steps: one generator of jobs per element; None for an element that is skipped.
        rc: collects the elements' results.
        context: says whether to stop at the first failure.
    """
    waiting = iter([index for index, step in enumerate(steps) if step is not None])
    active: dict[int, Iterator[Any]] = {}  # begun, may still have jobs to give (sub-workflows)
    begun = sum(step is None for step in steps)
    while rc.completed < rc.total:
        if _stops(rc, context):
            if rc.completed >= begun:
                rc.output_callback(rc.dest, rc.processStatus)
                return
            yield None
            continue
        progress = False
        awake, rc.awake = rc.awake, {}
        for index in awake:
            for job in _jobs(index, active, rc):
                progress = True
                yield job
        for index in _begin_one(waiting):
            begun += 1
            progress = True
            active[index] = steps[index]  # type: ignore[assignment]  # skipped ones are not in `waiting`
            yield from _jobs(index, active, rc)
        if not progress and rc.completed < rc.total:
            yield None


def _begin_one(waiting: Iterator[int]) -> Iterable[int]:
    index = next(waiting, None)
    return () if index is None else (index,)


def _stops(receiver: WakingScatter | WakingWorkflowJob, context: RuntimeContext) -> bool:
    return getdefault(context.on_error, "stop") == "stop" and receiver.processStatus not in _GOOD


def _jobs(index: int, active: dict[int, Iterator[Any]], rc: WakingScatter) -> Iterator[Any]:
    """Jobs that element ``index`` can give now; it leaves ``active`` when it will give no more."""
    try:
        for job in active.get(index, ()):
            if job is None:
                return
            yield job
    except WorkflowException as error:
        _logger.error("Cannot make scatter job: %s", error)
        rc.receive_scatter_output(index, {}, "permanentFail")
    active.pop(index, None)


class WakingWorkflowJob(CheckedWorkflowJob):
    """A workflow that knows which of its steps can begin, or go on.

    Attributes:
        running: steps that have begun and not ended.
    """

    def __init__(self, workflow: Any, runtimeContext: RuntimeContext) -> None:
        self.running: set[WorkflowJobStep] = set()
        super().__init__(workflow, runtimeContext)
        workflows: list[Any] | None = getattr(runtimeContext, "workflows", None)
        if workflows is not None and not workflows:
            workflows.append(self)  # others are walked while this is
        self._open = set(self.steps)
        self._awake: dict[WorkflowJobStep, None] = {}
        self._missing: dict[WorkflowJobStep, set[str]] = {}
        self._waiting: dict[str, list[WorkflowJobStep]] = {}

    def wake(self, step: WorkflowJobStep) -> None:
        """Ask a step again that has begun: something below it has ended."""
        if step.iterable is not None:
            self._awake[step] = None

    def job(self, joborder: Any, output_callback: Any, runtimeContext: RuntimeContext) -> Iterator[Any]:
        """The jobs that can begin; None when there is nothing to do until one of them ends."""
        self.processStatus = "success"
        context = runtimeContext.copy()
        context.outdir = None
        self._begin(joborder, context)
        while self._open:
            while self._awake and not _stops(self, context):
                step = next(iter(self._awake))
                del self._awake[step]
                yield from self._jobs_of(step, output_callback, context)
            if not self._open or self.processStatus != "success":
                break
            yield None
        if not self.did_callback:
            self.do_output_callback(output_callback)

    def _begin(self, joborder: Any, context: RuntimeContext) -> None:
        """Note what is there, and what each step waits for."""
        ports = self.tool["inputs"]
        for index, port in enumerate(ports):
            with SourceLine(ports, index, WorkflowException, context.debug):
                name = shortname(port["id"])
                if name not in joborder and "default" not in port:
                    raise WorkflowException(f"Input '{port['id']}' is not given and has no default value.")
                value = joborder[name] if name in joborder else port["default"]
                self.state[port["id"]] = WorkflowStateItem(port, value, "success")
        self.state |= {port["id"]: None for step in self.steps for port in step.tool["outputs"]}
        for step in self.steps:
            ports = [port for port in step.tool["inputs"] if "source" in port]
            sources = {source for port in ports for source in aslist(port["source"])}
            missing = {source for source in sources if self.state.get(source) is None}
            self._missing[step] = missing
            for source in missing:
                self._waiting.setdefault(source, []).append(step)
            if not missing or not missing <= self.state.keys():  # one that nobody makes fails when it begins
                self._awake[step] = None

    def _jobs_of(self, step: WorkflowJobStep, output_callback: Any, context: RuntimeContext) -> Iterator[Any]:
        """What a step can give now."""
        if not step.submitted:
            step.iterable = self.try_make_job(step, output_callback, context)
        if step.iterable is None:
            return
        self.running.add(step)
        try:
            for job in step.iterable:
                if job is None or _stops(self, context):
                    return
                yield job
        except WorkflowException as error:
            _logger.error("[%s] Cannot make job: %s", step.name, error)
            self.processStatus = "permanentFail"
        finally:
            if step.completed:
                self._close(step)
            elif not step.submitted:
                self.running.discard(step)

    def settled(self) -> tuple[list[str], list[Any]]:
        """Names of the steps that have ended, and the values that are still needed: what open steps take, and
        the workflow's own outputs. Once a step has failed none: a rerun may need all."""
        if self.processStatus != "success":
            return [], []
        ended = [shortname(step.id) for step in self.steps if step.completed]
        ports = [port for step in self.steps if not step.completed for port in step.tool["inputs"]]
        names = {source for port in ports for source in aslist(port.get("source", []))}
        names |= {source for port in self.tool["outputs"] for source in aslist(port.get("outputSource", []))}
        found = [self.state.get(name) for name in names]
        return ended, [item.value for item in found if item is not None]

    def _close(self, step: WorkflowJobStep) -> None:
        self._open.discard(step)
        self.running.discard(step)

    def receive_output(
        self,
        step: WorkflowJobStep,
        outputparms: list[Any],
        final_output_callback: Any,
        jobout: Any,
        processStatus: str,
    ) -> None:
        """Take a step's outputs over; steps that waited only for them can begin."""
        for port in outputparms:
            name = port.get("id")
            if name is not None and name in jobout:
                self.state[name] = WorkflowStateItem(port, jobout[name], processStatus)
            elif name is not None:
                _logger.error("[%s] Output is missing expected field %s", step.name, name)
                processStatus = "permanentFail"
        if processStatus not in _GOOD:
            if self.processStatus != "permanentFail":
                self.processStatus = processStatus
            _logger.warning("[%s] completed %s", step.name, processStatus)
        else:
            _logger.info("[%s] completed %s", step.name, processStatus)
        step.completed = True
        step.iterable = None  # what it holds is not needed any more
        self._close(step)
        self._wake_after(outputparms)
        if not self._open:
            self.do_output_callback(final_output_callback)

    def _wake_after(self, outputparms: list[Any]) -> None:
        """Wake the steps that waited for these outputs only."""
        for name in (port["id"] for port in outputparms if "id" in port):
            made = self.state.get(name)
            if made is None or made.success not in _GOOD:
                continue
            for step in self._waiting.pop(name, ()):
                self._missing[step].discard(name)
                if not self._missing[step]:
                    self._awake[step] = None
