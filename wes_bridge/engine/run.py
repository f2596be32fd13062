"""One run's life: load, walk, place steps, collect, gather outputs; each state told to the store.

A Run lives on the event loop; whatever computes or reads files happens in the engine's threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import functools
import re
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from wes_bridge.auth.acting import act_for, reveals
from wes_bridge.auth.delegation import Source, Wallet
from wes_bridge.auth.safe import Safe, SafeError
from wes_bridge.config import ServiceConfig
from wes_bridge.cwl.errors import InvalidWorkflowError, PlaceTakenError, unexpected
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.javascript.engine import stop_with
from wes_bridge.cwl.javascript.processes import Stopper
from wes_bridge.cwl.loading.apart import Question, ask, read, written
from wes_bridge.cwl.loading.documents import workflow_location
from wes_bridge.cwl.loading.extensions import unsupported_feature
from wes_bridge.cwl.loading.forks import Nursery, NurseryGoneError
from wes_bridge.cwl.loading.load import LoadedRun, unknown_inputs
from wes_bridge.cwl.tools.context import task_id
from wes_bridge.cwl.tools.jobs import BridgeJob
from wes_bridge.cwl.tools.process import step_places
from wes_bridge.cwl.vocabulary import (
    Process,
    UnsupportedRequirement,
    ValidationException,
    WorkflowException,
    shortname,
)
from wes_bridge.cwl.walking.walk import Finished, Walk
from wes_bridge.data.linking import own
from wes_bridge.data.publishing import publish_outputs
from wes_bridge.data.workspace import RunFolder, Workspace, file_url, url_path
from wes_bridge.engine.deaths import AtWork, deaths, forget_deaths
from wes_bridge.engine.elsewhere import Elsewheres, LostForGoodError, Maker
from wes_bridge.engine.journal import Journal, inputs_hash, is_open, outcome_record, restored
from wes_bridge.engine.outputs import OutputFolder
from wes_bridge.engine.rerun import Carried
from wes_bridge.engine.reuse import Reuse, show_kept
from wes_bridge.engine.runlog import RunLog
from wes_bridge.engine.secret_inputs import SecretInputs, secret_inputs
from wes_bridge.engine.tasks import begin_anew, remarks, show_end, show_plan, show_progress, without_image
from wes_bridge.federation.bringing import Bringing
from wes_bridge.federation.placement import Progress
from wes_bridge.federation.placing import Federation
from wes_bridge.model.containers import Containers, ContainersError, settled
from wes_bridge.model.preferences import NO_WISH, Preferences, PreferencesError, combine, run_preferences
from wes_bridge.model.run_options import (
    SET,
    OptionsError,
    RunOptions,
    did_you_mean,
    names_step,
    run_options,
    unknown_parameters,
    unknown_step,
    without_index,
)
from wes_bridge.model.states import Phase, State
from wes_bridge.model.step_plan import StageMode, StepOutcome, StepPlan
from wes_bridge.storage.base import Storage
from wes_bridge.store.database import Database
from wes_bridge.store.outage import is_passing
from wes_bridge.store.runs import LeaseLostError, TaskRow, delete_task, journal, set_run_state
from wes_bridge.store.secret_inputs import get_secrets, put_secrets
from wes_bridge.store.task_log import TaskLog
from wes_bridge.store.writer import Writer

Result = TypeVar("Result")
UNSUPPORTED = 33
"""Exit code of a run that asks for something this engine cannot do, as cwltool's."""
_PULL = 32
"""Jobs pulled from the graph at once; of a run that is taken up again as many as may run, for those that were
begun must be found before anything new can begin."""
_COLLECT = 4
"""Outputs of steps collected at once: when many end together the graph must still get its turn in between."""
_STOPPED = re.compile(r"Cannot make (scatter )?job: |Cannot collect workflow output: |^internal error")
"""Error lines of cwltool that say why a graph went no further: they do not follow from a step's failure."""
_HELD = 1.0
"""Seconds that storing a step's end may take and not be an outage."""
_AUTHORISE = (
    "to let it go on: wes-bridge login URL-OF-THIS-SERVICE, or POST .../runs/{run_id}/authorise with a new"
    " token"
)
_LOG_LINES = 50
"""Error lines kept in system_logs; all are in the run's log."""


@dataclass(frozen=True)
class Services:
    """What a run needs from its worker."""

    config: ServiceConfig
    workspace: Workspace
    federation: Federation
    writer: Writer
    tasks: TaskLog
    database: Database
    threads: Executor
    waiting: Executor
    nursery: Nursery
    at_work: AtWork
    reuse: Reuse
    safe: Safe
    bringing: Bringing
    tokens: Source | None = None
    outputs_store: Storage | None = None


class _GivenUpError(Exception):
    """Nobody works on the run any more; the text is for its user."""


@dataclass(frozen=True)
class Ending:
    """How a run ends: its state, exit code, and what the user should read."""

    state: State
    exit_code: int | None = None
    messages: tuple[str, ...] = ()
    outputs: dict[str, Any] | None = None


class Run:
    """One claimed run.

    Args:
        row: the run's row, as claimed.
        services: of the worker.
    """

    def __init__(self, row: Any, services: Services) -> None:
        self.run_id: str = row.run_id
        self._fence: int = row.fence
        self._owner: str = row.owner
        self._request: dict[str, Any] = row.request
        self._cancel_asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if row.cancel_requested:
            self._ask_to_cancel()
        self._services = services
        self._known_secrets: SecretInputs | None = None
        self._secrets = SecretInputs()
        self._was_paused: bool = row.state == State.PAUSED
        self._wallet = self._made_wallet(services.tokens)
        self._folder: RunFolder = services.workspace.run(row.run_id)
        self._log = RunLog(self._folder.stderr, self._folder.attachments)
        self._policy = Policy(services.config.fetch, [self._folder.root])
        self._elsewhere = Elsewheres(
            self._folder, services.bringing, services.federation, self._tell_again, lambda: self._left
        )
        self._policy.files.elsewhere = self._elsewhere
        self._fs = fs_access(self._policy, services.config.engine.max_output_object)
        self._steps: dict[asyncio.Task[None], str] = {}
        self._finished: list[Finished] = []
        self._changed = asyncio.Event()
        self._expressions = Stopper()
        self._collecting = asyncio.Semaphore(_COLLECT)
        self._journal = Journal()
        self._left = False
        self._lost = False
        self._task_count = 0
        self._worst: State | None = None
        self._problems: list[str] = []
        self._unsupported: str | None = None
        self._preferences: list[Preferences] = []
        self._wish = NO_WISH
        self._options = RunOptions()
        self._failed_first: str | None = None
        self._carried: Carried | None = None
        self._ran: list[str] = []
        self._without_image: dict[str, dict[str, None]] = {}
        self._again: dict[str, str] = {}
        self._freeing: asyncio.Task[None] | None = None
        self._begins = False  # whether a session was begun, not only followed
        self._last_end: float | None = None
        self._collected = self._stored = 0.0
        self._deaths = 0

    def cancel(self) -> None:
        """Stop: no further steps, and the sessions that run are cancelled at their nodes."""
        self._ask_to_cancel()
        self._expressions.stop()
        if self._wallet is not None:
            self._wallet.close()
        for step in self._steps:
            step.cancel()
        self._changed.set()

    def leave(self) -> None:
        """Stop following; what runs goes on, for the worker that takes the run up."""
        self._left = True
        self._expressions.stop()
        for step in self._steps:
            step.cancel()

    async def live(self) -> None:
        """Take the run from claimed to its end. Returns early if another worker took it over.

        Cancelling the calling task leaves the run where it is, and so does a database that is gone.
        """
        self._log.activate()
        wallet = self._wallet
        act_for(self._owner, wallet)
        stop_with(self._expressions)
        renewing = asyncio.create_task(self._elsewhere.renew(), name=f"{self.run_id} leases")
        try:
            ending = await self._ending()
            if self._carried is not None and self._carried.is_rerun:
                await self._in_thread(self._carried.discard)
            await self._set_state(
                ending.state,
                end_time=self._end_time(),
                exit_code=ending.exit_code,
                outputs=ending.outputs,
                system_logs=list(ending.messages),
            )
            self._log.info(f"run ended {ending.state}")
            is_failed = ending.state in (State.EXECUTOR_ERROR, State.SYSTEM_ERROR)
            wanted = self._elsewhere.wanted(is_failed=is_failed)
            await self._elsewhere.release()
            await self._services.federation.forget(self._folder.real_root, but=wanted)
        except LeaseLostError:
            self._log.info("another worker has taken this run over")
            self.leave()
        except (asyncio.CancelledError, Exception):
            self.leave()  # also when the end cannot be stored: it is found again by who takes the run up
            raise
        finally:
            if wallet is not None:
                wallet.close()
            for step in self._steps:
                step.cancel()
            others = [renewing, *([self._freeing] if self._freeing is not None else [])]
            for other in others:
                other.cancel()
            await asyncio.gather(*self._steps, *others, return_exceptions=True)
            await self._elsewhere.stop()
            self._log.close()

    def _made_wallet(self, source: Source | None) -> Wallet | None:
        """The tokens with which the run acts for its owner, where brokers want such."""
        if source is None:
            return None
        return Wallet(
            self.run_id,
            self._owner,
            source,
            pause=self._on_pause,
            resume=self._on_resume,
            is_paused=self._was_paused,
        )

    async def _on_pause(self, reason: str) -> None:
        """The run cannot act for its owner any more: it waits until they have authorised it again."""
        reason = self._log.readable(reason)
        self._log.info(f"paused: {reason}")
        self._was_paused = True
        told = [f"paused: {reason}", _AUTHORISE.format(run_id=self.run_id)]
        await self._set_state(State.PAUSED, system_logs=told)

    async def _on_resume(self) -> None:
        self._log.info("authorised again: it goes on")
        self._was_paused = False
        await self._set_state(State.RUNNING, system_logs=[])

    def _end_time(self) -> float:
        """When the run ended: not when its database was back to be told so, or a worker to tell it.

        What is left of a run whose steps had all begun in an earlier worker's time is to tell how they did.
        """
        now = time.time()
        if self._fence > 1 and not self._begins and self._last_end is not None:
            return min(now, self._last_end)
        held = self._stored - self._collected
        return now - held if held > _HELD else now

    async def _ending(self) -> Ending:
        try:
            await self._set_state(State.INITIALIZING, start_time=time.time())
            await self._take_up()
            await self._give_up_if_deadly()
            walk = await self._load()
            if walk is not None:
                if not self._was_paused:  # else once it is known that it may go on
                    await self._set_state(State.RUNNING)
                await self._walk(walk)
            await self._cancel_sessions(self._journal.open_sessions())
            if walk is not None and not self._canceling:
                await self._bring_outputs(walk)
            if walk is None or self._canceling:
                await self._elsewhere.stop()
                await self._elsewhere.release()
                return Ending(State.CANCELED)
            return await self._in_thread(functools.partial(self._end, walk), self._reading)
        except (LeaseLostError, NurseryGoneError):
            raise
        except UnsupportedRequirement as error:
            return self._failed(State.EXECUTOR_ERROR, f"Unsupported: {error}", UNSUPPORTED)
        except (InvalidWorkflowError, WorkflowException, ValidationException) as error:
            return self._refused(str(error))
        except (OSError, PlaceTakenError, _GivenUpError, LostForGoodError) as error:
            words = _os_problem(error) if isinstance(error, OSError) else str(error)
            return self._failed(State.SYSTEM_ERROR, words, None)
        except Exception as error:
            if is_passing(error):
                raise
            return self._failed(State.SYSTEM_ERROR, unexpected(error), None)

    async def _give_up_if_deadly(self) -> None:
        """End a run that worker after worker died of.

        Raises:
            _GivenUpError: it is one.
        """
        self._deaths = await self._in_thread(functools.partial(deaths, self._folder))
        if self._deaths < self._services.config.engine.give_up_after:
            return
        await self._cancel_sessions(self._journal.open_sessions())
        raise _GivenUpError(
            f"{self._deaths} workers died, one after the other, while they worked on this run; it is given up"
            " (engine.give_up_after). It may need more memory than there is: make it smaller, or ask the site"
        )

    def _refused(self, problem: str) -> Ending:
        """The end of a run whose document or inputs are at fault, or made for another engine."""
        missing = unsupported_feature(problem)
        if missing is None:
            return self._failed(State.EXECUTOR_ERROR, problem, 1)
        self._log.info(problem)
        return self._failed(State.EXECUTOR_ERROR, f"Unsupported: {missing}", UNSUPPORTED)

    async def _take_up(self) -> None:
        """Read what an earlier worker did; a run to be cancelled loses its sessions at once."""
        if self._fence > 1:
            self._journal = await self._in_thread(self._read_journal)
            await self._in_thread(self._elsewhere.take_up)
            self._task_count = self._journal.last_seq
            self._log.info(f"taken up again: {self._task_count} steps were begun before")
            self._ran = self._journal.ran()
            for task in self._journal.without_images():
                self._note_image(task)
        if self._canceling:
            await self._cancel_sessions(self._journal.open_sessions())
            self._journal = Journal()

    async def _bring_outputs(self, walk: Walk) -> None:
        """Fetch the outputs of the run that are still at nodes, unless it is cancelled."""
        if walk.outputs is None:
            return
        if self._options.outputs == "stay":
            lease = self._services.config.engine.outputs_stay.total_seconds()
            await self._elsewhere.leave(walk.outputs, lease)
        bringing = asyncio.ensure_future(self._elsewhere.bring_all(walk.outputs))
        try:
            await asyncio.wait((bringing, self._cancel_asked), return_when=asyncio.FIRST_COMPLETED)
            if bringing.done():
                bringing.result()
        finally:
            await _end(bringing)

    def _tell_again(self, task_id: str, words: str) -> None:
        """A step is run again whose output is lost."""
        self._log.info(words)
        self._again[task_id] = words

    def _read_journal(self) -> Journal:
        rows = journal(self._services.database, self.run_id)
        return Journal([restored(row, self._folder) for row in rows])

    async def _cancel_sessions(self, rows: list[TaskRow]) -> None:
        """End sessions that no step follows."""

        async def cancel(row: TaskRow) -> None:
            await self._services.federation.cancel(str(row.node), str(row.session_url))
            ended = replace(row, state=State.CANCELED, end_time=time.time(), fence=self._fence)
            await self._services.tasks.put(ended)

        await asyncio.gather(*(cancel(row) for row in rows))

    def _failed(self, state: State, message: str, exit_code: int | None) -> Ending:
        if self._canceling:
            return Ending(State.CANCELED)
        self._log.error(message)
        return Ending(state, exit_code, (self._log.readable(message), *self._problems[:_LOG_LINES]))

    async def _load(self) -> Walk | None:
        """What is walked; None when the run is cancelled before it is loaded."""
        containers, question = await self._in_thread(self._question)
        services, url = self._services, self._request["workflow_url"]
        loading = asyncio.create_task(ask(services.nursery, url, question, services.config.engine))
        try:
            await asyncio.wait((loading, self._cancel_asked), return_when=asyncio.FIRST_COMPLETED)
            answer = loading.result() if loading.done() else None
        finally:
            await _end(loading)
        if answer is None:
            return None
        return await self._unless_canceled(functools.partial(self._begun, answer, containers))

    def _question(self) -> tuple[Containers, bytes]:
        """What is to be loaded, and what site and run say of containers."""
        self._carried = Carried(self._folder, self._ran)
        base = file_url(self._folder.attachments) + "/"
        self._folder.attachments.mkdir(parents=True, exist_ok=True)
        url = workflow_location(self._request["workflow_url"], self._folder, base)
        parameters = self._request.get("workflow_engine_parameters") or {}
        engine = self._services.config.engine
        try:
            wanted, self._options = run_preferences(parameters), run_options(parameters)
            containers: Containers = settled(engine.containers, self._options.containers)
        except (PreferencesError, OptionsError, ContainersError) as error:
            raise InvalidWorkflowError(f"workflow_engine_parameters: {error}") from error
        self._preferences = [Preferences(policy=engine.policy), engine.choosing, wanted]
        self._wish = combine(self._preferences)
        self._known_secrets = self._read_secrets()
        params, skip = self._request.get("workflow_params") or {}, self._options.skip_schemas
        if self._known_secrets:
            params = self._known_secrets.restored(params)
        question = Question(url, params, base, self._policy, self._folder.attachments, skip)
        return containers, written(question)

    def _begun(self, answer: bytes, containers: Containers) -> Walk:
        """The walk through what was loaded, once that has been checked."""
        loaded = read(answer, self._log, self._policy)
        self._hide_secrets(loaded)
        self._check_steps(loaded.process)
        self._check_inputs(loaded.process, self._request.get("workflow_engine_parameters") or {})
        options = {
            "eval_timeout": self._services.config.engine.expression_timeout,
            "max_scatter": self._services.config.engine.max_scatter,
            "run_options": self._options,
            "containers": containers,
            "on_error": "continue" if self._options.on_error == "continue" else "stop",
            # what a node may lose is made again by its step, which must be known for that
            "recall": None if self._elsewhere.has_any else self._journal.recall,
        }
        return Walk(self.run_id, loaded, self._fs, options)

    def _read_secrets(self) -> SecretInputs | None:
        """Secret inputs that an earlier worker, or the run that this one is a rerun of, has put away."""
        sealed = get_secrets(self._services.database, self.run_id)
        if sealed is None:
            return None
        try:
            return SecretInputs.of_json(self._services.safe.open_text(self.run_id, sealed))
        except SafeError as error:
            raise InvalidWorkflowError(str(error)) from error

    def _hide_secrets(self, loaded: LoadedRun) -> None:
        """Blocking: from here on, what the workflow calls secret is a placeholder, also in the database."""
        found = secret_inputs(loaded.process, loaded.job_order, self._known_secrets)
        reveal = found.reveal()
        if reveal is None:
            return
        try:
            sealed = self._services.safe.seal_text(self.run_id, found.to_json())
        except SafeError as error:
            raise InvalidWorkflowError(f"the workflow's secrets cannot be kept: {error}") from error
        found.hide(loaded.job_order)
        self._secrets = found
        shown = dict(self._request.get("workflow_params") or {})
        shown |= {name: found.placeholder(name) for name in found.values if name in shown}
        self._request = {**self._request, "workflow_params": shown}
        with self._services.database.write() as connection:
            put_secrets(connection, self.run_id, sealed, self._request)
        reveals(reveal)

    def _check_inputs(self, process: Process, parameters: dict[str, str]) -> None:
        """Warn of inputs and parameters that mean nothing; refuse such an input of a rerun."""
        for text in unknown_parameters(parameters):
            self._log.warning(text)
        declared = [shortname(port["id"]) for port in process.tool["inputs"]]
        with contextlib.suppress(OSError):  # only a rerun will look for it
            self._folder.declare_inputs(declared)
        anew = parameters.get(SET, "").split(",")
        for name in unknown_inputs(self._request.get("workflow_params") or {}, declared):
            text = f"the workflow has no input {name[:80]!r}; {did_you_mean(name, declared)}"
            if name in anew:
                raise InvalidWorkflowError(text)
            self._log.warning(text)

    def _check_steps(self, process: Process) -> None:
        """Refuse resources for a step that is not there."""
        if not self._options.resources:
            return
        places = list(step_places(process))
        for name in self._options.resources:
            plain = "/".join(map(without_index, name.split("/")))
            if not any(names_step(plain, place) for place in places):
                known = ["/".join(place) for place in places]
                raise InvalidWorkflowError(f"resources of {name}: {unknown_step(name, known)}")

    async def _walk(self, walk: Walk) -> None:
        """Advance the graph until it has ended or cannot go on."""
        limit = self._services.config.engine.max_steps
        while not self._canceling:
            self._check_lease()
            finished, self._finished = self._finished, []
            room = min(limit if self._journal.is_left else _PULL, limit - len(self._steps))
            self._changed.clear()
            advance = functools.partial(walk.advance, finished, max(0, room))
            pulled = await self._unless_canceled(advance, self._reading)
            if pulled is None:
                break
            for job in pulled.jobs:
                self._begin(job)
            if finished:
                self._free_unneeded(walk)
            if self._finished or (not pulled.stuck and len(self._steps) < limit):
                continue
            if not self._steps:
                break
            await self._changed.wait()
        while self._steps:
            await asyncio.wait(self._steps)
            self._check_lease()

    def _free_unneeded(self, walk: Walk) -> None:
        """Free at nodes what no step needs any more; not beside another such look."""
        if self._services.config.engine.keep_intermediates or not self._elsewhere.may_free:
            return
        if self._freeing is None or self._freeing.done():
            self._freeing = asyncio.create_task(self._elsewhere.free(*walk.settled()))

    @property
    def _reading(self) -> Executor | None:
        """Threads for work that reads files: not those of all runs where a node may keep it waiting."""
        return self._services.waiting if self._elsewhere.is_used else None

    def _check_lease(self) -> None:
        if self._lost:
            raise LeaseLostError(self.run_id)

    def _begin(self, job: BridgeJob) -> None:
        if self._canceling:
            return
        if self._failed_first is not None:  # nothing new begins: cwltool stops only where the failure was
            self._finished.append(Finished(job, {}, "permanentFail"))
            return
        step = asyncio.create_task(self._step(job), name=f"{self.run_id}/{job.key}")
        self._steps[step] = job.key
        step.add_done_callback(functools.partial(self._on_step_done, job))

    def _on_step_done(self, job: BridgeJob, step: asyncio.Task[None]) -> None:
        del self._steps[step]
        if step.cancelled() and not self._canceling and not self._left:  # another one failed
            self._finished.append(Finished(job, {}, "permanentFail"))
        error = None if step.cancelled() else step.exception()
        if isinstance(error, LeaseLostError):
            self._lost = True
        elif error is not None:
            state, words = _blame(error)
            self._note(state, f"{job.key}: {words}")
        self._changed.set()

    async def _step(self, job: BridgeJob) -> None:
        """One step from plan to outputs; its result goes to the next advance of the graph."""
        task = self._journal.take(job.key) or self._new_task(job)
        task.fence = self._fence
        try:
            plan = self._plan(job, task)
            if await self._is_done(task, plan):
                outputs, status = self._remember(task)
                self._elsewhere.made(Maker(task.name, task.task_id, plan, task.exit_code), None)
            else:
                outputs, status = await self._place(job, task, plan)
        except asyncio.CancelledError:
            if not self._left:
                await self._services.tasks.put(self._canceled(task))
            raise
        except UnsupportedRequirement as error:
            self._unsupported = f"{job.key}: {error}"
            outputs, status = {}, "permanentFail"
        except LeaseLostError:
            raise
        except Exception as error:
            if is_passing(error):
                raise
            state, problem = _blame(error)
            self._note(state, f"{job.key}: {problem}")
            outputs, status = {}, "permanentFail"
            task.outcome = outcome_record(outputs, status)
            await self._services.tasks.put(
                replace(task, state=state, end_time=time.time(), system_logs=[self._log.readable(problem)])
            )
        self._finished.append(Finished(job, outputs, status))
        if status != "success":
            self._on_failure(job.key)

    def _on_failure(self, key: str) -> None:
        """A step has failed for good: what becomes of the others is as the run's ``on_error`` says."""
        if self._options.on_error == "continue" or self._failed_first is not None:
            return
        self._failed_first = key
        if self._options.on_error == "cancel" and not self._left:
            for step in self._steps:
                if step is not asyncio.current_task():
                    step.cancel()

    def _canceled(self, task: TaskRow) -> TaskRow:
        because = [f"cancelled because {self._failed_first} failed (on_error: cancel)"]
        logs = task.system_logs if self._canceling or self._failed_first is None else because
        return replace(task, state=State.CANCELED, end_time=time.time(), system_logs=logs)

    def _new_task(self, job: BridgeJob) -> TaskRow:
        most = self._services.config.engine.max_tasks
        if self._task_count >= most:
            raise WorkflowException(
                f"the run has more than {most:,} steps, the most that a run may make here (engine.max_tasks)"
            )
        self._task_count += 1
        return TaskRow(self.run_id, task_id(job.key), seq=self._task_count, key=job.key, name=job.key)

    async def _is_done(self, task: TaskRow, plan: StepPlan) -> bool:
        """Whether an earlier worker finished this step; one that is not what it was begins anew."""
        digest = inputs_hash(plan, self._folder.root)
        was, task.inputs_hash = task.inputs_hash, digest
        if was == digest:
            if task.outcome is None:
                return False
            if self._journal.has_kept(task.key):
                return True
            self._log.info(f"{task.name}: its outputs are gone; it is run again")
        elif was is None and task.session_url is None:
            return await self._is_taken_over(task, plan)  # it was never begun
        if is_open(task):
            await self._services.federation.cancel(str(task.node), str(task.session_url))
        await self._services.writer(lambda connection: delete_task(connection, task.run_id, task.task_id))
        begin_anew(task)
        return False

    async def _is_taken_over(self, task: TaskRow, plan: StepPlan) -> bool:
        """Whether the run that this one is a rerun of has done the step."""
        carried = self._carried
        if carried is None or not carried.is_rerun:
            return False
        if not await self._in_thread(lambda: carried.take(task, plan)):
            return False
        await self._in_thread(functools.partial(self._elsewhere.load, task.task_id))
        await self._services.tasks.put(task)
        return True

    @property
    def _reuses(self) -> bool:
        said = self._options.reuse
        return self._services.config.engine.reuse == "on" if said is None else said

    async def _place(
        self, job: BridgeJob, task: TaskRow, plan: StepPlan, *, reusing: bool = True
    ) -> tuple[dict[str, Any], str]:
        """Run a step in a session, or follow the one it has; what came of it is stored before it is used."""
        changed = [url_path(file.url) for file in plan.staged if file.mode is StageMode.INPLACE and file.url]
        for path in changed:  # other runs may have the same file under another name
            await self._in_thread(functools.partial(own, path))
        reuse, key, kept = self._services.reuse, None, None
        if reusing and task.session_url is None and self._reuses and job.may_be_reused():
            key, kept = await reuse.find(plan, self._owner, self._in_thread)
        if kept is not None:
            show_kept(task, kept)
            outcome = StepOutcome(exit_code=kept.exit_code, output_dir=plan.output_url)
        else:
            report = functools.partial(self._on_progress, task)
            outcome = await self._elsewhere.run(plan, report, task.placement, lambda: self._left)
            self._elsewhere.made(Maker(task.name, task.task_id, plan, outcome.exit_code), outcome.output_dir)
        async with self._collecting:
            collected = await self._in_thread(functools.partial(job.collect, outcome), self._reading)
            if self._secrets:
                await self._in_thread(functools.partial(self._secrets.forget_files, plan, outcome.output_dir))
        outputs, status = collected.outputs, collected.status
        if key is not None and kept is not None and status != "success":
            await reuse.drop([key], self._in_thread)
            begin_anew(task)
            return await self._place(job, task, plan, reusing=False)
        # what other software made is not what the image makes
        made_in_image = plan.image is None or without_image(task) is None
        if key is not None and kept is None and status == "success" and made_in_image:
            await reuse.keep(key, task, plan, outcome, self._in_thread)
        if outcome.unsupported:
            self._unsupported = f"{task.name}: {outcome.problem}"
        task.outcome = outcome_record(outputs, status, outcome, job.context.asked)
        reason = collected.problem and self._log.readable(collected.problem)
        problem = show_end(task, plan, outcome, status, reason)
        if problem is not None:
            self._note(task.state, f"{task.name}: {problem}")
        self._note_image(task)
        self._collected = max(self._collected, time.time())
        await self._services.tasks.put(task)
        self._stored = time.time()
        self._ended(task)
        if self._deaths:  # it got further than those before
            self._deaths = 0
            await self._in_thread(functools.partial(forget_deaths, self._folder))
        return outputs, status

    def _remember(self, task: TaskRow) -> tuple[dict[str, Any], str]:
        """How a step ended that was finished before."""
        self._ended(task)
        outcome = task.outcome or {}
        if outcome.get("unsupported"):
            self._unsupported = f"{task.name}: {outcome['unsupported']}"
        if outcome["status"] != "success":
            problems = [line for line in task.system_logs if line not in remarks(task)]
            for problem in problems or ["it failed"]:
                self._note(task.state, f"{task.name}: {problem}")
        self._note_image(task)
        return outcome["outputs"], outcome["status"]

    def _plan(self, job: BridgeJob, task: TaskRow) -> StepPlan:
        places = self._folder.task_urls(task.task_id)
        said = job.preferences()
        plan = replace(
            job.plan(places.out),
            wish=combine([*self._preferences, *said]) if said else self._wish,
            stdout_url=places.stdout,
            stderr_url=places.stderr,
        )
        show_plan(task, plan)
        return plan

    async def _on_progress(self, task: TaskRow, progress: Progress) -> None:
        """Show where the task is: durable once it has a session, so that the session can be found again."""
        show_progress(task, progress)
        if progress.session is None:
            return
        if progress.session.phase is Phase.OFFERED:  # about to be accepted
            self._begins = True
            await self._services.tasks.put(task)
        else:
            self._services.tasks.note(task)

    def _note_image(self, task: TaskRow) -> None:
        """Remember, for the run's summary, that a step ran without the image its tool hints at."""
        words = without_image(task)
        if words is not None:
            self._without_image.setdefault(words, {})[task.name] = None

    def _ended(self, task: TaskRow) -> None:
        if task.end_time is not None:
            self._last_end = max(task.end_time, self._last_end or 0.0)

    def _note(self, state: State, problem: str) -> None:
        problem = self._log.readable(problem)
        if self._worst is not State.EXECUTOR_ERROR:
            self._worst = state
        self._problems.append(problem)
        self._log.error(problem)

    def _end(self, walk: Walk) -> Ending:
        """Blocking: gather the outputs, and say how it all ended."""
        notes = [_of_steps(list(names), words) for words, names in self._without_image.items()]
        for note in notes:
            self._log.info(note)
        notes += self._again.values()
        walk.check_outputs()
        outputs: dict[str, Any] = {}
        left_out: list[str] = []
        if walk.outputs is not None:
            gathered = OutputFolder(self._folder.outputs, self._fs(""))
            outputs, left_out = gathered.gather(walk.outputs), gathered.problems
        if self._unsupported:
            return self._failed(State.EXECUTOR_ERROR, f"Unsupported: {self._unsupported}", UNSUPPORTED)
        for problem in left_out:
            self._note(State.EXECUTOR_ERROR, problem)
        if walk.status == "success" and not left_out:
            self._publish()
            return Ending(State.COMPLETE, 0, (*notes, *self._log.warnings[:_LOG_LINES]), outputs)
        errors = [text for text in self._log.errors if not self._problems or _STOPPED.search(text)]
        messages = [*self._problems, *errors] or ["the workflow could not make any more progress"]
        told = (*dict.fromkeys(messages[:_LOG_LINES]), *notes)
        return Ending(self._worst or State.EXECUTOR_ERROR, 1, told, outputs)

    def _publish(self) -> None:
        """Bring the outputs to their store, where the site has one: then the run is COMPLETE, not before.

        Raises:
            OSError: they are not all there; the text says why.
        """
        store = self._services.outputs_store
        if store is None:
            return
        try:
            publish_outputs(store, self._folder)
        except OSError as error:
            raise _GivenUpError(
                f"the outputs cannot be brought to their store (outputs_store): {error}; the steps are done:"
                " a rerun, once the store answers, only brings them there"
            ) from error

    async def _set_state(self, state: State, **values: Any) -> None:
        reached = await self._services.writer(
            lambda connection: set_run_state(connection, self.run_id, self._fence, state, **values)
        )
        if reached is State.CANCELING:
            self._ask_to_cancel()

    def _ask_to_cancel(self) -> None:
        if not self._canceling:
            self._cancel_asked.set_result(None)

    @property
    def _canceling(self) -> bool:
        return self._cancel_asked.done()

    async def _unless_canceled(
        self, work: Callable[[], Result], threads: Executor | None = None
    ) -> Result | None:
        """As ``_in_thread``; None when the run is cancelled before it is done. Then nobody waits for it: an
        expression that does not end would keep the run CANCELING for as long as its time limit lets it."""
        working = self._begin_in_thread(work, threads)
        try:
            await asyncio.wait((working, self._cancel_asked), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()

    async def _in_thread(self, work: Callable[[], Result], threads: Executor | None = None) -> Result:
        return await self._begin_in_thread(work, threads)

    def _begin_in_thread(
        self, work: Callable[[], Result], threads: Executor | None = None
    ) -> asyncio.Future[Result]:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()

        def noted() -> Result:
            with self._services.at_work.on(self.run_id):
                return context.run(work)

        return loop.run_in_executor(threads or self._services.threads, noted)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait for its end."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


def _of_steps(names: list[str], words: str) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}: {words}"


def _blame(error: BaseException) -> tuple[State, str]:
    """How a step ends that an error has stopped, and words for it."""
    if isinstance(error, OSError):
        return State.SYSTEM_ERROR, _os_problem(error)
    if isinstance(error, LostForGoodError):
        return State.SYSTEM_ERROR, str(error)
    if isinstance(error, WorkflowException | ValidationException):
        return State.EXECUTOR_ERROR, str(error)
    return State.SYSTEM_ERROR, unexpected(error)


def _os_problem(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left in the workspace ({error.filename or error}); ask the site to free some"
    return f"{error.strerror or error}: {error.filename or ''}"
