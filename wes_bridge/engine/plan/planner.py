"""A run's plan: load, expand, ask every node for every kind of step, accept nothing, add up.

The nodes' offers are rejected as soon as they have been read, so that what they kept is free again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from wes_bridge.config import ServiceConfig
from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.cwl.expanding.expand import Expansion, TooWideError
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading.document_checks import invalid
from wes_bridge.cwl.loading.documents import workflow_location
from wes_bridge.cwl.loading.extensions import unsupported_feature
from wes_bridge.cwl.loading.load import load
from wes_bridge.cwl.log import Overheard
from wes_bridge.cwl.tools.context import run_context, task_id
from wes_bridge.cwl.vocabulary import UnsupportedRequirement, ValidationException, WorkflowException
from wes_bridge.data.readable import Readable
from wes_bridge.data.workspace import RunFolder, file_url
from wes_bridge.engine.plan.grouping import Group, grouped, request_key
from wes_bridge.engine.plan.sizes import Sizes
from wes_bridge.engine.plan.timeline import schedule
from wes_bridge.federation.asking import Reply
from wes_bridge.federation.choosing import Candidate, choose
from wes_bridge.federation.client import Broker
from wes_bridge.federation.dialect import CannotAskError
from wes_bridge.federation.figures import Span
from wes_bridge.federation.placing import Federation, image_words
from wes_bridge.federation.policies.registry import policy_names
from wes_bridge.federation.render import native_request
from wes_bridge.federation.requests import Requests, image_called
from wes_bridge.model.containers import PARAMETER, Containers, ContainersError, read_containers, settled
from wes_bridge.model.execution_broker import ExecutionRequest, dump
from wes_bridge.model.preferences import Preferences, PreferencesError, combine, run_preferences
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY, COST_MONETARY
from wes_bridge.model.run_options import OptionsError, run_options
from wes_bridge.model.run_plan import (
    ESTIMATED,
    KNOWN,
    Answer,
    Chosen,
    Moved,
    PlanError,
    PlannedStep,
    Range,
    RunPlan,
    Total,
    Totals,
)
from wes_bridge.model.step_plan import StepPlan
from wes_bridge.model.units import spell_seconds, utcnow

AT_ONCE = 8
"""Requests that are asked side by side; each goes to every node."""


@dataclass
class _Expanded:
    """What was loaded, ready to be asked for."""

    expansion: Expansion
    preferences: list[Preferences]
    warnings: list[str]


class RunPlanner:
    """Plans runs.

    Args:
        config: of the service.
        federation: asked; not closed here.
        threads: cwltool's work is done there.
    """

    def __init__(self, config: ServiceConfig, federation: Federation, threads: Executor) -> None:
        self._config = config
        self._federation = federation
        self._threads = threads

    async def plan(self, request: dict[str, Any], run_id: str, folder: RunFolder) -> RunPlan:
        """The plan of a run.

        Args:
            request: the ``RunRequest``, checked.
            run_id: that the run might have.
            folder: holds its attachments.

        Raises:
            PlanError: it cannot be loaded.
        """
        loop = asyncio.get_running_loop()
        work = functools.partial(self._expand, request, run_id, folder)
        expanded = await loop.run_in_executor(self._threads, work)
        groups = grouped(expanded.expansion.elements, self._federation.brokers)
        replies = await self._ask(groups)
        with_time = self._federation.with_time
        steps = [_step(group, reply, with_time) for group, reply in zip(groups, replies, strict=True)]
        end = schedule(steps)
        expansion = expanded.expansion
        return RunPlan(
            workflow=request["workflow_url"],
            created=utcnow(),
            policy=combine(expanded.preferences).policy,
            steps=steps,
            skipped=expansion.skipped,
            problems=[_readable(text, folder) for text in expansion.problems],
            notes=[
                *(f"warning: {text}" for text in expanded.warnings),
                *(_readable(text, folder) for text in expansion.notes),
                *_notes(steps, self._federation),
            ],
            nodes=[broker.name for broker in self._federation.brokers],
            totals=_totals(steps, end),
        )

    def _expand(self, request: dict[str, Any], run_id: str, folder: RunFolder) -> _Expanded:
        """Blocking: cwltool's part."""
        base = file_url(folder.attachments) + "/"
        try:
            return self._expand_checked(request, run_id, folder, base)
        except UnsupportedRequirement as error:
            raise PlanError(_readable(str(error), folder), unsupported=True) from error
        except (InvalidWorkflowError, WorkflowException, ValidationException, TooWideError) as error:
            missing = unsupported_feature(str(error))
            raise PlanError(missing or _readable(str(error), folder), unsupported=bool(missing)) from error
        except (PreferencesError, OptionsError, ContainersError) as error:
            raise PlanError(f"workflow_engine_parameters: {error}") from error
        except OSError as error:
            raise PlanError(_readable(f"{error.strerror or error}: {error.filename}", folder)) from error
        except MemoryError as error:
            most = self._config.engine.load_memory_gib
            raise PlanError(
                f"the plan needs more than {most:g} GiB of memory (engine.load_memory_gib): plan a smaller"
                " part of the workflow, or with fewer inputs"
            ) from error
        except Exception as error:
            raise PlanError(_readable(str(invalid(error, request["workflow_url"])), folder)) from error

    def _expand_checked(
        self, request: dict[str, Any], run_id: str, folder: RunFolder, base: str
    ) -> _Expanded:
        engine = self._config.engine
        parameters = request.get("workflow_engine_parameters") or {}
        wanted, options = run_preferences(parameters, policy_names()), run_options(parameters)
        preferences = [Preferences(policy=engine.policy), engine.choosing, wanted]
        containers: Containers = settled(engine.containers, read_containers(parameters.get(PARAMETER, "")))
        policy = Policy(self._config.fetch, [folder.root])
        files = fs_access(policy)
        folder.attachments.mkdir(parents=True, exist_ok=True)
        url = workflow_location(request["workflow_url"], folder, base)
        heard = Overheard(folder.attachments)
        heard.activate()
        params = request.get("workflow_params") or {}
        loaded = load(url, params, base, policy, files(base), skip_schemas=options.skip_schemas)
        outputs = RunFolder(self._config.workspace_dir / run_id)
        limits = {"eval_timeout": engine.expression_timeout, "containers": containers}
        context = run_context(run_id, files, limits, checksums=False)
        expansion = Expansion(context, lambda place: file_url(outputs.task_out(task_id(place))))
        expansion.expand(loaded.process, loaded.job_order)
        wish, sizes = combine(preferences), Sizes(files(base))
        for element in expansion.elements:
            if element.plan is not None:
                said = element.preferences
                plan = replace(element.plan, wish=combine([*preferences, *said]) if said else wish)
                element.plan = sizes.fill(plan)
        return _Expanded(expansion, preferences, heard.warnings)

    async def _ask(self, groups: list[Group]) -> list[list[Reply]]:
        """What all nodes say to each group; plans that nodes cannot tell apart are asked for once."""
        turns = asyncio.Semaphore(AT_ONCE)
        since = utcnow()
        asked: dict[Hashable, asyncio.Task[list[Reply]]] = {}

        async def ask(plan: StepPlan) -> list[Reply]:
            async with turns:
                replies = await self._federation.offers(plan, since)
                self._federation.give_back(replies)
                return replies

        async with asyncio.TaskGroup() as group:
            keys: list[Hashable] = []
            for one in groups:
                plan = one.plan
                key = None if plan is None else request_key(plan, self._federation.brokers)
                if plan is not None and key not in asked:
                    asked[key] = group.create_task(ask(plan))
                keys.append(key)
        return [asked[key].result() if key in asked else [] for key in keys]


def _readable(text: str, folder: RunFolder) -> str:
    """A message without the service's own paths."""
    return Readable(folder.attachments)(text)


def _step(group: Group, replies: list[Reply], with_time: Callable[[StepPlan], StepPlan]) -> PlannedStep:
    first, plan = group.first, group.plan
    step = PlannedStep(
        name=first.path,
        places=[element.place for element in group.elements],
        count=None if first.wide else len(group.elements),
        certainty=ESTIMATED if first.unknown or first.wide else KNOWN,
        unknown=list(first.unknown),
        optional=first.optional,
        after=sorted(first.after - {first.path}),
        tool=first.tool.rpartition("/")[2],
        problem=first.problem,
        unsupported=first.unsupported,
    )
    if plan is None:
        return step
    step.command, step.image, step.network = plan.argv, plan.image, plan.network
    step.cores, step.memory = plan.resources.cores_min, plan.resources.memory_min
    step.scratch, step.time_limit = plan.resources.scratch_min, plan.time_limit
    step.reads = group.reads()
    step.answers = [Answer.model_validate(reply.entry) for reply in replies]
    candidates = [candidate for reply in replies for candidate in reply.candidates]
    chosen: Broker | None = None
    if candidates:
        choice = choose(candidates, plan.wish, plan.name)
        best = choice.ranked[0]
        step.chosen = _chosen(best, choice.reason, group.to_move(best.broker))
        chosen = best.broker
        step.without_image = image_words(plan, replies)
        if step.without_image:
            step.image = None
    step.request = dump(_request(with_time(plan), step.image, chosen))
    return step


def _request(plan: StepPlan, image: str | None, chosen: Broker | None) -> ExecutionRequest:
    """As the chosen broker is asked; in the native dialect where there is none."""
    if chosen is not None:
        with contextlib.suppress(CannotAskError):  # it has become busy since
            return Requests(plan, image).for_broker(chosen)
    return native_request(plan, image=image_called(image, plan) if image else None)


def _chosen(best: Candidate, reason: str, move: Moved) -> Chosen:
    figures = best.figures
    return Chosen(
        node=best.broker.name,
        reason=reason,
        wait=None if figures.start is None else round(figures.start, 1),
        duration=figures.duration,
        releasing=figures.releasing,
        cost=_range(figures.costs.get(COST_MONETARY)),
        energy=_range(figures.costs.get(COST_ENERGY)),
        carbon=_range(figures.costs.get(COST_CARBON)),
        move=move,
    )


def _range(span: Span | None) -> Range | None:
    return None if span is None else Range(min=span.least, max=span.most)


def _totals(steps: list[PlannedStep], end: float | None) -> Totals:
    chosen = [step.chosen for step in steps if step.chosen is not None]
    return Totals(
        tasks=sum(step.count or 1 for step in steps),
        complete=all(step.count is not None for step in steps),
        cost=_total(steps, "cost"),
        energy=_total(steps, "energy"),
        carbon=_total(steps, "carbon"),
        reads=_sum_moved(step.reads for step in steps),
        move=_sum_moved(one.move for one in chosen),
        end=end,
    )


def _total(steps: list[PlannedStep], name: str) -> Total:
    """A cost of all steps; an element that runs an unknown number of times is counted once."""
    least = most = 0.0
    said, complete = False, True
    for step in steps:
        figure: Range | None = getattr(step.chosen, name) if step.chosen else None
        complete = complete and step.count is not None and figure is not None and figure.max is not None
        if figure is not None:
            said = True
            least += (figure.min or 0.0) * (step.count or 1)
            most += (figure.max if figure.max is not None else figure.min or 0.0) * (step.count or 1)
    if not said:
        return Total(complete=not steps)
    return Total(min=round(least, 9), max=round(most, 9), complete=complete)


def _sum_moved(parts: Iterable[Moved]) -> Moved:
    found = list(parts)
    return Moved(bytes=sum(one.bytes for one in found), unknown=sum(one.unknown for one in found))


def _notes(steps: list[PlannedStep], federation: Federation) -> list[str]:
    notes = []
    if not federation.brokers:
        notes.append("no nodes are configured")
    without: dict[str, list[str]] = {}
    for step in steps:
        if step.without_image:
            without.setdefault(step.without_image, []).append(step.name)
    notes += [f"{', '.join(dict.fromkeys(names))}: {words}" for words, names in without.items()]
    estimated = sum(step.certainty == ESTIMATED for step in steps)
    if estimated:
        notes.append(f"{estimated} of {len(steps)} rows are estimated: their inputs come from steps before")
    if any(step.count is None for step in steps):
        notes.append("xN?: how often is not known before it runs; it is counted once in the totals")
    if any(step.optional for step in steps):
        notes.append("steps marked with ? may be skipped; they are counted as if they ran")
    usual = federation.default_duration
    if any(step.time_limit is None and step.chosen and step.chosen.duration == usual for step in steps):
        notes.append(
            f"nodes are asked for {spell_seconds(usual)} (engine.default_duration) for steps without a"
            " ToolTimeLimit or a duration of their own: a real end is earlier"
        )
    return notes
