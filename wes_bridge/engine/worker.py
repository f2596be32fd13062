"""An engine worker: claims runs from the database and lives them, many at once, until told to stop.

Run as ``python -m wes_bridge.engine.worker --config-json @FILE``; it prints ``worker ready`` when it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import logging
import math
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import aiohttp
import uvloop
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from wes_bridge.auth.delegation import Source
from wes_bridge.auth.exchange import Exchangers
from wes_bridge.auth.safe import Safe
from wes_bridge.config import ServiceConfig
from wes_bridge.cwl import log as cwl_log
from wes_bridge.cwl import patches
from wes_bridge.cwl.loading import apart as loading_apart
from wes_bridge.cwl.loading.forks import Nursery
from wes_bridge.data.workspace import Workspace
from wes_bridge.engine.deaths import AtWork, note_deaths
from wes_bridge.engine.identity import is_gone, own_name
from wes_bridge.engine.keeping import Keeper
from wes_bridge.engine.reuse import Checksums, Reuse
from wes_bridge.engine.run import Run, Services
from wes_bridge.engine.runlog import RunLog
from wes_bridge.engine.stored_results import results_in
from wes_bridge.federation.brokers import make_broker
from wes_bridge.federation.client import http_session
from wes_bridge.federation.discovery import Directory
from wes_bridge.federation.placing import Federation, Reports
from wes_bridge.federation.strangers import Strangers
from wes_bridge.federation.ways import ways_of
from wes_bridge.model.units import GIB, MIB
from wes_bridge.notify.deliverer import Deliverer
from wes_bridge.one_cpu import give_way, keep_together
from wes_bridge.open_files import allow_many
from wes_bridge.redaction import redact_logs
from wes_bridge.storage.base import Storage
from wes_bridge.storage.opening import open_storage
from wes_bridge.store.brokers import forget_brokers, put_brokers
from wes_bridge.store.database import Database, NewerDatabaseError, cannot_open, clock
from wes_bridge.store.notices import RARELY, Channel, Listener, Teller
from wes_bridge.store.outage import OUTAGE, Trouble, is_passing, tell_once
from wes_bridge.store.runs import cancel_requests, claim_runs, holders, release_runs, renew_leases
from wes_bridge.store.tables import SERVICE
from wes_bridge.store.task_log import TaskLog
from wes_bridge.store.wakeup import Sleeper
from wes_bridge.store.writer import Writer

_logger = logging.getLogger("wes_bridge.engine")
_POLL = 1.0
"""Seconds between looks at the database when nobody calls and a call from elsewhere could not be heard."""
_FOR_NEWCOMERS = 10
"""A worker that is full takes a tenth more, one run of each owner who has none under way."""
_AT_ONCE = 16
"""Runs claimed at a time: who is busy with them comes back later than others, so a bag of runs is shared."""
_AT_WORK = "at-work"
"""Folder in the state folder; see :mod:`wes_bridge.engine.deaths`."""
_GOODBYE = 3.0
"""Seconds a worker that stops waits for the database to take its leases back."""
_THREADS = 4
"""Threads for cwltool's work. It holds the interpreter's lock most of the time, so more would not make it
faster; expressions do not, and one that never ends must not keep the others waiting."""
_TRANSFERS = 8
"""Outputs that are fetched from nodes at once; they start no thread before the first."""
_BRINGING = 8
"""Threads that fetch files left at nodes: they may be large, and no outcome of a session waits for them."""
_WAITING = 16
"""Threads for runs with files at nodes: an expression may wait for a slow node, and other runs must not."""


class Worker:
    """Claims and lives runs.

    Args:
        config: of the service, with all brokers.
        database: open.
        nursery: whose children load workflows.

    Attributes:
        failed: whether it stopped for a fault of its own.
    """

    def __init__(self, config: ServiceConfig, database: Database, nursery: Nursery) -> None:
        self._config = config
        self._database = database
        self._nursery = nursery
        self.failed = False
        self._name = own_name()
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._stopping = asyncio.Event()
        self._may_be_more = False
        self._look_again: Callable[[], None] = lambda: None
        self._tell_others: Callable[[], None] = lambda: None
        self._turning = Trouble(_logger, "cannot look for runs; trying again")
        self._claiming = Trouble(_logger, "cannot claim runs; trying again")
        self._canceling = Trouble(_logger, "cannot look for cancellations; trying again")
        self._cleaning = Trouble(_logger, "cannot clean up; trying again later")

    def stop(self) -> None:
        """Begin to stop: runs are left where they are, for the next worker."""
        self._stopping.set()

    async def work(self) -> None:
        """Claim and live runs until :meth:`stop`."""
        sleeper = Sleeper(self._config.wakeup_dir, self._name)
        teller = Teller(self._database)
        listener = Listener(self._database, [Channel.WORK], sleeper.wake)
        self._look_again = sleeper.wake
        self._tell_others = functools.partial(teller.tell, Channel.WORK)
        writer = Writer(
            self._database, patience=math.inf, after=functools.partial(teller.tell, Channel.CHANGES)
        )
        await self._nursery.open()
        notes = self._config.state_dir.absolute() / _AT_WORK
        note_deaths(notes, Workspace(self._config.workspace_dir))
        at_work = AtWork(notes, self._name)
        watching = asyncio.create_task(self._watch_nursery())
        strangers = Strangers(self._config)
        with (
            ThreadPoolExecutor(_THREADS, "engine", give_way) as threads,
            ThreadPoolExecutor(_TRANSFERS, thread_name_prefix="transfer") as transfers,
            ThreadPoolExecutor(_BRINGING, thread_name_prefix="bring") as bringing,
            ThreadPoolExecutor(_WAITING, thread_name_prefix="wait") as waiting,
        ):
            async with http_session(strangers.resolver()) as http, http_session() as issuers:
                engine = self._config.engine
                ways = ways_of(self._config, transfers, bringing)
                brokers = [
                    make_broker(broker, http, broker.credentials, engine.default_image, ways)
                    for broker in self._config.brokers
                ]
                federation = Federation(
                    brokers,
                    engine.offer_deadline,
                    engine.patience,
                    engine.offer_grace,
                    engine.lost_after,
                    default_duration=engine.default_duration,
                    bringing=ways.bringing,
                    rate=engine.transfer_rate * MIB,
                )
                directory = Directory(
                    brokers, self._config.listings, http, federation.use, strangers, ways=ways
                )
                services = Services(
                    config=self._config,
                    workspace=Workspace(self._config.workspace_dir),
                    federation=federation,
                    writer=writer,
                    tasks=TaskLog(writer),
                    database=self._database,
                    threads=threads,
                    waiting=waiting,
                    nursery=self._nursery,
                    safe=Safe(self._config.delegation.key, self._config.state_dir),
                    tokens=_tokens(self._config, issuers, self._database, writer),
                    outputs_store=_outputs_store(self._config),
                    at_work=at_work,
                    bringing=ways.bringing,
                    reuse=Reuse(
                        results_in(self._config.workspace_dir, _outputs_store(self._config)),
                        int(engine.reuse_gib * GIB),
                        writer,
                        Checksums(ways.bringing.replicas.checksum),
                    ),
                )
                deliverer = Deliverer(self._config, self._database, writer, self._tell)
                delivering = asyncio.create_task(deliverer.work(), name="webhooks")
                try:
                    await directory.start()
                    await self._loop(services, sleeper, listener)
                finally:
                    sleeper.close()
                    watching.cancel()
                    delivering.cancel()
                    await asyncio.wait({delivering})
                    await directory.stop()
                    await self._leave(writer)
                    at_work.close()
                    await federation.close()
                    await asyncio.gather(asyncio.to_thread(listener.close), asyncio.to_thread(teller.close))
        writer.close()

    async def _watch_nursery(self) -> None:
        """Stop when nothing can be loaded any more: whoever started this worker starts another."""
        await self._nursery.gone()
        _logger.error("the process that loads workflows has ended: this worker stops, too")
        self.failed = True
        self.stop()

    def _tell(self, run_id: str, text: str) -> None:
        """A line in a run's log, if the run is still there."""
        folder = Workspace(self._config.workspace_dir).run(run_id)
        if folder.root.exists():
            with contextlib.closing(RunLog(folder.stderr, folder.attachments)) as log:
                log.info(text)

    async def _loop(self, services: Services, sleeper: Sleeper, listener: Listener) -> None:
        beat = asyncio.create_task(self._beat(services))
        cleaning = asyncio.create_task(self._clean_now_and_then(services))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                turn = asyncio.create_task(self._turn(services, sleeper, listener))
                await asyncio.wait({turn, stopping}, return_when=asyncio.FIRST_COMPLETED)
                turn.cancel()  # to be stopped is not to wait for a database that is gone
                (problem,) = await asyncio.gather(turn, return_exceptions=True)
                if isinstance(problem, Exception):
                    self._turning.seen(problem)
                    await asyncio.wait({stopping}, timeout=_POLL)
                else:
                    self._turning.over()
        finally:
            for task in (beat, cleaning, stopping):
                task.cancel()

    async def _turn(self, services: Services, sleeper: Sleeper, listener: Listener) -> None:
        """Look for runs and for cancellations, then sleep until called, or for a while: a short one where no
        call could be heard, else one in which a lease that runs out is still noticed."""
        await self._claim(services)
        await self._look_for_cancels()
        rarely = max(_POLL, min(RARELY, self._config.engine.lease / 3))
        await sleeper.sleep(rarely if listener.is_up else _POLL)

    async def _claim(self, services: Services) -> None:
        all_runs = self._config.engine.max_runs
        room = all_runs - len(self._runs)
        self._may_be_more = True
        new = min(_AT_ONCE, max(1, all_runs // _FOR_NEWCOMERS) + min(room, 0))
        if room <= 0 and new <= 0:
            return
        some = max(0, min(room, _AT_ONCE))
        lease, most = self._config.engine.lease, self._config.engine.max_runs_in_all
        try:
            rows = await services.writer(
                lambda connection: claim_runs(
                    connection, self._name, lease, some, clock(connection), most, new if room <= 0 else 0
                )
            )
        except Exception as error:
            self._claiming.seen(error, logging.ERROR)
            return
        self._claiming.over()
        self._may_be_more = len(rows) >= some or room <= 0
        for row in rows:
            await self._let_go(row.run_id)
            run = Run(row, services)
            task = asyncio.create_task(run.live(), name=f"run {row.run_id}")
            self._runs[row.run_id] = run, task
            task.add_done_callback(functools.partial(self._on_run_done, row.run_id))
        if self._may_be_more and 0 < some < room:
            self._look_again()

    async def _let_go(self, run_id: str) -> None:
        """A run of our own claimed anew: our lease ran out, for this machine slept or its clock was set."""
        if run_id in self._runs:
            _, task = self._runs[run_id]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _on_run_done(self, run_id: str, task: asyncio.Task[None]) -> None:
        """Forget it; one that has not ended is claimed again, by any worker, when its lease has run out."""
        if run_id in self._runs and self._runs[run_id][1] is task:
            del self._runs[run_id]
        if self._may_be_more:
            self._look_again()
        if self._config.engine.max_runs_in_all is not None:  # somebody has waited for this one's place
            self._look_again()
            self._tell_others()
        if not task.cancelled() and (error := task.exception()) is not None:
            if is_passing(error):
                OUTAGE.seen(error)
            else:
                _logger.error("run %s: %r", run_id, error)

    async def _look_for_cancels(self) -> None:
        if not self._runs:
            return
        try:
            found = await asyncio.to_thread(cancel_requests, self._database, self._name)
        except Exception as error:
            self._canceling.seen(error)
            return
        self._canceling.over()
        for run_id in found:
            if run_id in self._runs:
                self._runs[run_id][0].cancel()

    async def _clean_now_and_then(self, services: Services) -> None:
        """Remove what is not to be kept; workers that do so at the same time do no harm to each other."""
        config = self._config.retention
        keeper = Keeper(config, services.workspace, self._database, outputs_store=services.outputs_store)
        thread = ThreadPoolExecutor(1, thread_name_prefix="cleaning")  # it may take long: not a shared one
        try:
            while True:
                await asyncio.sleep(config.every * random.uniform(0.5, 1.0))  # noqa: S311  # not all at once
                try:
                    await asyncio.get_running_loop().run_in_executor(thread, self._clean, keeper)
                except Exception as error:
                    self._cleaning.seen(error, logging.ERROR)
                else:
                    self._cleaning.over()
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _clean(self, keeper: Keeper) -> None:
        for removal in keeper.sweep():
            _logger.info("removed %s of run %s, %d bytes", removal.what, removal.run_id, removal.size)
            if self._stopping.is_set():
                return

    async def _beat(self, services: Services) -> None:
        """Renew the leases, and tell how the brokers are."""
        lease = self._config.engine.lease

        notes = self._config.state_dir.absolute() / _AT_WORK

        async def beat() -> None:
            await asyncio.to_thread(note_deaths, notes, services.workspace)
            held, reports = list(self._runs), services.federation.reports()
            if await services.writer(functools.partial(self._write_beat, lease, held, reports)):
                self._look_again()
                self._tell_others()

        await keep_beating(beat, lease / 3)

    def _write_beat(self, lease: float, held: list[str], reports: Reports, connection: Connection) -> bool:
        """Whether runs of dead workers were freed."""
        now = clock(connection)
        freed = release_the_dead(connection)
        renew_leases(connection, self._name, lease, now, held)
        forget_brokers(connection, now - 10 * lease)
        put_brokers(connection, self._name, reports, now)
        return freed

    async def _leave(self, writer: Writer) -> None:
        """Abandon what still runs, without cancelling it, and give its leases back."""
        for _, task in list(self._runs.values()):
            task.cancel()
        await asyncio.gather(*(task for _, task in self._runs.values()), return_exceptions=True)
        with contextlib.suppress(Exception):  # a database that is gone is not waited for: leases run out
            async with asyncio.timeout(_GOODBYE):
                await writer(lambda connection: release_runs(connection, self._name))
                await writer(lambda connection: put_brokers(connection, self._name, {}, 0.0))
        self._tell_others()


def _outputs_store(config: ServiceConfig) -> Storage | None:
    return None if config.outputs_store is None else open_storage(config.outputs_store)


def _tokens(
    config: ServiceConfig, http: aiohttp.ClientSession, database: Database, writer: Writer
) -> Source | None:
    """Where runs get tokens of their owners; None where no broker wants any."""
    if not config.delegates:
        return None
    delegation = config.delegation
    return Source(
        exchangers=Exchangers(delegation, http),
        safe=Safe(delegation.key, config.state_dir),
        database=database,
        writer=writer,
        early=delegation.early,
        patience=delegation.patience,
        issuers=config.authentication.oidc,
    )


async def keep_beating(beat: Callable[[], Awaitable[None]], pause: float) -> NoReturn:
    """Beat until cancelled; a beat that fails is tried again at the next, and told once an outage.

    Args:
        beat: done at once, and then every ``pause`` seconds.
        pause: between two beats.
    """
    trouble = Trouble(
        _logger, "cannot renew the leases of runs; trying again", "the leases of runs are renewed again"
    )
    while True:
        try:
            await beat()
        except Exception as error:
            trouble.seen(error)
        else:
            trouble.over()
        await asyncio.sleep(pause)


def release_the_dead(connection: Connection) -> bool:
    """Give back the leases of workers of this machine that are no more, rather than wait for their end.

    Returns:
        Whether there were any.
    """
    dead = [worker for worker in holders(connection) if is_gone(worker)]
    for worker in dead:
        release_runs(connection, worker)
    return bool(dead)


async def _main(config: ServiceConfig, with_parent: bool, nursery: Nursery) -> None:
    try:
        database = Database(config.database_url, SERVICE)
    except (SQLAlchemyError, OSError, ImportError, NewerDatabaseError) as error:
        raise SystemExit(f"worker: {cannot_open(error)}") from None
    worker = Worker(config, database, nursery)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if with_parent:
        _stop_with_parent(loop, worker)
    with contextlib.suppress(BrokenPipeError):  # the parent is gone already: standard input tells, too
        sys.stdout.write("worker ready\n")
        sys.stdout.flush()
    together = asyncio.create_task(keep_together()) if config.one_cpu else None
    try:
        await worker.work()
    finally:
        if together is not None:
            together.cancel()
        nursery.close()
    database.close()
    if worker.failed:
        raise SystemExit(1)


def _stop_with_parent(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Stop when standard input ends: the parent holds its other end."""

    def on_input() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            worker.stop()

    with contextlib.suppress(OSError, PermissionError):  # a terminal's or /dev/null's stdin cannot be watched
        loop.add_reader(0, on_input)


def main() -> None:
    """Entry point of the worker process."""
    parser = argparse.ArgumentParser(description="An engine worker; see wes-bridge worker.")
    parser.add_argument(
        "--config-json", required=True, metavar="@FILE", help="the service's configuration as JSON"
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when standard input ends")
    given = parser.parse_args()
    text = given.config_json
    if text.startswith("@"):
        text = Path(text[1:]).read_text()
    run(ServiceConfig.model_validate_json(text), given.exit_with_parent)


def run(config: ServiceConfig, with_parent: bool = False) -> None:
    """Work in this process until SIGTERM or SIGINT; prints ``worker ready``.

    Args:
        config: with all brokers.
        with_parent: stop also when standard input ends.
    """
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    redact_logs()
    tell_once()
    os.environ["COLUMNS"] = "1000"  # schema-salad folds its messages to this width
    patches.install()
    cwl_log.install()
    allow_many()
    gc.set_threshold(10_000, 20, 20)  # the default takes a twentieth of a busy worker's time
    sys.setswitchinterval(0.001)  # the event loop waits for cwltool's thread at most this long
    nursery = loading_apart.start()  # before there are threads
    uvloop.run(_main(config, with_parent, nursery))


if __name__ == "__main__":
    main()
