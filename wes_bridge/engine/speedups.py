"""Some of cwltool replaced by what does the same in less time, one class made patient, some faults mended.

cwltool's ``uniquename`` probes a process-wide set name by name, and ``parallel_steps`` looks again at every
element of a scatter whenever one of them ends: both are quadratic in the width of a scatter, and the first
leaks from run to run. ``do_eval`` goes through all of a step's inputs also where there is no expression, and
its walks through objects ask abstract classes what everything is. Everything that reaches into cwltool from
outside is put in place by :func:`install`, so that a new cwltool can be checked against it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import cwl_utils.types
import cwltool.command_line_tool
import cwltool.process
import cwltool.utils
import cwltool.workflow
import cwltool.workflow_job
from cwl_utils.expression import needs_parsing
from cwltool.builder import Builder
from cwltool.context import RuntimeContext, getdefault
from cwltool.errors import WorkflowException
from cwltool.workflow_job import ReceiveScatterOutput

from wes_bridge.engine import (
    binding,
    contents,
    document_checks,
    nested_types,
    quick_documents,
    scatter_check,
    type_check,
)
from wes_bridge.engine.scatter_check import CheckedWorkflowJob

_logger = logging.getLogger("cwltool")
_serial = itertools.count(1)
_do_eval = Builder.do_eval

Steps = list[Iterator[Any] | None]


def unique_name(stem: str, names: set[str] | None = None) -> str:
    """A name nobody else has: the stem as it is when it already is unique by construction.

    The engine names steps by path and scatter index; only cwltool's own names for log lines come here.
    """
    return f"{stem}#{next(_serial)}" if names is None else _probe(stem, names)


def _probe(stem: str, names: set[str]) -> str:
    name = next(
        name
        for name in itertools.chain([stem], (f"{stem}_{n}" for n in itertools.count(2)))
        if name not in names
    )
    names.add(name)
    return name


def parallel_steps(steps: Steps, rc: ReceiveScatterOutput, context: RuntimeContext) -> Iterator[Any]:
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
        for index in list(active):
            for job in _jobs(index, active, rc):
                progress = True
                yield job
        for index in itertools.islice(waiting, 1):
            begun += 1
            progress = True
            active[index] = steps[index]  # type: ignore[assignment]  # skipped ones are not in `waiting`
            yield from _jobs(index, active, rc)
        if not progress and rc.completed < rc.total:
            yield None


def _stops(rc: ReceiveScatterOutput, context: RuntimeContext) -> bool:
    return getdefault(context.on_error, "stop") == "stop" and rc.processStatus not in ("success", "skipped")


def _jobs(index: int, active: dict[int, Iterator[Any]], rc: ReceiveScatterOutput) -> Iterator[Any]:
    """Jobs that element ``index`` can give now; it leaves ``active`` when it will give no more."""
    try:
        for job in active[index]:
            if job is None:
                return
            yield job
    except WorkflowException as error:
        _logger.error("Cannot make scatter job: %s", error)
        rc.receive_scatter_output(index, {}, "permanentFail")
    active.pop(index, None)


def do_eval(
    builder: Builder,
    ex: Any,
    context: Any = None,
    recursive: bool = False,
    strip_whitespace: bool = True,
) -> Any:
    """The value of an expression; a text that has none is itself.

    cwltool goes through all of the step's inputs first, for each glob pattern and name of a stream.
    """
    if isinstance(ex, str) and not needs_parsing(ex):
        return ex
    return binding.named(_do_eval(builder, ex, context, recursive, strip_whitespace))


class PatientWorkflowJob(CheckedWorkflowJob):
    """A workflow that, told to go on after a failure, waits for what still runs.

    cwltool's gives up when a step has failed and none is ready at this moment, so that steps after one that
    is still running would never begin. Here the failure shows only when nothing runs any more.
    """

    def __init__(self, workflow: Any, runtimeContext: RuntimeContext) -> None:
        self._status = ""
        self._goes_on = getdefault(runtimeContext.on_error, "stop") == "continue"
        super().__init__(workflow, runtimeContext)

    @property
    def processStatus(self) -> str:
        """How it goes."""
        running = self._goes_on and any(step.submitted and not step.completed for step in self.steps)
        return "success" if running and self._status != "success" else self._status

    @processStatus.setter
    def processStatus(self, status: str) -> None:
        if self._status != "permanentFail":
            self._status = status


def install() -> None:
    """Put the replacements in place, once per process."""
    quick_documents.install()
    binding.install()
    contents.install()
    nested_types.install()
    scatter_check.install()
    document_checks.install()
    Builder.do_eval = do_eval
    # What is loaded or collected is made of dicts and lists, ruamel's too; to ask that takes a tenth as long.
    cwltool.utils.MutableMapping = cwl_utils.types.Mapping = dict
    cwltool.utils.MutableSequence = list
    cwltool.process.uniquename = unique_name
    cwltool.command_line_tool.uniquename = unique_name
    cwltool.workflow_job.uniquename = unique_name
    cwltool.workflow_job.parallel_steps = parallel_steps
    cwltool.workflow.WorkflowJob = PatientWorkflowJob
    cwltool.workflow.static_checker = type_check.static_checker
