"""The reference dialect: what the Java broker of the IVOA ExecutionBroker's authors does today.

It mounts files, fetches HTTP ones, and runs a container; there is no working directory, no streams, no exit
code, no outputs, and cancelling only changes a word. So a step's files go through a folder that the broker's
container engine and we both see (``box``), and its command is run by a script in that folder (``wrapper``).
What was found with the real broker, and why each thing is done as it is, is in ``docs/interop.md``.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from pathlib import Path, PurePosixPath

from wes_bridge.federation.box import Box, Mounted, local_path
from wes_bridge.federation.client import BrokerError
from wes_bridge.federation.dialect import BusyError, CannotAskError, Together
from wes_bridge.federation.wrapper import CANNOT_TIME, NOTES, SCRIPT, TIME, Fetched, Wrapped, script
from wes_bridge.model.execution_broker import (
    DOCKER_CONTAINER,
    Compute,
    Data,
    Executable,
    ExecutionRequest,
    Image,
    Message,
    Meta,
    MinMax,
    RequestedSchedule,
    RequestedScheduleBlock,
    Session,
    Volume,
)
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StagedFile, StageMode, StepOutcome, StepPlan, Times
from wes_bridge.model.units import format_duration, format_second, gib_ceil, utcnow

LONGEST = 255
"""Letters that a word of the command, a URL, a path or a name may have: the broker answers 500 to more."""
LONGEST_SESSION = timedelta(hours=2)
SHORTEST_SESSION = timedelta(seconds=30)
"""Durations for which there are offers; without one the broker takes the longest."""
MEMORY = 4
"""GiB asked for where the step does not say; without a figure the broker takes one that makes no sense."""
RESERVED = 15.0
"""Seconds a place is kept for a step that has asked and not accepted."""
HEAD_STARTS = (timedelta(seconds=20), timedelta(minutes=2), timedelta(minutes=6), timedelta(minutes=12))
"""How long before the start an HTTP input's download may begin, by how often it came too late: the broker
starts the container at its time and leaves out the mounts of what it has not begun to fetch."""
FEW, EACH = 4, timedelta(seconds=2)
"""Downloads that fit into the above; time for each more, since one thread makes them all."""
LINGER = 3.0
"""Seconds a file may take to be seen here after it was written elsewhere, as on a network file system."""
STOPPING = 15.0
"""Seconds a cancelled command has to end."""
BOX, FETCHED = "workdir", ".http"
"""Name of the data resource that is the box; folder below the step's root for what the broker fetches."""
SESSIONS = "sessions"
"""Folder, beside a step's outputs, of the boxes of its sessions."""
_UNSAFE = frozenset(" %:?#\\\"'")
_PROBLEMS = {
    TIME: "the command was ended after its time limit of {limit} s",
    CANNOT_TIME: "the image {image} has no 'sleep', so the tool's time limit of {limit} s could not be kept",
}


class _How(Enum):
    """How a staged file gets to the container."""

    PLACE = auto()
    """Put in the box, by us."""
    MOUNT = auto()
    """Mounted from where it is."""
    FETCH = auto()
    """Fetched by the broker."""


@dataclass(frozen=True)
class Shared:
    """Folders of this machine that the broker's container engine sees too, and what it calls them."""

    folders: Mapping[Path, PurePosixPath]

    def there(self, path: Path) -> PurePosixPath | None:
        """What the engine calls a path of this machine; None when it does not see it."""
        for here, there in self.folders.items():
            if path.is_relative_to(here):
                return there / path.relative_to(here)
        return None

    def here(self, path: PurePosixPath) -> Path | None:
        """The reverse of :meth:`there`."""
        for here, there in self.folders.items():
            if path.is_relative_to(there):
                return here / path.relative_to(there)
        return None


class Reference(Together):
    """Speaks to one such broker.

    Args:
        shared: what we and its engine both see; the workspace must be in it.
        at_once: sessions it may have of this process: its own bookings hold nothing back.
        default_image: for steps that name none, as the broker calls it; None: they are not sent there.
        now: tells the time; a parameter for tests.
    """

    name = "reference"

    def __init__(
        self,
        shared: Shared,
        at_once: int = 8,
        default_image: Image | None = None,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._shared = shared
        self._at_once = at_once
        self._default_image = default_image
        self._now = now
        self._asking: dict[str, float] = {}
        self._held: set[str] = set()
        self._too_late: Counter[str] = Counter()

    # --- asking ---

    def render(self, plan: StepPlan, image: Image | None) -> ExecutionRequest:
        """The request; it names a folder that is not made before an offer is accepted.

        Raises:
            BusyError: it has as many of our sessions as it may have.
            CannotAskError: the step needs what the broker cannot do.
        """
        image = self._image(plan, image)
        box, root = self._new_box(plan)
        data = [data_of(BOX, root)]
        volumes = [volume_of(BOX, plan.root, writable=True)]
        for number, mount in enumerate(box.mounts[1:]):
            data.append(data_of(f"{BOX}-{number}", f"{root.removesuffix('/fs')}/{mount.inside}"))
            volumes.append(volume_of(f"{BOX}-{number}", mount.path, writable=True))
        for number, item in enumerate(plan.staged):
            how, location = self._how(plan, item)
            name = f"input-{number}"
            if how is _How.MOUNT:
                data.append(data_of(name, location))
                volumes.append(volume_of(name, item.path, item.mode is StageMode.INPLACE))
            elif how is _How.FETCH:
                data.append(data_of(name, location))
                volumes.append(volume_of(name, _fetched(plan, number), writable=False))
        command = ["sh", f"{plan.root}/{NOTES}/{SCRIPT}"]
        request = self._request(plan, image, command, data, volumes)
        self._reserve(plan)
        return request

    def _request(
        self,
        plan: StepPlan,
        image: Image,
        command: list[str],
        data: list[Data],
        volumes: list[Volume],
    ) -> ExecutionRequest:
        """What the broker is told, of which nothing is too long for it."""
        request = ExecutionRequest(
            executable=Executable(
                kind=DOCKER_CONTAINER, meta=Meta(name=plan.name[-LONGEST:]), image=image, command=command
            ),
            compute=Compute(
                meta=Meta(name="compute"),
                cores=MinMax(min=max(1, math.ceil(plan.resources.cores_min))),
                memory=MinMax(min=_memory(plan)),
                volumes=volumes,
            ),
            data=data,
            schedule=self._schedule(plan, [item.location for item in data if is_web(item.location)]),
        )
        _check_lengths(request)
        return request

    def _image(self, plan: StepPlan, image: Image | None) -> Image:
        """What the step runs in.

        Raises:
            CannotAskError: there is nothing.
        """
        if plan.containers == "never":
            raise CannotAskError("it runs only containers, and this run uses none (containers: never)")
        image = image or self._default_image
        if image is not None and image.pull is False:
            raise CannotAskError(
                f"it would pull {called(image)}, which the tool names only by dockerImageId: give the tool a"
                " dockerPull, or this broker an entry under 'images'"
            )
        if image is None:
            raise CannotAskError(
                "it runs only containers: give the tool a DockerRequirement, or the service a default_image"
            )
        return image

    def notes(self, plan: StepPlan) -> list[str]:
        """What the broker does otherwise than the step asks."""
        found = []
        if not plan.network:
            found.append("the command has a network there although the tool does not ask for one")
        if plan.resources.scratch_min is not None:
            found.append("no scratch space is set aside there")
        if plan.resources.cores_max or plan.resources.memory_max:
            found.append(
                "the tool's upper limits of cores and memory are not kept there: it gets twice the least"
            )
        if plan.time_limit and timedelta(seconds=plan.time_limit) > LONGEST_SESSION:
            found.append(
                "sessions of more than 2 hours cannot be asked for there; this one is not ended, though"
            )
        return found

    def _how(self, plan: StepPlan, item: StagedFile) -> tuple[_How, str]:
        """How a file gets there, and the URL the broker is told, if it is told one."""
        is_ours = is_below(item.path, plan.root) or is_below(item.path, plan.workdir)
        if item.url is None:
            return _placed(item, is_ours)
        scheme = item.url.partition(":")[0].lower()
        if scheme in ("http", "https"):
            if item.directory or item.mode is StageMode.INPLACE:
                raise CannotAskError(f"it cannot stage {item.url}: only single files that are read or copied")
            if not is_ours:
                raise CannotAskError(f"it cannot put what it fetches from {item.url} at {item.path}")
            return _How.FETCH, item.url
        if scheme != "file":
            raise CannotAskError(f"it stages only file and http(s) URLs, not {item.url}")
        there = self._shared.there(local_path(item.url))
        in_place = item.mode is StageMode.INPLACE
        if in_place and (there is None or is_below(item.path, plan.workdir)):
            raise CannotAskError(f"it cannot change {item.url} in place (InplaceUpdateRequirement)")
        mountable = there is not None and _is_plain(str(there)) and _is_plain(item.path)
        if mountable and (
            in_place or (item.mode is StageMode.READ and not is_below(item.path, plan.workdir))
        ):
            return _How.MOUNT, f"file://{there}"
        if in_place:
            raise CannotAskError(f"it cannot mount {item.url}: its name is too long, or has odd letters")
        return _placed(item, is_ours)

    def _new_box(self, plan: StepPlan) -> tuple[Box, str]:
        """A box with a name that no other session has, and what the broker is told of it."""
        parent = _sessions(plan)
        if not self._shared.folders:
            raise CannotAskError(
                "it is only listed: a broker of the reference dialect must be in the configuration, with the"
                " folders that it shares"
            )
        folder = parent / uuid.uuid4().hex[:16]
        there = self._shared.there(folder)
        if there is None:
            raise CannotAskError(
                f"it does not see {parent}: the workspace must be in a folder that is shared with it"
            )
        if not _is_plain(str(there)):
            raise CannotAskError(
                f"it cannot mount {there}: the name is too long, or has spaces or odd letters"
            )
        return _box(plan, folder), f"{there}/fs"

    def _schedule(self, plan: StepPlan, fetched: list[str | None]) -> RequestedScheduleBlock | None:
        """When it may start, so that what is fetched is there by then, and for how long."""
        start = duration = None
        if fetched:
            late = min(self._lateness(plan, fetched), len(HEAD_STARTS) - 1)
            ahead = HEAD_STARTS[late] + EACH * max(0, len(fetched) - FEW)
            start = f"{format_second(self._now() + ahead)}/PT1M"
        if plan.asked_time is not None:
            wanted = timedelta(seconds=plan.asked_time) + SHORTEST_SESSION
            duration = format_duration(min(wanted, LONGEST_SESSION))
        if start is None and duration is None:
            return None
        return RequestedScheduleBlock(requested=RequestedSchedule(start=start, duration=duration))

    def _lateness(self, _plan: StepPlan, fetched: list[str | None]) -> int:
        """How often it came too late."""
        return max(self._too_late[str(url)] for url in fetched)

    # --- places ---

    def _reserve(self, plan: StepPlan) -> None:
        now = time.monotonic()
        self._asking = {key: until for key, until in self._asking.items() if until > now}
        self._asking.pop(plan.output_url, None)
        if len(self._asking) + len(self._held) >= self._at_once:
            raise BusyError(f"{self._at_once} of our sessions are there, as many as may be")
        self._asking[plan.output_url] = now + RESERVED

    def hold(self, session_url: str) -> None:
        """The session takes a place."""
        self._held.add(session_url)

    def release(self, session_url: str) -> None:
        """Give the session's place back."""
        self._held.discard(session_url)

    async def forget(self, folder: Path, *, but: Callable[[str], bool] = lambda _folder: False) -> None:
        """Nothing is kept."""

    # --- a session ---

    async def prepare(self, plan: StepPlan, offer: Session) -> None:
        """Make the session's folder and put into it what the broker does not mount or fetch.

        Raises:
            BrokerError: it cannot be made; says what could not be read or written.
        """
        self._asking.pop(plan.output_url, None)
        try:
            await asyncio.to_thread(self._prepare, plan, offer)
        except (OSError, ValueError) as error:
            raise BrokerError(f"the session's folder cannot be made: {error}") from error

    def _prepare(self, plan: StepPlan, offer: Session) -> None:
        box = self._box_of(plan, offer)
        if box is None:
            raise ValueError("the offer does not name the folder that was asked for")
        out, err = _stream(plan, plan.stdout, "stdout"), _stream(plan, plan.stderr, "stderr")
        fetched = []
        for number, item in enumerate(plan.staged):
            how, _ = self._how(plan, item)
            if how is _How.FETCH:
                copied = item.mode is not StageMode.READ or is_below(item.path, plan.workdir)
                fetched.append(Fetched(number, _fetched(plan, number), item.path, copied))
        what = Wrapped(
            argv=plan.argv,
            environment=plan.environment,
            workdir=plan.workdir,
            notes=f"{plan.root}/{NOTES}",
            stdin=plan.stdin,
            stdout=out,
            stderr=err,
            fetched=fetched,
            time_limit=plan.time_limit,
            shared=[plan.workdir, f"{plan.root}/{NOTES}", plan.environment.get("TMPDIR", plan.workdir)],
        )
        box.remove()  # half made, when an earlier engine died over it
        try:
            self._fill(plan, box, what)
        except OSError:
            box.remove()
            raise

    def _fill(self, plan: StepPlan, box: Box, what: Wrapped) -> None:
        out, err = what.stdout, what.stderr
        box.make(script(what), plan.workdir, list(dict.fromkeys([out, err])))
        for number, item in enumerate(plan.staged):
            how, _ = self._how(plan, item)
            if how is _How.PLACE:
                box.place(item)
            elif how is _How.MOUNT:
                box.mount_point(item)
            else:
                box.folder_of(item.path)
                box.folder_of(_fetched(plan, number))
        for redirected, path, url in (
            (plan.stdout, out, plan.stdout_url),
            (plan.stderr, err, plan.stderr_url),
        ):
            if not redirected and url:
                box.show(path, local_path(url))

    async def ended(self, plan: StepPlan, session: Session) -> bool:
        """Whether the wrapper has written its last line: the broker says so some ten seconds later."""
        box = self._box_of(plan, session)
        return box is not None and (await asyncio.to_thread(box.state))[1] is not None

    async def outcome(self, plan: StepPlan, session: Session) -> StepOutcome | str:
        """What the wrapper wrote; the session itself says only whether the container could be run.

        Its last line is kept: an engine that dies before it has stored the outcome must not run it twice.
        """
        box = self._box_of(plan, session)
        if box is None:
            return "its session does not name the folder that was asked for"
        until = time.monotonic() + LINGER
        started, ending = await asyncio.to_thread(box.state)
        while started and ending is None and time.monotonic() < until:
            await asyncio.sleep(0.2)
            started, ending = await asyncio.to_thread(box.state)
        began, ended = await asyncio.to_thread(box.times)
        outcome = await asyncio.to_thread(self._outcome, plan, session, box, ending)
        if isinstance(outcome, StepOutcome):
            outcome = replace(outcome, times=Times(started=began, finished=ended))
        await asyncio.to_thread(box.finish)  # not when cancelled: then the next engine reads it
        return outcome

    def _outcome(self, plan: StepPlan, session: Session, box: Box, ending: str | None) -> StepOutcome | str:
        if ending is None:
            return _no_ending(session, box)
        word, _, rest = ending.partition(" ")
        if word == "exit" and rest.isdigit():
            return _taken(plan, box, int(rest))
        if word in _PROBLEMS:
            problem = _PROBLEMS[word].format(limit=plan.time_limit, image=_image(session))
            return StepOutcome(problem=problem, by_command=word == TIME)
        if word == "missing" and rest.isdigit() and int(rest) < len(plan.staged):
            url = str(plan.staged[int(rest)].url)
            self._too_late[url] += 1
            return f"the container was started without its input {url}: it came too late"
        return "it was stopped" if word == "stopped" else "it ended in a way that makes no sense"

    async def stop(self, session: Session) -> None:
        """Have the wrapper end the command: to the broker, cancelling is a word. Waits until it has ended."""
        box = self._box_of(None, session)
        if box is None:
            return
        await asyncio.to_thread(box.ask_to_stop)
        until = time.monotonic() + STOPPING
        # another process writes the file: there is no event to wait for
        while await asyncio.to_thread(box.state) == (True, None) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        is_over = session.phase in (Phase.REJECTED, Phase.EXPIRED)
        if is_over or (await asyncio.to_thread(box.state))[1] is not None:  # else its script needs the word
            await asyncio.to_thread(box.remove)

    def _box_of(self, plan: StepPlan | None, session: Session) -> Box | None:
        """The folder that a session's own data names: so it is found again after a restart of ours."""
        for item in session.data or []:
            if item.meta and item.meta.name == BOX and item.location:
                there = PurePosixPath(item.location.removeprefix("file://"))
                here = self._shared.here(there.parent)
                if here is None or ".." in there.parts or here.parent.name != SESSIONS:
                    return None
                if plan is None:
                    return Box(here, "/")
                return _box(plan, here) if here.parent == _sessions(plan) else None
        return None


def _sessions(plan: StepPlan) -> Path:
    return local_path(plan.output_url).parent / SESSIONS


def _box(plan: StepPlan, folder: Path) -> Box:
    outside = () if is_below(plan.workdir, plan.root) else (Mounted("workdir", plan.workdir),)
    return Box(folder, plan.root, outside)


def _placed(item: StagedFile, is_ours: bool) -> tuple[_How, str]:
    if not is_ours:
        raise CannotAskError(f"it cannot put a file at {item.path}, outside the step's own folders")
    return _How.PLACE, ""


def _stream(plan: StepPlan, redirected: str | None, name: str) -> str:
    return f"{plan.workdir}/{redirected}" if redirected else f"{plan.root}/{NOTES}/{name}"


def _fetched(plan: StepPlan, number: int) -> str:
    return f"{plan.root}/{FETCHED}/{number}"


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or in it."""
    return PurePosixPath(path).is_relative_to(folder)


def _is_plain(path: str) -> bool:
    """Whether a path goes through the broker's database, URLs and bind options unchanged."""
    fits = len(path) + len("file://") <= LONGEST
    return fits and path.isascii() and path.isprintable() and _UNSAFE.isdisjoint(path)


def is_web(url: str | None) -> bool:
    """Whether the broker fetches it."""
    return (url or "").partition(":")[0].lower() in ("http", "https")


def data_of(name: str, location: str) -> Data:
    """A data resource at a URL, or at a path of the broker's machine."""
    return Data(meta=Meta(name=name), location=location if "://" in location else f"file://{location}")


def volume_of(resource: str, path: str, writable: bool) -> Volume:
    """Where a resource is seen."""
    return Volume(
        meta=Meta(name=f"mount-{resource}"),
        path=path,
        resource=resource,
        mode="READWRITE" if writable else "READONLY",
    )


def _memory(plan: StepPlan) -> int:
    least = plan.resources.memory_min
    return MEMORY if least is None else max(1, gib_ceil(least))


def _check_lengths(request: ExecutionRequest) -> None:
    executable, compute = request.executable, request.compute
    texts = [text for item in request.data or [] for text in [item.location or ""]]
    texts += [volume.path or "" for volume in (compute.volumes if compute else None) or []]
    if executable:
        texts += executable.command or []
        texts += (executable.image.locations if executable.image else None) or []
    for text in texts:
        if len(text) > LONGEST:
            raise CannotAskError(f"it takes no names of more than {LONGEST} letters: {text[:80]}...")


def _taken(plan: StepPlan, box: Box, exit_code: int) -> StepOutcome | str:
    try:
        box.take(plan.workdir, local_path(plan.output_url))
    except OSError as error:
        return f"its outputs cannot be taken over: {error}"
    return StepOutcome(exit_code=exit_code)


def _no_ending(session: Session, box: Box) -> str:
    said = "; ".join(message.text() for message in messages_of(session))
    said = f" (it says: {said})" if said else ""
    if box.state()[0]:
        return f"the container ended without a word from the command: killed, or out of memory?{said}"
    failed = [name for name, part in _parts(session) if part == "FAILED"]
    if "executable" in failed:
        return (
            f"the broker cannot use the image {_image(session)}: its name or tag may be misspelt, its"
            " registry may want a login or be out of the broker's reach, its digest may be another, it may be"
            f" made for another kind of machine, or the broker's container engine may be down{said}"
        )
    if failed and failed != ["compute"]:
        return f"{session.phase}: its {' and '.join(failed)} failed{said}"
    if session.phase is Phase.CANCELLED:
        return f"{session.phase}, not by us{said}"
    return (
        f"the command never began: the image {_image(session)} has no sh, its entry point does not run what"
        f" it is given, or the broker does not see {box.folder}{said}"
    )


def _image(session: Session) -> str:
    """What people call the image that a session was to run in."""
    return called(session.executable.image if session.executable else None)


def called(image: Image | None) -> str:
    """What people call an image."""
    return image.locations[0] if image and image.locations else "that was asked for"


def _parts(session: Session) -> list[tuple[str, str]]:
    parts = [("executable", session.executable), ("compute", session.compute)]
    found = [(name, str(part.phase)) for name, part in parts if part and part.phase]
    return found + [(item.meta.name or "data", str(item.phase)) for item in session.data or [] if item.meta]


def messages_of(session: Session) -> list[Message]:
    """All that is said in a session of warnings and errors."""
    parts = [session, session.executable, session.compute, *(session.data or []), *(session.storage or [])]
    found = [m for part in parts if part and part.meta for m in part.meta.messages or []]
    return [message for message in found if message.level in ("WARN", "ERROR")]
