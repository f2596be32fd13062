"""The reference dialect with a broker that shares no disk with us: all files of a step go over HTTP.

The broker fetches a script and the inputs, by URLs of the service that are signed and short. The script runs
the command and sends what it leaves to the service (``parcel_script``); there it is unpacked to its place in
one step. What is between is a parcel (``data/parcels.py``), whose name the session's own data tells, so an
engine that takes the run up finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import posixpath
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from wes_bridge.data.beneath import real_path
from wes_bridge.data.parcels import (
    ALL,
    BEGAN,
    END,
    PACK,
    SCRIPT,
    STDERR,
    STDOUT,
    TAR,
    Given,
    Parcel,
)
from wes_bridge.data.unpacking import leads_inside, pack_entries, tar_entries, unpack
from wes_bridge.data.workspace import url_path
from wes_bridge.federation.apart import Ways
from wes_bridge.federation.box import local_path
from wes_bridge.federation.client import BrokerError
from wes_bridge.federation.dialect import CannotAskError
from wes_bridge.federation.parcel_script import (
    BOOT,
    MISSING,
    UNSENT,
    UNUSABLE,
    WAYS,
    Put,
    Sending,
    parcel_script,
)
from wes_bridge.federation.reference import (
    FETCHED,
    SESSIONS,
    STOPPING,
    Reference,
    Shared,
    called,
    data_of,
    is_below,
    is_web,
    messages_of,
    volume_of,
)
from wes_bridge.federation.wrapper import CANNOT_TIME, CONTENT, NOTES, TIME
from wes_bridge.model.data_urls import data_path_of
from wes_bridge.model.execution_broker import Data, ExecutionRequest, Image, Session, Volume
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StagedFile, StageMode, StepOutcome, StepPlan, Times

ONE_BY_ONE = 8
"""Files that the broker fetches each by itself, with a container for each; more come in one archive."""
DATA = "parcel"
"""Name of the data resource that is the script."""
GIB = 1 << 30
_CODE = 4
"""Digits of an exit code, and one."""
_LONGEST_REWRITE = 64 << 20
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Place:
    """Where a staged thing comes from.

    Attributes:
        put: how the script treats it.
        given: what we give for it; None: somebody else does, or there is nothing to fetch.
        url: where the broker fetches it by itself; None: it does not.
    """

    put: Put
    given: Given | None = None
    url: str | None = None


class ReferenceApart(Reference):
    """Speaks to one such broker.

    Args:
        ways: how bytes go.
        at_once: sessions it may have of this process.
        default_image: for steps that name none.
        most: bytes that a step may leave.
    """

    moves = True

    def __init__(
        self, ways: Ways, at_once: int = 8, default_image: Image | None = None, most: int = 1024 * GIB
    ) -> None:
        super().__init__(Shared({}), at_once, default_image)
        self._ways = ways
        self._most = most

    # --- asking ---

    def render(self, plan: StepPlan, image: Image | None) -> ExecutionRequest:
        """The request; see the base class. It names a parcel that is not made before an offer is accepted."""
        image = self._image(plan, image)
        name = str(uuid.uuid4())
        try:
            places = self._places(plan, name)
            fetched = [(SCRIPT, self._ways.urls.to_fetch(name, SCRIPT))]
            if any(place.put.together is not None for place in places):
                fetched.append((ALL, self._ways.urls.to_fetch(name, ALL)))
        except OSError as error:
            raise CannotAskError(f"a file cannot be handed out: {error.strerror or error}") from error
        fetched += [(str(place.put.fetched), place.url) for place in places if place.url is not None]
        data, volumes = list[Data](), list[Volume]()
        for what, url in fetched:
            resource = DATA if what == SCRIPT else f"input-{what}"
            data.append(data_of(resource, url))
            volumes.append(volume_of(resource, f"{_got(plan)}/{what}", writable=False))
        command = ["sh", "-c", BOOT, "sh", _got(plan)]
        request = self._request(plan, image, command, data, volumes)
        if request.executable is not None:
            request.executable.root = plan.root  # additive: our own node can run it as a plain process, too
        self._reserve(plan)
        return request

    def notes(self, plan: StepPlan) -> list[str]:
        """See the base class."""
        return [*super().notes(plan), "its streams come when the command has ended, with its output"]

    def _lateness(self, plan: StepPlan, fetched: list[str | None]) -> int:
        """URLs are new each time: what is late is the step."""
        return max(self._too_late[plan.root], super()._lateness(plan, fetched))

    def _places(self, plan: StepPlan, name: str) -> list[_Place]:
        files = [item for item in plan.staged if _is_local(item) and not item.directory]
        is_many = len(files) > ONE_BY_ONE
        return [self._place(plan, number, item, name, is_many) for number, item in enumerate(plan.staged)]

    def _place(self, plan: StepPlan, number: int, item: StagedFile, name: str, is_many: bool) -> _Place:
        if not (is_below(item.path, plan.root) or is_below(item.path, plan.workdir)):
            raise CannotAskError(f"it cannot put a file at {item.path}, outside the step's own folders")
        if item.url is None:
            if item.contents is not None and "\0" in item.contents:
                raise CannotAskError(f"it cannot write {item.path}, whose text has a NUL")
            return _Place(Put(item.path, item.contents, item.directory, number=number))
        if item.mode is StageMode.INPLACE:
            raise CannotAskError(f"it cannot change {item.url} in place (InplaceUpdateRequirement)")
        is_copied = item.mode is not StageMode.READ or is_below(item.path, plan.workdir)
        if is_web(item.url):
            if item.directory:
                raise CannotAskError(f"it cannot stage {item.url}: only single files that are read or copied")
            put = Put(item.path, fetched=str(number), copied=is_copied, number=number)
            return _Place(put, url=item.url)
        if not _is_local(item):
            raise CannotAskError(f"it stages only file and http(s) URLs, not {item.url}")
        real = real_path(url_path(item.url))
        if item.directory or is_many:
            put = Put(item.path, together=str(number), number=number)
            return _Place(put, Given(real, item.directory, together=True))
        status = Path(real).stat()
        put = Put(
            item.path,
            fetched=str(number),
            copied=is_copied,
            executable=bool(status.st_mode & 0o100),
            number=number,
        )
        url = self._ways.urls.to_fetch(name, str(number))
        return _Place(put, Given(real, directory=False, together=False), url)

    # --- a session ---

    async def prepare(self, plan: StepPlan, offer: Session) -> None:
        """See the base class: here it is the parcel that is made."""
        self._asking.pop(plan.output_url, None)
        name = _parcel_name(offer)
        if name is None:
            raise BrokerError("its offer does not name the parcel that was asked for")
        try:
            await self._in_thread(self._make, plan, name)
        except (OSError, ValueError) as error:
            raise BrokerError(f"the session's parcel cannot be made: {error}") from error

    def _make(self, plan: StepPlan, name: str) -> None:
        places = self._places(plan, name)
        before, after = self._ways.urls.to_send(name, self._most)
        streams = [
            stream
            for stream, redirected, url in (
                (STDOUT, plan.stdout, plan.stdout_url),
                (STDERR, plan.stderr, plan.stderr_url),
            )
            if not redirected and url
        ]
        what = Sending(
            argv=plan.argv,
            environment=plan.environment,
            workdir=plan.workdir,
            stdin=plan.stdin,
            root=plan.root,
            stdout=_stream(plan, plan.stdout, STDOUT),
            stderr=_stream(plan, plan.stderr, STDERR),
            streams=streams,
            puts=[place.put for place in places],
            fetched=_got(plan),
            archive=ALL if any(place.put.together is not None for place in places) else None,
            before=before,
            after=after,
            time_limit=plan.time_limit,
        )
        given = {place.put.number: place.given for place in places if place.given is not None}
        for item in given.values():
            Path(item.path).stat()  # what is gone is told now, and not by the broker
        parcel = self._ways.parcels.make(name, _folder(plan, name))
        parcel.make(parcel_script(what).encode(errors="surrogateescape"), given)

    async def ended(self, plan: StepPlan, session: Session) -> bool:
        """Whether the script has said its last word: the broker says so some ten seconds later."""
        parcel = await self._parcel_of(session)
        return parcel is not None and await self._in_thread(parcel.has, END)

    async def outcome(self, plan: StepPlan, session: Session) -> StepOutcome | str:
        """What the script sent; the session itself says only whether the container could be run."""
        parcel = await self._parcel_of(session)
        if parcel is None:
            return "its session does not name a parcel that is known here"
        return await self._in_thread(self._outcome_of, plan, session, parcel)

    def _outcome_of(self, plan: StepPlan, session: Session, parcel: Parcel) -> StepOutcome | str:
        ending = parcel.word(END)
        if ending is None:
            return self._no_ending(plan, session, parcel)
        lines = ending.splitlines()
        word, _, rest = (lines[0] if lines else "").partition(" ")
        image = called(session.executable.image if session.executable else None)
        times = Times(started=parcel.sent_at(BEGAN), finished=parcel.sent_at(END))
        if word == "exit" and rest.isascii() and rest.isdigit() and len(rest) < _CODE:
            notes = self._take(plan, parcel, lines[1:])
            if isinstance(notes, str):
                return notes
            return StepOutcome(exit_code=int(rest), times=times, hint="; ".join(notes) or None)
        if word == TIME:
            notes = self._take(plan, parcel, lines[1:])
            problem = f"the command was ended after its time limit of {plan.time_limit} s"
            return StepOutcome(problem=problem, by_command=True, times=times)
        if word == CANNOT_TIME:
            limit = f"the tool's time limit of {plan.time_limit} s could not be kept"
            return StepOutcome(problem=f"the image {image} has no 'sleep', so {limit}")
        return self._not_run(plan, parcel, image, (word, rest))

    def _not_run(self, plan: StepPlan, parcel: Parcel, image: str, said: tuple[str, str]) -> str:
        """Why another session is to be tried."""
        word, rest = said
        why = (parcel.refused or rest or "the script does not say why")[:500]
        if word == MISSING:
            self._too_late[plan.root] += 1
            return f"the container was started without its input {_input(plan, rest)}: it came too late"
        if word == UNSENT:
            return f"what the command left could not be sent: {why}"
        if word == UNUSABLE:
            return f"the image {image} cannot be used: {why}"
        return "it was stopped" if word == "stopped" else "it ended in a way that makes no sense"

    def _take(self, plan: StepPlan, parcel: Parcel, said: list[str]) -> list[str] | str:
        """Unpack what came to its place, in one step; what was left out, or why it cannot be."""
        target = local_path(plan.output_url)
        roots = [line.removeprefix("root ") for line in said if line.startswith("root /")]
        root = roots[-1] if roots else plan.root
        notes: list[str] = []
        try:
            if not target.exists():
                notes = self._unpack(plan, parcel, target, root)
            for name, url in ((STDOUT, plan.stdout_url), (STDERR, plan.stderr_url)):
                if url is not None and parcel.has(name):
                    local_path(url).parent.mkdir(parents=True, exist_ok=True)
                    (parcel.folder / name).replace(local_path(url))
        except (OSError, ValueError) as error:
            return f"its output cannot be taken over: {error}"
        parcel.empty()
        return notes

    @staticmethod
    def _unpack(plan: StepPlan, parcel: Parcel, target: Path, root: str) -> list[str]:
        name = TAR if parcel.has(TAR) else PACK
        source = parcel.open(name)
        if source is None:
            raise ValueError("its last word came without it")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with source:
                entries = tar_entries(source) if name == TAR else pack_entries(source)
                notes = unpack(entries, source, part, functools.partial(_leads, plan, root))
            _rewrite(plan, part, root)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return notes

    def _no_ending(self, plan: StepPlan, session: Session, parcel: Parcel) -> str:
        said = "; ".join(message.text() for message in messages_of(session))
        said = f" (it says: {said})" if said else ""
        image = called(session.executable.image if session.executable else None)
        if parcel.has(BEGAN):
            refused = f"; the service refused {parcel.refused}" if parcel.refused else ""
            return (
                "the container ended without a word from the command: killed, out of memory, or without a way"
                f" to the service?{refused}{said}"
            )
        failed = [item.meta.name for item in session.data or [] if item.meta and str(item.phase) == "FAILED"]
        if failed:
            return f"{session.phase}: its {' and '.join(map(str, failed))} failed{said}"
        if session.phase is Phase.COMPLETED:
            return (
                f"the command was not begun: the image {image} has nothing that could send its output to"
                f" {self._ways.urls.host}, which takes {WAYS}; or what it has cannot reach that, or does not"
                f" believe its certificate{said}"
            )
        if session.phase is Phase.CANCELLED:
            return f"{session.phase}, not by us{said}"
        if session.executable is not None and str(session.executable.phase) == "FAILED":
            return f"the broker cannot use the image {image}{said}"
        self._too_late[plan.root] += 1
        return (
            f"the command never began: the image {image} has no sh, its entry point does not run what it is"
            f" given, or the broker did not fetch the script from {self._ways.urls.host} in time{said}"
        )

    async def stop(self, session: Session) -> None:
        """Have the script end the command: to the broker, cancelling is a word. Waits until it has ended."""
        name = _parcel_name(session)
        parcel = await self._parcel_of(session)
        if parcel is None or name is None:
            return
        await self._in_thread(parcel.stop)
        until = time.monotonic() + STOPPING
        # the script asks now and then, in another process: there is no event to wait for
        while time.monotonic() < until and await self._in_thread(_runs, parcel):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await self._in_thread(self._ways.parcels.remove, name)

    async def forget(self, folder: Path, *, but: Callable[[str], bool] = lambda _folder: False) -> None:
        """Delete the parcels of a run that has ended."""
        with contextlib.suppress(OSError):
            await self._in_thread(self._ways.parcels.remove_below, folder)

    async def _parcel_of(self, session: Session) -> Parcel | None:
        name = _parcel_name(session)
        return None if name is None else await self._in_thread(self._ways.parcels.find, name)

    async def _in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._ways.threads, work, *arguments)


def _parcel_name(session: Session) -> str | None:
    """As the session's own data says it: so it is found again after a restart of ours."""
    for item in session.data or []:
        if item.meta and item.meta.name == DATA and item.location:
            place = data_path_of(item.location)
            return place.session if place is not None and place.path == SCRIPT else None
    return None


def _runs(parcel: Parcel) -> bool:
    return parcel.has(BEGAN) and not parcel.has(END)


def _folder(plan: StepPlan, name: str) -> Path:
    return local_path(plan.output_url).parent / SESSIONS / name


def _got(plan: StepPlan) -> str:
    return f"{plan.root}/{FETCHED}"


def _stream(plan: StepPlan, redirected: str | None, name: str) -> str:
    return f"{plan.workdir}/{redirected}" if redirected else f"{plan.root}/{NOTES}/{name}"


def _is_local(item: StagedFile) -> bool:
    return item.url is not None and item.url.partition(":")[0].lower() == "file"


def _input(plan: StepPlan, number: str) -> str:
    if number.isascii() and number.isdigit() and int(number) < len(plan.staged):
        return str(plan.staged[int(number)].path)
    return f"({number})" if number == ALL else ""


def _leads(plan: StepPlan, root: str, path: str, target: str) -> str | None:
    """Where a link of the output leads here: inside, or to the input that it led to there."""
    if not target.startswith("/"):
        return leads_inside(path, target)
    there = plan.root + target.removeprefix(root) if target.startswith(f"{root}/") else target
    if is_below(there, plan.workdir):
        inside = PurePosixPath(there).relative_to(plan.workdir)
        return leads_inside(path, posixpath.relpath(str(inside), posixpath.dirname(path) or "."))
    got = re.fullmatch(rf"{re.escape(_got(plan))}/(\d{{1,9}})(/{CONTENT})?", there)
    if got is not None and int(got[1]) < len(plan.staged) and _is_local(plan.staged[int(got[1])]):
        return real_path(url_path(str(plan.staged[int(got[1])].url)))
    for item in _inputs(plan):
        if ".." not in PurePosixPath(there).parts and is_below(there, item.path):
            source = real_path(url_path(str(item.url)))
            inside = PurePosixPath(there).relative_to(item.path)
            return str(PurePosixPath(source) / inside)
    return None


def _inputs(plan: StepPlan) -> Iterator[StagedFile]:
    return (item for item in plan.staged if _is_local(item))


def _rewrite(plan: StepPlan, folder: Path, root: str) -> None:
    """Paths that the command has written for us are those of the plan, wherever its root was there."""
    if root == plan.root or len(root) < len("/tmp"):  # noqa: S108 - a length
        return
    for name in plan.rewrite:
        path = folder / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LONGEST_REWRITE:
            content = path.read_bytes()
            path.write_bytes(content.replace(root.encode(errors="surrogateescape"), plan.root.encode()))
