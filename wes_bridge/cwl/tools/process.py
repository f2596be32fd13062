"""CWL processes that know where they are in the run: cwltool's classes with our jobs in them."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from cwltool.builder import Builder
from cwltool.command_line_tool import CommandLineTool
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.errors import WorkflowException
from cwltool.pathmapper import PathMapper
from cwltool.process import Process, shortname
from cwltool.workflow import Workflow, WorkflowStep, default_make_tool
from cwltool.workflow_job import ReceiveScatterOutput, WorkflowJobLoopStep
from schema_salad.exceptions import ValidationException

from wes_bridge.cwl.errors import unexpected
from wes_bridge.cwl.files.contents import note_version
from wes_bridge.cwl.files.path_mapper import UrlPathMapper
from wes_bridge.cwl.loading import shared_tools
from wes_bridge.cwl.loading.document_checks import building, warn_of_doubles
from wes_bridge.cwl.tools import defaults
from wes_bridge.cwl.tools import workdir as placing
from wes_bridge.cwl.tools.context import StepContext
from wes_bridge.cwl.tools.jobs import BridgeJob
from wes_bridge.cwl.tools.mutation import InUseError, Mutations
from wes_bridge.model.run_options import Override
from wes_bridge.model.units import MIB

_BLANK_ID = re.compile(r"_:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What cwltool calls a process that the document gives no name; it is another in each load."""


_TOLD = (WorkflowException, ValidationException, OSError)
"""Errors whose text is for the document's author."""


class BridgeTool(CommandLineTool):
    """A CommandLineTool whose jobs are plans for sessions."""

    def make_job_runner(self, runtimeContext: StepContext) -> Any:
        """The class of its jobs, bound to the place."""
        return functools.partial(BridgeJob, context=runtimeContext)

    def make_path_mapper(
        self, reffiles: Any, stagedir: str, runtimeContext: RuntimeContext, separateDirs: bool
    ) -> PathMapper:
        """A mapper that keeps URLs."""
        return UrlPathMapper(reffiles, runtimeContext.basedir, stagedir, separateDirs)

    def _initialworkdir(self, j: Any, builder: Builder) -> None:
        """As cwltool, with copies: cwltool writes into what it places, and that may be an object of the
        document, which the tool's next job is given as well, or of an input that is placed twice. What
        expressions place is checked, for cwltool takes it to be right."""
        evaluate = builder.do_eval
        made_by = (self.get_requirement("InitialWorkDirRequirement")[0] or {}).get("listing") or []
        expressions = (
            [made_by] if isinstance(made_by, str) else [one for one in made_by if isinstance(one, str)]
        )

        def evaluated(expression: Any, *args: Any, **kwargs: Any) -> Any:
            value = _copied(evaluate(expression, *args, **kwargs))
            if any(expression is one for one in expressions):
                return placing.entries(value, builder.cwlVersion)
            return value

        builder.do_eval = evaluated
        try:
            super()._initialworkdir(j, builder)
        finally:
            del builder.do_eval

    def evalResources(self, builder: Builder, runtimeContext: StepContext) -> dict[str, int | float]:
        """As cwltool, with what the run overrides; minima and maxima are kept as ``builder.requested``."""
        context = runtimeContext.copy()
        override = context.run_options.override(context.place)
        context.select_resources = functools.partial(_keep_request, builder, override)
        resources: dict[str, int | float] = super().evalResources(builder, context)
        return resources

    def job(self, job_order: Any, output_callbacks: Any, runtimeContext: StepContext) -> Iterator[Any]:
        """Its one job, at the place the context tells; of what was done before only the outputs.

        To work out a command and its files takes ten times as long as to see that the same tool is given the
        same inputs at the same place as before, and a run that is taken up again does it for all its steps
        before anything new can begin.
        """
        context = runtimeContext.at_tool(self.tool["id"])
        if context.recall is not None and self._may_be_recalled:
            context.asked = _digest([self._document, job_order])
            outputs = context.recall(context.key, context.asked)
            if outputs is not None:
                yield Recalled(context.key, output_callbacks, outputs)
                return
        yield from self._when_free(job_order, output_callbacks, context)

    def _when_free(self, job_order: Any, output_callbacks: Any, context: StepContext) -> Iterator[Any]:
        """Its job; None as long as a file that it is to update in place is read by others."""
        mutations = context.mutation_manager
        while isinstance(mutations, Mutations):
            mutations.begin()
            try:
                jobs = list(super().job(job_order, output_callbacks, context))
            except InUseError:
                mutations.take_back()
                context.after_any.append(output_callbacks)
                yield None
                continue
            yield from jobs
            return
        yield from super().job(job_order, output_callbacks, context)

    def collect_output(self, schema: Any, builder: Builder, *args: Any, **kwargs: Any) -> Any:
        """As cwltool, which does not say of which version the tool is whose outputs it reads."""
        note_version(builder.cwlVersion)
        return super().collect_output(schema, builder, *args, **kwargs)

    @functools.cached_property
    def _may_be_recalled(self) -> bool:
        """cwltool counts how often a file was changed in place, and must see each time."""
        return self.get_requirement("InplaceUpdateRequirement")[0] is None

    @functools.cached_property
    def _document(self) -> str:
        return _digest([self.tool, self.requirements, self.hints])


class Recalled:
    """A job that was done in another worker's time.

    Attributes:
        key: its place as text.
    """

    def __init__(
        self, key: str, callback: Callable[[dict[str, Any], str], None], outputs: dict[str, Any]
    ) -> None:
        self.key = key
        self._callback, self._outputs = callback, outputs

    def run(self, _context: StepContext) -> None:
        """Tell what it made then."""
        self._callback(self._outputs, "success")


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    text = _BLANK_ID.sub("", json.dumps(value, sort_keys=True, default=str))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _keep_request(
    builder: Builder, override: Override, request: dict[str, Any], _context: RuntimeContext
) -> dict[str, Any]:
    builder.overridden = []
    for name, amount in (("ram", override.ram and override.ram / MIB), ("cores", override.cores)):
        if amount is not None:
            request |= {f"{name}Min": amount, f"{name}Max": amount}
            builder.overridden.append(name)
    builder.requested = request
    chosen = {
        "cores": request["coresMin"],
        "ram": -(-request["ramMin"] // 1),
        "tmpdirSize": -(-request["tmpdirMin"] // 1),
        "outdirSize": -(-request["outdirMin"] // 1),
    }
    if "cudaDeviceCountMin" in request:
        chosen["cudaDeviceCount"] = request["cudaDeviceCountMin"]
    return {name: int(value) if value == int(value) else value for name, value in chosen.items()}


class BridgeStep(WorkflowStep):
    """A workflow step that tells its process where it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.embedded_tool: Process  # is shared with other steps
        defaults.locate(self.tool["inputs"])
        of_step = defaults.of_step(self.tool["inputs"], self.embedded_tool.inputs_record_schema["fields"])
        if of_step:
            self.embedded_tool = shared_tools.own(self.embedded_tool)
            defaults.remember(of_step, self.embedded_tool.inputs_record_schema["fields"])

    def job(self, job_order: Any, output_callbacks: Any, runtimeContext: StepContext) -> Iterator[Any]:
        """The jobs of the step's process."""
        context: StepContext = runtimeContext.copy()
        name = shortname(self.id) + "".join(f"[{index}]" for index in _indices(output_callbacks))
        context.place = (*runtimeContext.place, name)
        try:
            yield from super().job(job_order, output_callbacks, context)
        except WorkflowException as error:
            cause = error.__cause__  # cwltool makes one of whatever it was, with no more than its own text
            if not isinstance(cause, Exception) or isinstance(cause, _TOLD) or str(cause) != str(error):
                raise
            raise WorkflowException(unexpected(cause, f"making the jobs of step {context.key!r}")) from cause


def _indices(callback: Any) -> list[int]:
    """Scatter indices, outermost first, that a step's result goes to; loop iterations count likewise."""
    found: list[int] = []
    while isinstance(callback, functools.partial):
        owner = getattr(callback.func, "__self__", None)
        if isinstance(owner, ReceiveScatterOutput):
            found.append(callback.args[0])
            callback = owner.output_callback
        elif isinstance(owner, WorkflowJobLoopStep):
            found.append(owner.iteration)
            break
        else:
            break
    return found[::-1]


class BridgeWorkflow(Workflow):
    """A Workflow of :class:`BridgeStep`."""

    def make_workflow_step(
        self, toolpath_object: Any, pos: int, loadingContext: LoadingContext, parentworkflowProv: Any = None
    ) -> WorkflowStep:
        """One step."""
        return BridgeStep(toolpath_object, pos, loadingContext, parentworkflowProv)


def step_places(process: Process, around: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of all tools in a process, without indices."""
    if not isinstance(process, Workflow):
        yield around or (shortname(process.tool["id"]),)
        return
    for step in process.steps:
        yield from step_places(step.embedded_tool, (*around, shortname(step.id)))


def make_process(document: Any, context: LoadingContext) -> Process:
    """cwltool's ``construct_tool_object``: our classes for tools and workflows, its own for the rest."""
    with building(document):
        process = _process_of(document, context)
        _note_files(document, process, context)
        warn_of_doubles(process)
        defaults.locate(process.tool["inputs"])
        return process


def _note_files(document: Any, process: Process, context: LoadingContext) -> None:
    """Files that a document of this machine names may be read; what one of the web names here may not."""
    policy = getattr(context.fetcher_constructor, "policy", None)
    if policy is not None and str(process.tool.get("id", "")).startswith("file:"):
        policy.files.name(document)


def _process_of(document: Any, context: LoadingContext) -> Process:
    if isinstance(document, dict):
        if document.get("class") == "CommandLineTool":
            return BridgeTool(document, context)
        if document.get("class") == "Workflow":
            return BridgeWorkflow(document, context)
    return default_make_tool(document, context)
