"""A workflow walked without running it: every tool it would run, where it would be, and what is known of it.

The graph is followed by values: inputs are known, outputs of tools are not (:class:`Unknown`), and what can
be worked out between them is: widths of scatters, conditions, expressions, sub-workflows. A tool whose inputs
are all known is planned by the same code that plans it in a run, so the two agree to the byte.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cwltool.context import getdefault
from cwltool.errors import UnsupportedRequirement, WorkflowException
from cwltool.process import Process, shortname
from cwltool.stdfsaccess import StdFsAccess
from cwltool.update import ORIGINAL_CWLVERSION
from cwltool.utils import aslist
from cwltool.workflow import Workflow
from schema_salad.exceptions import ValidationException

from wes_bridge.cwl.expanding.expressions import Expressions
from wes_bridge.cwl.expanding.links import all_known, linked, with_defaults
from wes_bridge.cwl.expanding.order import InOrder
from wes_bridge.cwl.expanding.scatter import elements, gathered, one_of_many, widths
from wes_bridge.cwl.expanding.sketch import sketch
from wes_bridge.cwl.expanding.unknown import Unknown, is_known, sources_of, unknown_of
from wes_bridge.cwl.files.contents import note_version, read_text
from wes_bridge.cwl.tools.context import StepContext
from wes_bridge.cwl.tools.hints import preferences_of
from wes_bridge.cwl.tools.jobs import BridgeJob
from wes_bridge.cwl.walking.scatter_check import require_lists
from wes_bridge.model.preferences import Preferences
from wes_bridge.model.step_plan import StepPlan

_logger = logging.getLogger("cwltool")
MOST_ELEMENTS = 50_000
"""Tools that are looked at for one plan."""
Outputs = dict[str, Any]
"""By short name."""


@dataclass
class Element:
    """One tool that would run.

    Attributes:
        path: names of steps down to it, without scatter indices.
        place: the same with indices, as its task would be called; ``[?]`` for one that is not known.
        plan: what a node would have to do, as far as it is known; None when it would fail.
        unknown: what is not known, in words.
        optional: a condition that is not known yet may skip it.
        wide: it stands for an unknown number.
        after: paths it waits for.
        tool: its document.
        preferences: how its node is to be chosen, as the workflow says.
        problem: why it would fail.
        unsupported: it asks for what cannot be done here.
    """

    path: str
    place: str
    plan: StepPlan | None = None
    unknown: tuple[str, ...] = ()
    optional: bool = False
    wide: bool = False
    after: frozenset[str] = frozenset()
    tool: str = ""
    preferences: list[Preferences] = field(default_factory=list)
    problem: str | None = None
    unsupported: bool = False


@dataclass(frozen=True)
class Where:
    """Where the walk is."""

    names: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    optional: bool = False
    wide: bool = False
    after: frozenset[str] = frozenset()

    @property
    def may_be_left_out(self) -> bool:
        """Whether it is not known yet that anything is run here."""
        return self.optional or self.wide


class TooWideError(Exception):
    """The workflow has more elements than can be planned."""


class Expansion:
    """Expands a workflow.

    Args:
        context: of the run, as a walk's.
        output_url: where the output directory of the tool at a place would go.

    Attributes:
        elements: what would run, in the order of the workflow.
        skipped: places whose condition is already false.
        problems: what would go wrong beside the elements'.
        notes: what would go wrong where it is not known whether anything is run at all.
    """

    def __init__(self, context: StepContext, output_url: Callable[[str], str]) -> None:
        self.elements: list[Element] = []
        self.skipped: list[str] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._context = context
        self._output_url = output_url
        self._expressions = Expressions(getdefault(context.eval_timeout, 20.0))

    def expand(self, process: Process, job_order: Mapping[str, Any]) -> None:
        """Walk a process with its complete inputs.

        Raises:
            WorkflowException: its inputs are not what it declares.
            TooWideError: see there.
        """
        inputs = dict(job_order)
        if isinstance(process, Workflow):
            inputs = dict(process._init_job(inputs, self._context).job)
            self._workflow(process, inputs, Where())
        else:
            self._process(process, inputs, Where())

    # --- processes

    def _process(self, process: Process, inputs: dict[str, Any], where: Where) -> Outputs:
        kind = process.tool["class"]
        if kind == "Workflow":
            if all_known(inputs):
                inputs = dict(process._init_job(inputs, self._context).job)
            return self._workflow(process, with_defaults(process.tool["inputs"], inputs), where)
        inputs = with_defaults(process.tool["inputs"], inputs)
        if kind == "CommandLineTool":
            return self._tool(process, inputs, where)
        if kind == "ExpressionTool" and all_known(inputs):
            return self._expression(process, inputs, where)
        return _unknown_outputs(process, sources_of(inputs) | where.after)

    def _workflow(self, process: Any, inputs: dict[str, Any], where: Where) -> Outputs:
        state: dict[str, Any] = {
            port["id"]: inputs.get(shortname(port["id"])) for port in process.tool["inputs"]
        }
        steps = InOrder(((step, _sources(step)) for step in process.steps), state)
        for step in steps:
            made = self._guarded(process, step, state, where)
            state |= made
            steps.add(made)
        if steps.waiting:
            names = ", ".join(shortname(step.id) for step in steps.waiting)
            raise WorkflowException(f"these steps wait for each other, or for nothing: {names}")
        return {
            shortname(port["id"]): linked(port, "outputSource", state) for port in process.tool["outputs"]
        }

    def _tool(self, tool: Any, inputs: dict[str, Any], where: Where) -> Outputs:
        if len(self.elements) >= MOST_ELEMENTS:
            raise TooWideError(f"the workflow has more than {MOST_ELEMENTS} steps")
        context: StepContext = self._context.copy()
        context.place = where.place
        placed = context.at_tool(tool.tool["id"])
        element = Element(
            path="/".join(where.names) or "/".join(placed.place),
            place="/".join(placed.place),
            optional=where.optional,
            wide=where.wide,
            after=sources_of(inputs) | where.after,
            tool=tool.tool["id"],
        )
        self.elements.append(element)
        try:
            self._plan(element, tool, inputs, placed, context)
        except UnsupportedRequirement as error:
            element.problem, element.unsupported = str(error), True
        except (WorkflowException, ValidationException) as error:
            if not where.place:  # the tool is the whole run: its inputs are the user's
                raise
            if where.may_be_left_out:
                self.elements.remove(element)
                self._tell(where, element.place, error)
            else:
                element.problem = str(error)
        return _unknown_outputs(tool, {element.path})

    def _plan(
        self, element: Element, tool: Any, inputs: dict[str, Any], placed: StepContext, context: StepContext
    ) -> None:
        url = self._output_url(element.place)
        if not all_known(inputs):
            element.plan, element.unknown = sketch(tool, inputs, placed, self._expressions, url)
            element.preferences = preferences_of(tool.hints)
            return
        jobs = tool.job(inputs, lambda _outputs, _status: None, context)
        job = next(jobs, None)
        jobs.close()
        if isinstance(job, BridgeJob):
            element.plan, element.preferences = job.plan(url), job.preferences()

    def _expression(self, tool: Any, inputs: dict[str, Any], where: Where) -> Outputs:
        context: StepContext = self._context.copy()
        context.place = where.place
        result: list[tuple[Any, str]] = []
        for job in tool.job(inputs, lambda outputs, status: result.append((outputs, status)), context):
            job.run(context)
        if not result or result[0][1] != "success":
            raise WorkflowException("the expression fails")
        return dict(result[0][0])

    # --- steps

    def _guarded(self, workflow: Any, step: Any, state: Mapping[str, Any], where: Where) -> Outputs:
        """A step's outputs by id; one that would fail is noted, and the walk goes on without knowing them."""
        try:
            return self._step(workflow, step, state, where)
        except (WorkflowException, ValidationException) as error:
            self._tell(where, "/".join((*where.place, shortname(step.id))), error)
            return {port["id"]: Unknown() for port in step.tool["outputs"]}

    def _tell(self, where: Where, name: str, error: Exception) -> None:
        """A failure; only a note where the branch it is in may be left out, as by a scatter over nothing."""
        if where.may_be_left_out:
            self.notes.append(f"{name} fails if it is run, and it may be left out: {error}")
        else:
            self.problems.append(f"{name}: {error}")

    def _step(self, workflow: Any, step: Any, state: Mapping[str, Any], where: Where) -> Outputs:
        name = shortname(step.id)
        here = replace(where, names=(*where.names, name))
        inputs = {port["id"]: linked(port, "source", state) for port in step.tool["inputs"]}
        if step.tool.get("loop"):
            return self._loop(step, inputs, here, name)
        if "scatter" not in step.tool:
            found = self._element(workflow, step, inputs, _at(here, name, ""))
            return {port["id"]: found[port["id"]] for port in step.tool["outputs"]}
        keys = step.tool["scatter"]
        keys = keys if isinstance(keys, list) else [keys]
        known = {key: inputs[key] for key in keys if not isinstance(inputs[key], Unknown)}
        require_lists(step.tool, known)
        method = step.tool.get("scatterMethod")
        lengths = widths(inputs, keys, method)
        if lengths is None:
            return self._wide(workflow, step, inputs, keys, here)
        waits = frozenset().union(*(sources_of(inputs[key]) for key in keys))
        here = replace(here, after=here.after | waits)
        each = [
            self._element(workflow, step, element, _at(here, name, _brackets(index)))
            for index, element in elements(inputs, keys, method, lengths)
        ]
        return {
            port["id"]: gathered([found[port["id"]] for found in each], method, lengths)
            for port in step.tool["outputs"]
        }

    def _wide(
        self, workflow: Any, step: Any, inputs: dict[str, Any], keys: list[str], here: Where
    ) -> Outputs:
        """A scatter of unknown width: one element stands for all."""
        waits = frozenset().union(*(sources_of(inputs[key]) for key in keys))
        there = replace(here, wide=True, after=here.after | waits)
        name = here.names[-1]
        found = self._element(workflow, step, one_of_many(inputs, keys), _at(there, name, "[?]"))
        return {
            port["id"]: Unknown(sources_of(found[port["id"]]) | waits, array=True, nullable=False)
            for port in step.tool["outputs"]
        }

    def _loop(self, step: Any, inputs: dict[str, Any], here: Where, name: str) -> Outputs:
        """A loop: one round stands for all, with nothing known of what changes from round to round."""
        changing = {one["id"] for one in step.tool["loop"]}
        known = {
            key: Unknown(sources_of(value)) if key in changing or shortname(key) in changing else value
            for key, value in inputs.items()
        }
        there = _at(replace(here, wide=True, optional=True), name, "[?]")
        found = self._process(step.embedded_tool, _short(step, known), there)
        return {
            port["id"]: Unknown(sources_of(found.get(shortname(port["id"])))) for port in step.tool["outputs"]
        }

    def _element(self, workflow: Any, step: Any, inputs: dict[str, Any], where: Where) -> Outputs:
        """One element of a step, or the whole of one that is not scattered; its outputs by id."""
        inputs = self._evaluated(workflow, step, inputs)
        ports = step.tool["outputs"]
        if "when" in step.tool:
            short = {shortname(key): value for key, value in inputs.items()}
            runs = self._expressions.value(step.tool["when"], short, workflow.requirements)
            if runs is False:
                self.skipped.append("/".join(where.place))
                return {port["id"]: None for port in ports}
            if isinstance(runs, Unknown):
                where = replace(where, optional=True, after=where.after | runs.sources)
            elif runs is not True:
                raise WorkflowException("Conditional 'when' must evaluate to 'true' or 'false'")
        found = self._process(step.embedded_tool, _short(step, inputs), where)
        outputs = {port["id"]: found.get(shortname(port["id"])) for port in ports}
        if where.optional:
            outputs = {key: _maybe_null(value) for key, value in outputs.items()}
        return outputs

    def _evaluated(self, workflow: Any, step: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs after ``loadContents`` and ``valueFrom``, which happen for each element."""
        ports = {port["id"]: port for port in step.tool["inputs"]}
        if not any("valueFrom" in port or port.get("loadContents") for port in ports.values()):
            return inputs
        if (
            any("valueFrom" in port for port in ports.values())
            and not (workflow.get_requirement("StepInputExpressionRequirement")[0])
        ):
            raise WorkflowException(
                "Workflow step contains valueFrom but StepInputExpressionRequirement not in requirements"
            )
        files = self._context.make_fs_access("")
        note_version(workflow.metadata.get(ORIGINAL_CWLVERSION))
        for key, value in inputs.items():
            if ports[key].get("loadContents") and is_known(value):
                _load_contents(files, value)
        short = {shortname(key): value for key, value in inputs.items()}
        return {
            key: self._expressions.value(ports[key]["valueFrom"], short, workflow.requirements, value)
            if "valueFrom" in ports[key]
            else value
            for key, value in inputs.items()
        }


def _sources(step: Any) -> set[str]:
    return {source for port in step.tool["inputs"] for source in aslist(port.get("source", []))}


def _at(where: Where, name: str, index: str) -> Where:
    return replace(where, place=(*where.place, name + index))


def _brackets(index: tuple[int, ...]) -> str:
    return "".join(f"[{number}]" for number in index)


def _short(step: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the step's process is given: its inputs by short name, without those it does not have."""
    return {
        shortname(port["id"]): inputs[port["id"]]
        for port in step.tool["inputs"]
        if not port.get("not_connected")
    }


def _unknown_outputs(process: Any, sources: frozenset[str] | set[str]) -> Outputs:
    return {shortname(port["id"]): unknown_of(port["type"], sources) for port in process.tool["outputs"]}


def _maybe_null(value: Any) -> Any:
    if isinstance(value, Unknown):
        return replace(value, nullable=True)
    return Unknown(sources_of(value)) if value is not None else None


def _load_contents(files: StdFsAccess, value: Any) -> None:
    """As cwltool: the text of each file, for expressions to look at."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and item.get("contents") is None:
            with files.open(item["location"], "rb") as file:
                item["contents"] = read_text(file)
