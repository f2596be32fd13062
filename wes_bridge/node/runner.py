"""The life of an accepted session: wait, stage, run, transfer, end.

What must survive the node is on disk: the session's row (accepted, asked to stop, ended) and in its folder
the keeper's record. The phases between are worked out again from those, so that a node that was killed finds
its commands running, or ended, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar

from wes_bridge.auth.acting import person_of
from wes_bridge.model.execution_broker import Message
from wes_bridge.model.states import Phase
from wes_bridge.model.units import parse_duration, signal_of, utcnow
from wes_bridge.node import messages
from wes_bridge.node.booking import EARLY, Reservations
from wes_bridge.node.capacity import Need, Queue
from wes_bridge.node.company import Company, Reach
from wes_bridge.node.errors import (
    BadRequestError,
    CommandNotFoundError,
    NodeError,
    NotBegunError,
    PlatformError,
    ReleaseError,
    StagingError,
)
from wes_bridge.node.kept.outputs import Outputs
from wes_bridge.node.layout import SessionFolder
from wes_bridge.node.live import LiveSession
from wes_bridge.node.messages import message
from wes_bridge.node.offers import DEFAULT_DURATION, need_of
from wes_bridge.node.platforms.base import PAUSES, Job, Platform
from wes_bridge.node.platforms.groups import Groups
from wes_bridge.node.platforms.processes import Roots, Started, descendants, ended, started
from wes_bridge.node.platforms.watch import Bounds, DiskWatch, TreeWatch, What
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.inputs import Inputs
from wes_bridge.node.staging.place import place
from wes_bridge.node.staging.plan import Kind, make_tree
from wes_bridge.node.staging.release import MOST_REWRITTEN, keep_streams, release, share_streams
from wes_bridge.node.staging.schemes import Schemes
from wes_bridge.node.tidying import Tidying
from wes_bridge.node.user_tokens import SessionTokens, UserTokens
from wes_bridge.one_cpu import give_way
from wes_bridge.small_files import read_small
from wes_bridge.store.outage import Trouble

log = logging.getLogger(__name__)

_NO_ROOM = 65_536
"""Bytes; a disk with less has none."""
_AGAIN = 5.0
"""Seconds between attempts to write down that a session has ended."""
_FILE_THREADS = 4
"""Threads that stage and release: more would fight over the interpreter."""
_MOST_THREADS = 32
"""Those and the ones that wait for quick commands."""
QUICK = 0.1
"""Seconds that the thread which started a command waits for its end: quick ones need no other."""
AT_ONCE = 0.02
"""The same until it is told that the command runs: of one that has ended by then all is told at once."""
CANCEL_GRACE = 2.0
"""Seconds a cancelled command has between SIGTERM and SIGKILL."""
LIMIT_GRACE = 0.5
"""The same for one that went over a limit."""

_LONGEST_STOP = 65_536
"""Bytes of the note why a command was ended."""
_TOO_MUCH: dict[What, tuple[str, str]] = {
    "memory": (
        messages.MEMORY_LIMIT,
        "the command was ended: it used {used} bytes of memory, {limit} are allowed",
    ),
    "processes": (
        messages.PROCESS_LIMIT,
        "the command was ended: it made more processes than the {limit} that are allowed (the node's"
        " max_processes)",
    ),
    "disk": (
        messages.DISK_LIMIT,
        "the command was ended: its session had {used} bytes on the disk, {limit} are allowed (the node's"
        " session_gib)",
    ),
}
_MANY = 32
_FIRST_TO_GO = "500"
"""Of 1000: the system, out of memory, ends commands before nodes, keepers and services."""

_T = TypeVar("_T")
Ended = Callable[[LiveSession], Awaitable[None]]


@dataclass
class _Run:
    """What the runner knows of one session beyond the session itself."""

    live: LiveSession
    folder: SessionFolder
    platform: Platform
    need: Need
    resumed: bool
    tokens: SessionTokens
    halt: Event = field(default_factory=Event)
    waiting: asyncio.Future[None] | None = None
    staged: Future[Job] | None = None
    in_line: bool = False
    killed: Message | None = None
    job: Job | None = None
    queued: bool = False
    entered: float | None = None
    started: Started | None = None
    ended: bool = False
    released: bool = False
    release_error: ReleaseError | None = None
    is_held: bool = False


class _StopError(Exception):
    """The client asked for the session to end."""


class Runner:
    """Runs accepted sessions.

    Args:
        folder: of all sessions.
        queue: who may run.
        platforms: by kind of executable.
        schemes: staging.
        incoming: what is fetched for sessions.
        reservations: when they may run.
        ended: called when a session has reached its final phase.
        most_rewritten: bytes of a file that paths are written into.
        limits: of each command, whatever it was offered.
        kept: the outputs that stay here.
        tokens: of whom sessions are.
    """

    def __init__(
        self,
        folder: Path,
        queue: Queue,
        platforms: Mapping[str, Platform],
        schemes: Schemes,
        *,
        incoming: Incoming,
        reservations: Reservations,
        ended: Ended,
        most_rewritten: int = MOST_REWRITTEN,
        limits: Bounds,
        kept: Outputs,
        tokens: UserTokens,
    ) -> None:
        self._folder = folder
        self._queue = queue
        self._platforms = platforms
        self._schemes = schemes
        self._incoming = incoming
        self._reservations = reservations
        self._ended = ended
        self._most_rewritten = most_rewritten
        threads = min(_MOST_THREADS, _FILE_THREADS + queue.capacity.sessions)
        self._files = ThreadPoolExecutor(threads, "wb-files", give_way)
        self._limits = limits
        self._kept = kept
        self._user_tokens = tokens
        self._company = Company()
        self._watch = TreeWatch()
        self._disk = DiskWatch()
        self._groups = Groups()
        self._groups.tidy()
        self._runs: dict[str, _Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._kills: set[asyncio.Task[None]] = set()
        self._line: deque[_Run] = deque()
        self._ahead: set[str] = set()
        self._claiming = Lock()
        self._unwritten = Trouble(log, "the end of a session cannot be written down; trying again")
        self._tidying = Tidying(lambda: bool(self._runs), self._files)

    @property
    def active(self) -> int:
        """Sessions accepted and not ended."""
        return len(self._runs)

    @property
    def sessions(self) -> list[LiveSession]:
        """Those."""
        return [run.live for run in self._runs.values()]

    def folder(self, uuid: str) -> SessionFolder:
        """The folder of a session."""
        return SessionFolder(self._folder / uuid)

    def begin(self, live: LiveSession, resumed: bool = False) -> None:
        """Take an accepted session through its life.

        Args:
            live: the session.
            resumed: whether an earlier process of the node may have begun it; then it goes on from there.

        Raises:
            PlatformError: the node has no platform for it any more.
        """
        session = live.session
        kind = session.executable.kind if session.executable else ""
        platform = self._platforms.get(kind)
        if platform is None:
            raise PlatformError(f"this node no longer runs executables of kind {kind}")
        available = session.schedule.available if session.schedule else None
        duration = parse_duration(available.duration) if available and available.duration else None
        halt = Event()
        run = _Run(
            live,
            self.folder(live.uuid),
            platform,
            need_of(session.compute, duration or DEFAULT_DURATION, session.storage),
            resumed,
            self._user_tokens.of(live.uuid, live.owner, halt),
            halt,
        )
        self._runs[live.uuid] = run
        self._kept.use(live)
        task = asyncio.get_running_loop().create_task(self._live(run))
        self._tasks[live.uuid] = task

    def stop(self, live: LiveSession, phase: Phase) -> None:
        """End a session as ``phase`` (CANCELLED or FAILED) as soon as its processes are gone."""
        live.stop = phase
        run = self._runs.get(live.uuid)
        if run is None:
            return
        run.halt.set()
        if run.waiting is not None:
            run.waiting.cancel()
        if live.phase is Phase.RUNNING:
            self._kill(run, CANCEL_GRACE)

    async def close(self, end_sessions: bool) -> None:
        """The node is going down.

        Args:
            end_sessions: whether to cancel all sessions first, rather than leave them running.
        """
        if end_sessions:
            for run in list(self._runs.values()):
                if run.live.stop is None:
                    self.stop(run.live, Phase.CANCELLED)
            if self._tasks:
                await asyncio.wait(list(self._tasks.values()), timeout=15)
        tasks = [*self._tasks.values(), *self._kills]
        for run in self._runs.values():
            run.halt.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watch.close()
        self._disk.close()
        await self._tidying.close()
        self._files.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Do what blocks on files in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    # ---- the life ----------------------------------------------------------------------------------

    async def _live(self, run: _Run) -> None:
        live = run.live
        phase, note, part = Phase.FAILED, None, None
        try:
            phase, note, part = await self._through(run)
        except _StopError:
            phase, note = self._stopped(run)
        except CommandNotFoundError as error:
            if live.session.executable is not None:
                live.session.executable.exit_code = error.exit_code
            note, part = error.message, "compute"
        except (StagingError, ReleaseError) as error:
            note, part = error.message, "data"
        except NodeError as error:
            if isinstance(error, NotBegunError) and live.session.executable is not None:
                live.session.executable.started = None
            note, part = error.message, "executable"
        except Exception as error:
            log.exception("session %s", live.uuid)
            text = "the node failed: {error}"
            note = message(messages.INTERNAL, text, error=f"{type(error).__name__}: {error}")
        finally:
            self._leave(run)
        await self._forget_staged(run)
        if live.stop is not None and phase is not live.stop:
            phase, note = self._stopped(run)
            part = None
        if live.session.executable is not None and live.session.executable.started is not None:
            live.session.executable.finished = live.session.executable.finished or utcnow()
        if note is not None:
            live.session.meta.messages = [*(live.session.meta.messages or []), note]
        await self._forget_kept(run, phase)
        live.move(phase, part)
        self._runs.pop(live.uuid, None)
        self._user_tokens.gone(live.uuid)
        self._company.ended(live.uuid)
        self._kept.let_go(live)
        try:
            await self._write_down(run)
            self._tidying.later(functools.partial(_clean, run))
        finally:
            self._tasks.pop(live.uuid, None)

    async def _forget_kept(self, run: _Run, phase: Phase) -> None:
        """Keep nothing of what a client has cancelled."""
        if phase is Phase.CANCELLED:
            await self.in_thread(lambda: self._kept.forget(run.live))

    async def _write_down(self, run: _Run) -> None:
        """Tell that a session has ended until that is stored: its disk may be full, of this very session."""
        while True:
            try:
                await self._ended(run.live)
            except Exception as error:
                self._unwritten.seen(error)
            else:
                self._unwritten.over()
                return
            await self.in_thread(lambda: _clean_unbegun(run))
            await asyncio.sleep(_AGAIN)

    def _stopped(self, run: _Run) -> tuple[Phase, Message]:
        phase = run.live.stop or Phase.CANCELLED
        text = "ended as {phase} because a client asked for it"
        return phase, message(messages.STOPPED, text, "INFO", phase=phase.value)

    async def _through(self, run: _Run) -> tuple[Phase, Message | None, str | None]:
        live = run.live
        job = await self._found(run) if run.resumed else None
        if job is not None:
            self._company.began(live.uuid, _reach(run.platform, job), known=False)
            self._set_running(run, job, started(run.folder))
        else:
            await self._wait_turn(run)
            live.move(Phase.PREPARING)
            await run.platform.prepare(live.session)
            job = await self._start(run)
        code = await (run.platform.wait(job) if run.ended else self._wait(run, job))
        self._note_end(run)
        if live.session.executable is not None:
            live.session.executable.finished = _finished(run)
        self._leave(run)
        return await self._finish(run, job, code)

    async def _found(self, run: _Run) -> Job | None:
        """The job of a command that was started already, by an earlier process of the node."""
        live = run.live
        if not run.folder.root.exists():
            return None
        if not await run.platform.find(live.uuid, run.folder):
            await self.in_thread(lambda: shutil.rmtree(run.folder.root, ignore_errors=True))
            return None
        self._queue.force(live.uuid, run.need)
        run.queued = True
        if live.phase is not Phase.PREPARING:
            live.move(Phase.PREPARING)
        try:
            return await self.in_thread(lambda: self._job(run))
        except NodeError:
            await run.platform.kill(live.uuid, run.folder, 0.0)
            raise

    async def _wait_turn(self, run: _Run) -> None:
        live = run.live
        self._check_stop(run)
        self._reservations.check(live)
        delay = self._reservations.due(live) - time.time()
        if delay <= EARLY and self._queue.try_enter(live.uuid, run.need):
            run.queued = True
        else:
            live.move(Phase.WAITING)
            if delay > EARLY:
                due = asyncio.ensure_future(self._reservations.wait_due(live))
                await self._unless_stopped(run, due)
            await self._stand_in_line(run)
        run.entered = time.monotonic()

    async def _stand_in_line(self, run: _Run) -> None:
        turn = self._queue.line_up(run.live.uuid, run.need)
        if not turn.done():
            run.in_line = True
            self._line.append(run)
            self._stage_ahead()
        try:
            async with self._reservations.in_time(run.live):
                await self._unless_stopped(run, turn)
        finally:
            run.queued = turn.done() and not turn.cancelled()
            run.in_line = False
            self._ahead.discard(run.live.uuid)
            self._stage_ahead()

    def _stage_ahead(self) -> None:
        """Stage the inputs of those who are next in line, as many as may run at once."""
        while len(self._ahead) < self._queue.capacity.sessions and (run := self._next_in_line()) is not None:
            if (staged := self._claim(run)) is not None:
                self._files.submit(self._fulfil, run, staged)

    def _stage_next(self) -> None:
        """The same of one, by a thread that has seen a command through to its end: one more than the loop
        would have staged, which then need not wake a thread for each."""
        if len(self._ahead) > self._queue.capacity.sessions:
            return
        run = self._next_in_line()
        staged = self._claim(run) if run is not None else None
        if run is not None and staged is not None:
            self._fulfil(run, staged)

    def _next_in_line(self) -> _Run | None:
        """One that waits for its turn, and is staged meanwhile. For any thread."""
        while True:
            try:
                run = self._line.popleft()
            except IndexError:
                return None
            if run.in_line and not run.halt.is_set():
                self._ahead.add(run.live.uuid)
                if run.in_line:
                    return run
                self._ahead.discard(run.live.uuid)  # its turn has come just now

    def _claim(self, run: _Run) -> Future[Job] | None:
        """What the first who asks has to fulfil; None for all others. For any thread."""
        with self._claiming:
            if run.staged is not None:
                return None
            run.staged = Future()
        run.staged.set_running_or_notify_cancel()  # who waits for it cannot take it back
        return run.staged

    def _fulfil(self, run: _Run, staged: Future[Job]) -> None:
        try:
            staged.set_result(self._stage(run))
        except BaseException as error:
            staged.set_exception(error)

    def _staged(self, run: _Run) -> Job:
        """Its job, staged now unless that was done ahead. Blocks.

        Raises:
            NodeError: it cannot be staged.
        """
        staged = self._claim(run)
        if staged is not None:
            self._fulfil(run, staged)
        assert run.staged is not None
        return run.staged.result()

    async def _until_staged(self, run: _Run) -> None:
        """Return when nothing is being staged for it; what goes wrong is told to who asks for the job."""
        if run.staged is not None and not run.staged.done():
            with contextlib.suppress(Exception):
                await asyncio.wrap_future(run.staged)

    async def _forget_staged(self, run: _Run) -> None:
        """Let nothing be staged any more, and wait for the end of what is."""
        if self._claim(run) is None:
            await self._until_staged(run)

    async def _unless_stopped(self, run: _Run, wait: asyncio.Future[None]) -> None:
        run.waiting = wait
        try:
            self._check_stop(run)
            await wait
        except asyncio.CancelledError:
            if wait.cancelled():
                self._check_stop(run)
            raise
        finally:
            run.waiting = None
            wait.cancel()

    def _check_stop(self, run: _Run) -> None:
        if run.live.stop is not None:
            raise _StopError

    async def _start(self, run: _Run) -> Job:
        """Stage, unless that was done ahead, and start the command; a quick one is released as well."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[Job] = loop.create_future()
        await self._until_staged(run)
        self._check_stop(run)
        self._files.submit(self._stage_and_start, run, loop, begun)
        try:
            return await begun
        except NodeError:
            self._check_stop(run)
            raise

    def _stage_and_start(
        self, run: _Run, loop: asyncio.AbstractEventLoop, begun: asyncio.Future[Job]
    ) -> None:
        """The same, in a thread; after a quick command it goes on with what comes next."""
        try:
            job = self._staged(run)
            if self._begin(run, job, loop):
                run.ended = True
                self._note_end(run)
                if not run.halt.is_set():
                    self._release(run, job)
        except BaseException as error:
            _tell(loop, _fail, begun, error)
            return
        _tell(loop, _settle, begun, job)
        if run.ended:
            self._stage_next()

    def _begin(self, run: _Run, job: Job, loop: asyncio.AbstractEventLoop) -> bool:
        """Start the command; whether it has ended already, and has left its place to the next. Blocks.

        Raises:
            NodeError: it cannot be started, or was stopped.
        """
        pauses = list(PAUSES)
        self._company.began(run.live.uuid, _reach(run.platform, job))
        while True:
            if run.halt.is_set():
                raise PlatformError("stopped")
            try:
                run.platform.start(job)
                since = Started.now()
                if run.platform.ends_within(job, AT_ONCE):
                    _tell(loop, self._has_run, run, job, since)
                    return True
                _tell(loop, self._set_running, run, job, since)
                if run.platform.ends_within(job, QUICK - AT_ONCE):
                    _tell(loop, self._leave, run)
                    return True
                return False
            except NotBegunError as error:
                if not pauses:
                    raise
                log.info("session %s: trying again: %s", run.live.uuid, error)
                run.halt.wait(pauses.pop(0))

    def _has_run(self, run: _Run, job: Job, since: Started) -> None:
        """A command was started, and has ended."""
        self._set_running(run, job, since)
        self._leave(run)

    def _stage(self, run: _Run) -> Job:
        run.folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        job = self._job(run)
        place(job.tree, self._schemes, self._inputs_of(run), run.platform.links, run.halt)
        self._kept.count_linked(run.live, job.tree)
        share_streams(run.live.session, run.folder, self._schemes.allowed, final=False)
        return job

    def _job(self, run: _Run) -> Job:
        try:
            inputs = self._kept.inputs(run.live)
            tree = make_tree(run.live.session, run.folder.fs, self._schemes, inputs.path)
        except BadRequestError as error:
            raise PlatformError(str(error)) from error
        self._inputs_of(run).adopt(tree)
        owner = getattr(run.live, "owner", "")  # sessions have one where callers are told apart
        return Job(run.live.uuid, run.live.session, run.folder, tree, owner)

    def _inputs_of(self, run: _Run) -> Inputs:
        user = person_of(getattr(run.live, "owner", "")) or ""
        shields = bool(getattr(run.platform, "shields", False))  # an older plug-in has no such word
        return Inputs(run.folder.inputs, self._incoming, user, shields, run.tokens)

    def _set_running(self, run: _Run, job: Job, since: Started) -> None:
        live = run.live
        run.job, run.started = job, since
        if live.session.executable is not None:
            live.session.executable.started = datetime.fromtimestamp(since.at, UTC)
        if live.phase is not Phase.RUNNING:  # it was for a first try
            live.move(Phase.RUNNING)
        if live.stop is not None:
            self._kill(run, CANCEL_GRACE)

    async def _wait(self, run: _Run, job: Job) -> int | None:
        """Wait for the command's end, under its limits."""
        live = run.live
        loop = asyncio.get_running_loop()
        executable = live.session.executable
        limit = executable.time_limit if executable else None
        timer = None
        if limit and limit > 0:
            left = (run.started or Started.now()).count + limit - time.monotonic()
            text = "the command was ended after its time limit of {seconds} s"
            late = message(messages.TIME_LIMIT, text, seconds=limit)
            timer = loop.call_later(max(0.0, left), self._exceed, run, late)
        ending = self._reservations.at_end(live, functools.partial(self._exceed, run))
        roots = run.platform.watched(job)
        exceeded = functools.partial(self._too_much, run)
        bounds = self._bounds(run)
        if roots is not None:
            if roots.first is None:  # a command in a sandbox inherits it
                _offer_to_the_system(roots)
            hold = functools.partial(self._groups.hold, live.uuid, roots, bounds.processes, bounds.memory)
            await self.in_thread(hold)
            self._watch.add(roots, bounds, exceeded, functools.partial(self._refused, live.uuid))
        if bounds.disk is not None:
            self._disk.add(run.folder.root, bounds.disk, exceeded)
        try:
            code = await run.platform.wait(job)
            refused = self._refused(live.uuid) if code else None
            limit = bounds.memory if refused == "memory" else bounds.processes
            if refused is not None and limit is not None:
                self._note_too_much(run, refused, limit, limit)
            return code
        finally:
            for handle in (timer, ending):
                if handle is not None:
                    handle.cancel()
            if roots is not None:
                self._watch.remove(roots)
                self._groups.let_go(live.uuid)
            self._disk.remove(run.folder.root)

    def _note_end(self, run: _Run) -> None:
        """Know that a command has ended, and whether another may hold open what it leaves."""
        is_in_reach = self._company.ended(run.live.uuid)
        leaves_open = getattr(run.platform, "leaves_open", False)  # an older plug-in has no such word
        run.is_held = run.is_held or (is_in_reach and bool(leaves_open))

    def _bounds(self, run: _Run) -> Bounds:
        """What a command may use: what it was offered, else what the node has; and what the site allows."""
        memory = run.live.session.compute.memory if run.live.session.compute else None
        offered = memory.max_bytes if memory is not None and memory.max_bytes else self._queue.capacity.memory
        return Bounds(offered, self._limits.processes, self._limits.disk)

    def _refused(self, uuid: str) -> What | None:
        """Of what the system did not let a command have more."""
        if self._groups.has_run_out(uuid):
            return "memory"
        return "processes" if self._groups.has_refused(uuid) else None

    def _too_much(self, run: _Run, what: What, used: int, limit: int) -> None:
        kind, text = _TOO_MUCH[what]
        self._exceed(run, message(kind, text, used=used, limit=limit), 0.0)

    def _note_too_much(self, run: _Run, what: What, used: int, limit: int) -> None:
        """The same of a command that has ended by itself, before anybody looked."""
        if run.killed is None:
            kind, text = _TOO_MUCH[what]
            run.killed = message(kind, text, used=used, limit=limit)

    def _exceed(self, run: _Run, reason: Message, grace: float = LIMIT_GRACE) -> None:
        run.killed = reason
        with contextlib.suppress(OSError):
            run.folder.stop.write_text(reason.model_dump_json(exclude_none=True))
        self._kill(run, grace)

    def _kill(self, run: _Run, grace: float) -> None:
        work = run.platform.kill(run.live.uuid, run.folder, grace)
        task = asyncio.get_running_loop().create_task(work)
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def _finish(
        self, run: _Run, job: Job, code: int | None
    ) -> tuple[Phase, Message | None, str | None]:
        live = run.live
        killed = run.killed or (_read_stop(run.folder) if run.entered is None else None)
        if live.stop is not None or killed is not None:
            await run.platform.kill(live.uuid, run.folder, 0.0)
        self._check_stop(run)
        executable = live.session.executable
        if killed is None and executable is not None:
            executable.exit_code = code
        live.move(Phase.RELEASING)
        note, part = None, None
        if killed is not None:
            note, part = killed, "compute"
        elif code is None:
            text = "the command was ended: the node's keeper, which watched it, was killed"
            note, part = message(messages.LOST, text), "executable"
        elif code not in ((executable.success_codes if executable else None) or [0]):
            note, part = _exit_message(code), "compute"
            if await self.in_thread(lambda: _is_full(run.folder)):
                text = "the command ended with exit code {exitCode}: no space left on the node's disk"
                note = message(messages.DISK_FULL, text, exitCode=code)
        is_lost = note is not None and note.kind == messages.LOST  # then nobody knows what its outputs are
        if not run.released and run.release_error is None and not is_lost:
            await self.in_thread(lambda: self._release(run, job))
        self._kept.tell(live)
        if run.release_error is not None:
            if note is None:
                raise run.release_error
            live.say(run.release_error.message)
        return (Phase.COMPLETED if note is None else Phase.FAILED), note, part

    def _release(self, run: _Run, job: Job) -> None:
        """Transfer the outputs. Blocks; what goes wrong is noted in ``run``."""
        share_streams(job.session, run.folder, self._schemes.allowed, final=True)
        try:
            keeper = self._kept.keeper(run.live, run.halt)
            links = run.platform.links
            release(
                job.tree,
                job.session,
                self._schemes,
                links,
                self._most_rewritten,
                keeper,
                run.tokens,
                run.is_held,
            )
            run.released = True
        except ReleaseError as error:
            run.release_error = error

    # ---- afterwards --------------------------------------------------------------------------------

    def _leave(self, run: _Run) -> None:
        self._reservations.free(run.live.uuid)
        if run.queued:
            run.queued = False
            took = time.monotonic() - run.entered if run.entered is not None else None
            self._queue.leave(run.live.uuid, took)


def _reach(platform: Platform, job: Job) -> Reach:
    """What a command reaches that is not its session's own."""
    links = [entry for entry in job.tree.entries.values() if entry.kind is Kind.LINK]
    inputs = job.folder.inputs
    outside = [entry for entry in links if not entry.source.is_relative_to(inputs)]
    changes = [entry.source for entry in outside if entry.writable]
    shown = _paths(tuple(getattr(platform, "shows", ())))
    shares = getattr(platform, "shares_network", None)
    return Reach([*(entry.source for entry in outside), *shown], changes, shares is not None and shares(job))


@functools.lru_cache(maxsize=8)
def _paths(texts: tuple[str, ...]) -> list[Path]:
    return [Path(text) for text in texts]


def _offer_to_the_system(roots: Roots) -> None:
    """Have the system end a command, rather than something else, when it has no memory left."""
    for process in (roots.command, *descendants(roots.command, _MANY)):
        with contextlib.suppress(OSError):
            Path(f"/proc/{process}/oom_score_adj").write_text(_FIRST_TO_GO)


def _settle(future: asyncio.Future[Job], job: Job) -> None:
    if not future.done():
        future.set_result(job)


def _fail(future: asyncio.Future[Job], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *arguments: object) -> None:
    """Have the loop do ``work``, from a thread; a loop that is closed does nothing any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(work, *arguments)


def _clean(run: _Run) -> None:
    """Keep the streams, drop the rest; what could not be transferred stays until it is purged."""
    _clean_unbegun(run)
    with contextlib.suppress(OSError):
        if run.job is not None:
            keep_streams(run.live.session, run.folder, run.job.tree)
        spoilt = run.release_error is not None and run.release_error.by_command
        if run.released or spoilt or run.live.phase is Phase.CANCELLED:
            shutil.rmtree(run.folder.fs, ignore_errors=True)
            shutil.rmtree(run.folder.inputs, ignore_errors=True)


def _finished(run: _Run) -> datetime:
    """When a command that has just been found ended did: now, unless the node was away meanwhile."""
    now = utcnow()
    noted = ended(run.folder) if run.resumed and run.entered is None else None
    return now if noted is None else min(now, datetime.fromtimestamp(noted, UTC))


def _read_stop(folder: SessionFolder) -> Message | None:
    try:
        return Message.model_validate_json(read_small(folder.stop, _LONGEST_STOP, follow=False))
    except (OSError, ValueError):
        return None


def _clean_unbegun(run: _Run) -> None:
    """Drop what was staged for a command that never began: nothing of it is worth keeping."""
    executable = run.live.session.executable
    if run.job is None and executable is not None and executable.started is None:
        shutil.rmtree(run.folder.fs, ignore_errors=True)
        shutil.rmtree(run.folder.inputs, ignore_errors=True)


def _is_full(folder: SessionFolder) -> bool:
    """Whether the disk that a command writes to has no room: it may have had none to say so either."""
    try:
        return shutil.disk_usage(folder.root).free < _NO_ROOM
    except OSError:
        return False


def _exit_message(code: int) -> Message:
    text, name = "the command ended with exit code {exitCode}", signal_of(code)
    if name is not None:
        return message(messages.EXIT_CODE, text + ": signal {signal}", exitCode=code, signal=name)
    return message(messages.EXIT_CODE, text, exitCode=code)
