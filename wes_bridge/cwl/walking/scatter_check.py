"""Scatters over what is no list, over lists that do not go together, or of more jobs than one may make: told
with the step and the input.

cwltool takes the length of whatever it is given and makes the inputs of all elements before the first begins;
its "Unhandled exception" names neither. This module must not know how elements are run.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import cwltool.workflow_job
from cwltool.context import RuntimeContext, getdefault
from cwltool.errors import WorkflowException
from cwltool.process import shortname
from cwltool.update import ORIGINAL_CWLVERSION
from cwltool.utils import aslist
from cwltool.workflow_job import WorkflowJob, WorkflowJobStep

from wes_bridge.cwl.files.contents import note_version

_object_from_state = cwltool.workflow_job.object_from_state
MOST_JOBS = 100_000
_KINDS = {bool: "a boolean", str: "a string", int: "a number", float: "a number"}


def require_lists(step: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Refuse a scatter over inputs that cannot be scattered over.

    Args:
        step: its document.
        inputs: its values, by id; a value that is not there is not known yet.

    Raises:
        WorkflowException: names the step and its input.
    """
    name, keys = shortname(step["id"]), aslist(step["scatter"])
    known = {key: inputs[key] for key in keys if key in inputs}
    for key, value in known.items():
        if not isinstance(value, list):
            raise WorkflowException(_not_a_list(name, _port(step, key), value))
    lengths = {shortname(key): len(value) for key, value in known.items()}
    if step.get("scatterMethod") in (None, "dotproduct") and len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key!r} has {length}" for key, length in lengths.items())
        raise WorkflowException(
            f"step {name!r} is scattered over lists of different lengths ({shown} elements): dotproduct takes"
            " one element of each, so they must be equally long; flat_crossproduct combines all with all"
        )


def require_room(step: Mapping[str, Any], inputs: Mapping[str, Any], most: int) -> None:
    """Refuse a scatter of more jobs than it may make.

    Args:
        step: its document.
        inputs: its values, by id; those it is scattered over are lists.
        most: jobs of one scatter.

    Raises:
        WorkflowException: names the step.
    """
    lengths = [len(inputs[key]) for key in aslist(step["scatter"])]
    crossed = step.get("scatterMethod") in ("flat_crossproduct", "nested_crossproduct")
    width = math.prod(lengths) if crossed else max(lengths, default=0)
    partial = max(itertools.accumulate(lengths, operator.mul), default=0) if crossed else 0
    if max(width, partial) > most:
        shown = " x ".join(f"{length:,}" for length in lengths) if crossed else f"{width:,}"
        raise WorkflowException(
            f"step {shortname(step['id'])!r} is scattered over {shown} elements; one may make {most:,} jobs"
            " here (engine.max_scatter): let one job do several elements, or ask the site to allow more"
        )


def _port(step: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return next((port for port in step["inputs"] if port["id"] == key), {"id": key})


def _not_a_list(step: str, port: Mapping[str, Any], value: Any) -> str:
    sources = [str(source).rpartition("#")[2] for source in aslist(port.get("source", []))]
    origin = f" (from {', '.join(map(repr, sources))})" if sources else ""
    advice = "give it a list"
    if value is None:
        advice += ", or an empty one so that nothing is run; 'when' is asked for each element, not before"
    return (
        f"step {step!r} is scattered over its input {shortname(port['id'])!r}{origin}, which is"
        f" {_kind(value)} and not a list: {advice}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"a {value['class']}" if value.get("class") in ("File", "Directory") else "a record"
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


class _State(dict[str, Any]):
    """What a workflow's steps have made, with the step that is about to be made of it."""

    step: WorkflowJobStep | None = None
    most: int = MOST_JOBS


class CheckedWorkflowJob(WorkflowJob):
    """A workflow that looks at what its steps are scattered over before cwltool takes its length."""

    state: dict[str, Any]

    def __init__(self, workflow: Any, runtimeContext: RuntimeContext) -> None:
        super().__init__(workflow, runtimeContext)
        self._most = getdefault(getattr(runtimeContext, "max_scatter", None), MOST_JOBS)
        self._looked_at = {step for step in self.steps if _is_looked_at(step.tool)}

    def try_make_job(
        self, step: WorkflowJobStep, final_output_callback: Any, runtimeContext: RuntimeContext
    ) -> Iterator[Any]:
        """The jobs of a step, as soon as its inputs are there.

        cwltool asks again at each turn until they are: a step that nothing is to be seen at costs no more.
        """
        jobs: Iterator[Any] = super().try_make_job(step, final_output_callback, runtimeContext)
        return self._checked(step, jobs) if step in self._looked_at else jobs

    def _checked(self, step: WorkflowJobStep, jobs: Iterator[Any]) -> Iterator[Any]:
        state: dict[str, Any] = self.state
        if not isinstance(state, _State):
            self.state = state = _State(state)
            state.most = self._most
        state.step = step
        note_version(self.workflow.metadata.get(ORIGINAL_CWLVERSION))
        yield from jobs


def _is_looked_at(step: Mapping[str, Any]) -> bool:
    return "scatter" in step or any(port.get("loadContents") for port in step["inputs"])


def object_from_state(state: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """A step's inputs, None when one is not there yet; those of a scatter are lists."""
    inputs = _object_from_state(state, *args, **kwargs)
    if isinstance(state, _State) and state.step is not None:
        step, state.step = state.step, None
        if inputs is not None and "scatter" in step.tool:
            require_lists(step.tool, inputs)
            require_room(step.tool, inputs, state.most)
    return inputs
