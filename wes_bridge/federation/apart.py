"""A native node that shares no disk with the service: everything goes over HTTP.

The node keeps an output where it was made. A small one is fetched to the workspace when its session has
ended, and checked; of a large one the workspace gets stand-ins (:mod:`wes_bridge.data.stand_ins`), and its
bytes move when somebody needs them. An input is named to the node by what it can reach most cheaply: what it
keeps itself, by its own name; what another node keeps, by a signed URL of that; all else by a signed URL of
the service. Where two nodes do not reach each other the service brings the bytes to the workspace first; that
they do not is found out by trying, and remembered for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import shutil
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TypeVar

from wes_bridge.data.beneath import real_path
from wes_bridge.data.handing_out import HandingOut
from wes_bridge.data.parcels import Parcels, ParcelUrls
from wes_bridge.data.receiving import Leaving, Receiving
from wes_bridge.data.workspace import url_path
from wes_bridge.federation.bringing import PAUSES, Bringing, may_pass
from wes_bridge.federation.client import Broker, BrokerError
from wes_bridge.federation.dialect import BusyError, CannotAskError, Native
from wes_bridge.federation.render import OUTPUT, native_request
from wes_bridge.federation.replicas import Note, Replica, note_of, write_note
from wes_bridge.federation.spreading import spread
from wes_bridge.model.execution_broker import (
    Checksum,
    Data,
    ExecutionRequest,
    Image,
    Keep,
    Message,
    Session,
)
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StagedFile, StageMode, StepPlan
from wes_bridge.model.units import format_duration

Result = TypeVar("Result")
_SHA1 = re.compile(r"sha1\$[0-9a-f]{40}")
LEASE = 12 * 3600.0
"""Seconds for which a node keeps an output that nobody has fetched: the service may be away for a night."""
SPARE = 1.0
"""Seconds that a lease must have left when a step is told of what the node keeps; the engine renews it."""
_FREEING = 30.0
"""Seconds in which a node is told what it need not keep; of the rest the leases end."""
_AT_ONCE = 8
_SHUT_FOR = 600.0
"""Seconds for which two nodes that could not reach each other are not tried again."""
_NOT_READ = frozenset({"uri:unknown-url", "urn:wes-bridge:staging-failed"})
"""Kinds of messages with which a node says that it cannot have an input."""
_NAMESPACE = uuid.UUID("5f0a7c1e-6a52-4f0b-9a0e-2f0f0a2b7c11")


class NotServedYetError(OSError):
    """A file cannot be handed out yet: the service does not answer."""


@dataclass(frozen=True)
class Ways:
    """How bytes go between the service and such nodes, and from node to node.

    Attributes:
        handing: makes URLs of the service's files.
        receiving: fetches what nodes keep.
        threads: where that is done.
        bringing: fetches later what was left at its node.
        at_once: bytes of an output that are fetched with the end of its session.
        files_at_once: files of such an output.
        parcels: what goes to and from steps at brokers that keep nothing.
        urls: makes their URLs.
    """

    handing: HandingOut
    receiving: Receiving
    threads: Executor
    parcels: Parcels
    urls: ParcelUrls
    bringing: Bringing
    at_once: int
    files_at_once: int = 64


class Apart(Native):
    """Speaks to one such node.

    Args:
        ways: how bytes go.
        direct: whether it and other nodes may fetch from one another.
    """

    moves = True

    def __init__(self, ways: Ways, *, direct: bool = True) -> None:
        self._ways = ways
        self.direct = direct
        self._replicas = ways.bringing.replicas
        self._broker: Broker | None = None
        self._shut: dict[str, float] = {}

    def use(self, broker: Broker) -> None:
        """The broker that is spoken to."""
        self._broker = broker
        self._ways.bringing.know(broker)

    # ---- what it is told of inputs -----------------------------------------------------------------

    async def arrange(self, plan: StepPlan) -> StepPlan:
        """Have what :meth:`render` needs: folders in pieces, where something is placed in them, and signed
        URLs of what other nodes keep.

        Raises:
            CannotAskError: a file cannot be handed out.
        """
        try:
            staged = await self._in_thread(functools.partial(spread, plan.staged, self._is_linked))
        except UnicodeEncodeError as error:
            raise CannotAskError("a file cannot be handed out: its name is not UTF-8") from error
        except OSError as error:
            raise CannotAskError(f"a file cannot be handed out: {error.strerror or error}") from error
        others = {
            replica.folder: replica for replica, _ in self._elsewhere(plan) if not self._is_here(replica)
        }
        for replica in others.values():
            if self._is_direct(replica):
                try:
                    await self._ways.bringing.signed(replica)
                except BrokerError:  # if it is lost, that is found out when its bytes are needed
                    self._shut[replica.note.broker] = time.monotonic() + _SHUT_FOR
        return replace(plan, staged=staged)

    def render(self, plan: StepPlan, image: Image | None) -> ExecutionRequest:
        """The request: no location in it is a path of ours.

        Raises:
            CannotAskError: a file cannot be handed out.
        """
        try:
            staged = [self._handed(plan, item) for item in plan.staged]
        except NotServedYetError as error:  # a worker is up sooner than the API beside it
            raise BusyError(str(error)) from error
        except OSError as error:
            raise CannotAskError(f"a file cannot be handed out: {error.strerror or error}") from error
        request = native_request(replace(plan, staged=staged, stdout_url=None, stderr_url=None), image=image)
        known = {f"input-{number}": item for number, item in enumerate(staged)}
        data = [_kept(one) if _name(one) == OUTPUT else _expected(one, known) for one in request.data or ()]
        return request.model_copy(update={"data": data})

    def _handed(self, plan: StepPlan, item: StagedFile) -> StagedFile:
        if item.url is None or not item.url.startswith("file:"):
            return item
        real = real_path(url_path(item.url))
        url = self._reached(real, directory=item.directory)
        if url is None:
            run = str(uuid.uuid5(_NAMESPACE, plan.output_url))
            url = self._ways.handing.url(run, real, directory=item.directory)
        # a copy is updated, and brought to the place of the original (see _update)
        mode = StageMode.COPY if item.mode is StageMode.INPLACE else item.mode
        return replace(item, url=url, mode=mode)

    def _reached(self, real: str, *, directory: bool) -> str | None:
        """Where the node itself finds a file or folder: at its own place, or at another node."""
        found = self._replicas.find(real)
        if found is None:
            return None
        replica, inside = found
        if self._is_here(replica):
            return replica.location(inside, directory=directory)
        if replica.whole or not self._is_direct(replica):
            return None
        return replica.signed_location(inside, directory=directory)

    def _is_linked(self, real: str) -> bool:
        """Whether the node keeps what is at a path, and links it."""
        found = self._replicas.find(real)
        return found is not None and self._is_here(found[0])

    def reaches(self, real: str) -> bool:
        """Whether the node finds what is at a path without the workspace."""
        return self._reached(real, directory=False) is not None

    def holds(self, item: StagedFile) -> bool:
        """Whether the node has an input already."""
        found = self._found(item)
        return found is not None and self._is_here(found[0])

    def _is_here(self, replica: Replica) -> bool:
        """Whether the node keeps an output, and for long enough."""
        is_own = self._broker is not None and replica.note.broker == self._broker.name
        return is_own and not replica.doubted and replica.note.until > time.time() + SPARE

    def _is_direct(self, replica: Replica) -> bool:
        """Whether the node may fetch from the one that keeps an output."""
        name = replica.note.broker
        return (
            self.direct
            and self._ways.bringing.is_direct(name)
            and not replica.doubted
            and self._shut.get(name, 0.0) < time.monotonic()
        )

    def _found(self, item: StagedFile) -> tuple[Replica, str] | None:
        if item.url is None or not item.url.startswith("file:"):
            return None
        return self._replicas.find(real_path(url_path(item.url)))

    def _elsewhere(self, plan: StepPlan) -> list[tuple[Replica, str]]:
        """The inputs of a step that have only stand-ins in the workspace."""
        found = [self._found(item) for item in plan.staged]
        return [one for one in found if one is not None and not one[0].whole]

    def otherwise(self, plan: StepPlan, messages: list[Message]) -> bool:
        """Whether it makes sense to ask again, without inputs from other nodes: the node cannot read them."""
        if not any(message.kind in _NOT_READ for message in messages):
            return False
        return self._shut_out(plan)

    def _shut_out(self, plan: StepPlan) -> bool:
        """Remember that the node cannot fetch from those that keep a step's inputs; whether there are any."""
        names = {
            replica.note.broker
            for replica, _ in self._elsewhere(plan)
            if not self._is_here(replica) and self._is_direct(replica)
        }
        for name in names:
            self._shut[name] = time.monotonic() + _SHUT_FOR
        return bool(names)

    def notes(self, plan: StepPlan) -> list[str]:
        """How inputs come to the node that other nodes keep."""
        told: dict[str, None] = {}
        for replica, _ in self._elsewhere(plan):
            name = replica.note.broker
            if not self._is_here(replica):
                way = "directly" if self._is_direct(replica) else "by way of the workspace"
                told[f"inputs come from {name} {way}"] = None
        return list(told)

    # ---- what comes of a session -------------------------------------------------------------------

    async def forget(self, folder: Path, *, but: Callable[[str], bool] = lambda _folder: False) -> None:
        """Have the node free the outputs below a folder: their run has ended.

        Args:
            folder: of the run, links followed.
            but: which outputs stay, by their real paths.
        """
        self._ways.bringing.allowance.forget(folder)
        name = self._bound().name
        mine = [one for one in self._replicas.below(str(folder)) if one.note.broker == name]
        waiting = [one.note.location for one in mine if not but(one.folder)]
        for one in mine:
            self._replicas.drop(one)

        async def free() -> None:
            while waiting:
                with contextlib.suppress(BrokerError):  # else its lease ends
                    await self._bound().free(waiting.pop())

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FREEING):
                await asyncio.gather(*(free() for _ in range(_AT_ONCE)))

    async def outcome(self, plan: StepPlan, session: Session) -> str | None:  # type: ignore[override]
        """Fetch what the session has left; the session says the rest. As text: why its output is lost."""
        has_run = session.executable is not None and session.executable.exit_code is not None
        if session.phase is not Phase.COMPLETED and not has_run:
            self._doubt(plan)
            return None
        clock = asyncio.get_running_loop().time
        until, pauses = clock() + self._ways.bringing.patience, iter(PAUSES)
        while True:
            try:
                await self._fetch_all(plan, session)
                return None
            except (BrokerError, OSError, ValueError) as error:
                pause = next(pauses, PAUSES[-1])
                if clock() + pause > until or not may_pass(error):
                    return f"its output cannot be fetched: {error}"
            await asyncio.sleep(pause)  # a node that is restarted has all of it when it is back

    async def _fetch_all(self, plan: StepPlan, session: Session) -> None:
        output = next((one for one in session.data or () if _name(one) == OUTPUT), None)
        if output is not None and output.kept is not None and output.location:
            await self._fetch(plan, output.location, output.kept.expires.timestamp())
            for changed in await self._in_thread(functools.partial(_update, plan)):
                self._drop(changed)
        await self._fetch_streams(plan, session)

    async def _fetch(self, plan: StepPlan, location: str, until: float) -> None:
        broker, target = self._bound(), url_path(plan.output_url)
        until = min(until, time.time() + LEASE)  # its clock may be ahead
        note = Note(broker=broker.name, location=location, until=until)
        if await self._in_thread(functools.partial(_is_there, target)):
            return  # an engine before us fetched it; what it has left there, its note tells
        if not location.endswith("/"):  # a file might never end: nothing says how large it is
            raise BrokerError(f"{broker.name} says that its output is no folder")
        url, signed_until = await broker.signed(location)
        stop = Event()
        leaving = Leaving(
            self._ways.at_once,
            self._ways.files_at_once,
            lambda manifest: write_note(note_of(target), note, manifest),
        )
        updates = any(item.mode is StageMode.INPLACE for item in plan.staged)
        receive = functools.partial(
            self._ways.receiving.receive,
            url,
            target,
            stop,
            leaving=None if updates else leaving,
            admit=functools.partial(self._ways.bringing.allowance.take, target),
        )
        try:
            whole = await self._in_thread(receive)
        except asyncio.CancelledError:
            stop.set()
            raise
        place = await self._in_thread(functools.partial(real_path, target))
        self._replicas.put(Replica(place, note, whole, url, signed_until))

    def _doubt(self, plan: StepPlan) -> None:
        """A session failed before its command began: perhaps nodes do not reach each other, or the node has
        lost what it keeps."""
        if self._shut_out(plan):
            return
        for item in plan.staged:
            found = self._found(item)
            if found is not None and found[0].whole:
                self._replicas.drop(found[0])
            elif found is not None:
                found[0].doubted = True

    def _drop(self, real: str) -> None:
        found = self._replicas.find(real)
        if found is not None:
            self._replicas.drop(found[0])

    async def _fetch_streams(self, plan: StepPlan, session: Session) -> None:
        streams = session.executable.streams if session.executable else None
        for name, wanted in (("stdout", plan.stdout_url), ("stderr", plan.stderr_url)):
            stream = getattr(streams, name, None)
            is_redirected = getattr(plan, name) is not None
            if wanted and not is_redirected and stream is not None and stream.locations:
                await self._bound().download(stream.locations[0], url_path(wanted))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._ways.threads, work)

    def _bound(self) -> Broker:
        if self._broker is None:
            raise BrokerError("its broker is not known")
        return self._broker


def _update(plan: StepPlan) -> list[str]:
    """Bring what the command has changed in place to where it is, and leave a link, as where a disk is
    shared. What is a link already was brought there before. Returns what has changed."""
    changed: list[str] = []
    output = url_path(plan.output_url)
    inside = f"{plan.workdir}/"
    for item in plan.staged:
        if item.mode is StageMode.INPLACE and item.url is not None and item.path.startswith(inside):
            name = output / item.path.removeprefix(inside)
            if not name.is_symlink() and name.exists():
                original = Path(real_path(url_path(item.url)))
                if original.is_dir():
                    shutil.rmtree(original)
                name.rename(original)
                name.symlink_to(original)
                changed += [str(original), str(name)]
    return changed


def _is_there(target: Path) -> bool:
    """Whether an output was fetched before; else there is a folder for it."""
    if target.exists():
        return True
    target.parent.mkdir(parents=True, exist_ok=True)
    return False


def _name(data: Data) -> str | None:
    return data.meta.name if data.meta is not None else None


def _kept(output: Data) -> Data:
    return output.model_copy(
        update={"location": None, "keep": Keep(lease=format_duration(timedelta(seconds=LEASE)))}
    )


def _expected(data: Data, known: dict[str, StagedFile]) -> Data:
    """Say how a file must be that is fetched, where we know it."""
    item = known.get(_name(data) or "")
    if item is None or item.directory or not (data.location or "").startswith("http"):
        return data
    if item.checksum is None or not _SHA1.fullmatch(item.checksum):
        return data  # a job may say anything of size and checksum; what a step has made has both
    checksum = Checksum(type="sha1", value=item.checksum.removeprefix("sha1$"))
    update: dict[str, object] = {"checksum": checksum}
    if item.size is not None:
        update["size"] = item.size
    return data.model_copy(update=update)
