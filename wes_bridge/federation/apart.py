"""A native node that shares no disk with the service: everything goes over HTTP.

Inputs are URLs of the service, signed for what is staged. The node keeps the output where it was made; when
the session has ended it is fetched to the workspace, and checked. What is fetched appears in one step, so an
engine that takes the run up finds all of it or nothing. Until the run ends the node keeps it, too, and a step
that goes there links it. Which outputs those are is remembered here only: an engine that takes the run up
hands out its own files, and the node's leases end by themselves.
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
from pathlib import Path
from threading import Event
from typing import TypeVar

from wes_bridge.data.beneath import real_path
from wes_bridge.data.handing_out import HandingOut
from wes_bridge.data.parcels import Parcels, ParcelUrls
from wes_bridge.data.receiving import Receiving
from wes_bridge.data.workspace import url_path
from wes_bridge.federation.client import Broker, BrokerError
from wes_bridge.federation.dialect import CannotAskError, Native
from wes_bridge.federation.render import OUTPUT, native_request
from wes_bridge.model.data_urls import quote_path
from wes_bridge.model.execution_broker import Checksum, Data, ExecutionRequest, Image, Keep, Session
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StagedFile, StageMode, StepPlan

Result = TypeVar("Result")
_SHA1 = re.compile(r"sha1\$[0-9a-f]{40}")
LEASE = "PT12H"
"""How long a node keeps an output that nobody has fetched: the service may be away for a night."""
GOOD_FOR = 11 * 3600.0
"""Seconds for which a step is told of what the node keeps: it should be there when its turn comes."""
_FREEING = 30.0
"""Seconds in which a node is told what it need not keep; of the rest the leases end."""
_AT_ONCE = 8
_NAMESPACE = uuid.UUID("5f0a7c1e-6a52-4f0b-9a0e-2f0f0a2b7c11")


@dataclass(frozen=True)
class Ways:
    """How bytes go between the service and such nodes.

    Attributes:
        handing: makes URLs of the service's files.
        receiving: fetches what nodes keep.
        threads: where that is done.
        parcels: what goes to and from steps at brokers that keep nothing.
        urls: makes their URLs.
    """

    handing: HandingOut
    receiving: Receiving
    threads: Executor
    parcels: Parcels
    urls: ParcelUrls


@dataclass(frozen=True)
class _There:
    """An output at the node.

    Attributes:
        location: its URL.
        until: when it is not to be used any more, by the monotonic clock.
    """

    location: str
    until: float


class Apart(Native):
    """Speaks to one such node.

    Args:
        ways: how bytes go.
    """

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._broker: Broker | None = None
        self._kept: dict[str, _There] = {}

    def use(self, broker: Broker) -> None:
        """The broker that is spoken to."""
        self._broker = broker

    def render(self, plan: StepPlan, image: Image | None) -> ExecutionRequest:
        """The request: no location in it is a path of ours.

        Raises:
            CannotAskError: a file cannot be handed out.
        """
        try:
            staged = [self._handed(plan, item) for item in plan.staged]
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
        url = self._there(real, directory=item.directory)
        if url is None:
            run = str(uuid.uuid5(_NAMESPACE, plan.output_url))
            url = self._ways.handing.url(run, real, directory=item.directory)
        # a copy is updated, and brought to the place of the original (see _update)
        mode = StageMode.COPY if item.mode is StageMode.INPLACE else item.mode
        return replace(item, url=url, mode=mode)

    def _there(self, real: str, *, directory: bool) -> str | None:
        """What the node itself calls a file or folder, if it keeps it."""
        folder, inside = real, ""
        while folder not in self._kept:
            folder, _, name = folder.rpartition("/")
            inside = f"{name}/{inside}" if inside else name
            if not folder:
                return None
        found = self._kept[folder]
        if time.monotonic() > found.until:
            return None
        return f"{found.location}{quote_path(inside)}{'/' if directory and inside else ''}"

    async def forget(self, folder: Path) -> None:
        """Free at the node what it keeps of the outputs below a folder: their run has ended."""
        mine = [path for path in self._kept if Path(path).is_relative_to(folder)]
        waiting = [self._kept.pop(path).location for path in mine]

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
        output = next((one for one in session.data or () if _name(one) == OUTPUT), None)
        try:
            if output is not None and output.kept is not None and output.location:
                await self._fetch(output.location, url_path(plan.output_url))
                for changed in await self._in_thread(functools.partial(_update, plan)):
                    self._drop(changed)
            await self._fetch_streams(plan, session)
        except (BrokerError, OSError, ValueError) as error:
            return f"its output cannot be fetched: {error}"
        return None

    async def _fetch(self, location: str, target: Path) -> None:
        broker, asked = self._bound(), time.monotonic()
        if not await self._in_thread(functools.partial(_is_there, target)):
            url = await broker.signed(location)
            stop = Event()
            try:
                await self._in_thread(functools.partial(self._ways.receiving.receive, url, target, stop))
            except asyncio.CancelledError:
                stop.set()
                raise
        if location.endswith("/"):
            place = await self._in_thread(functools.partial(real_path, target))
            self._kept[place] = _There(location, asked + GOOD_FOR)

    def _doubt(self, plan: StepPlan) -> None:
        """A session failed before its command began: perhaps the node has lost what it keeps."""
        for item in plan.staged:
            if item.url is not None and item.url.startswith("file:"):
                self._drop(real_path(url_path(item.url)))

    def _drop(self, real: str) -> None:
        for folder in [path for path in self._kept if f"{real}/".startswith(f"{path}/")]:
            del self._kept[folder]

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
    return output.model_copy(update={"location": None, "keep": Keep(lease=LEASE)})


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
