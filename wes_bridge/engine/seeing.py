"""Trying whether brokers see the places that they or the configuration name, with small steps.

A token goes to the broker as an input and comes back as an output, by whatever way files go there; then
each place that its nodes are said to read is asked for something. Of an aggregator, each broker behind it is
tried. What a plug-in reads cannot be guessed, and is only named. It must not know who wants to know.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wes_bridge.data.workspace import file_url, url_path
from wes_bridge.federation.choosing import maker_of
from wes_bridge.federation.client import Broker, BrokerError
from wes_bridge.federation.dialect import CannotAskError
from wes_bridge.federation.following import ACTION_TIMEOUT, LOST_AFTER, Accepted, Following
from wes_bridge.federation.reference import Reference
from wes_bridge.federation.requests import Requests
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.locations import WEB, scheme_of
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import Booking, StagedFile, StageMode, StepOutcome, StepPlan
from wes_bridge.storage.dav import SCHEMES

_OFFERS, _WHOLE = 15.0, 120.0
"""Seconds for offers, and for one step in all."""
_ASKED = 60.0
"""Seconds that nodes are asked for."""
_AGAIN = 2
"""Further sessions at a broker of the reference dialect: a container may start before its inputs come."""
_AT_ONCE = 16
"""Steps of one broker."""
_OF_STAGING = re.compile(r"^FAILED: cannot stage .*/in/0/token: ")
"""What nodes say before the reason why the input of such a step cannot be had."""
_MOST_LOOKED, _LARGEST = 2000, 1024**2
"""Entries of a folder that are looked at for a small file, and its size at most."""
_ANSWERS = {
    "s3": "the store has no such object",
    **dict.fromkeys(SCHEMES, "there is no such file or folder (HTTP 404)"),
    **dict.fromkeys(WEB, "HTTP 4"),
}
"""What nodes say, by scheme, of a thing that is not there, at a place that they can read."""


@dataclass(frozen=True)
class Seen:
    """What came of trying one thing.

    Attributes:
        broker: by its name; of an aggregator, with that of the broker behind it.
        what: was tried.
        good: whether the broker sees it; None: that cannot be told.
        text: what came of it.
        advice: what to do, where something is wrong.
    """

    broker: str
    what: str
    good: bool | None
    text: str
    advice: str = ""


@dataclass(frozen=True)
class _Refused:
    """The broker makes no offer; its words."""

    text: str


class Looking:
    """Tries brokers.

    Args:
        workspace: the service's; a folder in it is used, and removed.
        base: what nodes call the service; None: it does not answer.
    """

    def __init__(self, workspace: Path, base: str | None) -> None:
        self._workspace = workspace
        self._base = base

    async def look(self, broker: Broker) -> list[Seen]:
        """Try everything there is to try of one broker.

        Raises:
            OSError: the workspace cannot be written.
        """
        try:
            places = broker.profile.data
            if places is None:
                places = tuple(await broker.places())
        except BrokerError as error:
            advice = "start it, or correct its url and credentials in the configuration"
            return [Seen(broker.name, "its address", False, str(error), advice)]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def tried(trying: Coroutine[Any, Any, Seen | None]) -> Seen | None:
            async with turns:
                return await trying

        makers = await self._makers(broker)
        trying = [tried(self._files(broker, maker)) for maker in makers]
        trying += [tried(self._place(broker, maker, place)) for place in places for maker in makers]
        found = await asyncio.gather(*trying)
        return [
            replace(seen, broker=_shown(broker, maker))
            for seen, maker in zip(found, itertools.cycle(makers), strict=False)
            if seen is not None
        ]

    async def _makers(self, broker: Broker) -> list[str | None]:
        """The brokers behind an aggregator that its answer names; of another broker, None alone."""
        async with self._folder() as folder:
            await asyncio.to_thread((folder / "token").write_bytes, b"")
            try:
                request = Requests(_plan(folder, file_url(folder / "token"), False), None)
                answer = await broker.request_offers(request.for_broker(broker), _OFFERS)
            except (BrokerError, CannotAskError):
                return [None]
        offers = answer.offers or []
        found = {maker_of(offer) for offer in offers} | {said.broker for said in answer.meta.messages or ()}
        for offer in offers:
            await _reject(broker, offer)
        return [*sorted(name for name in found if name)] or [None]

    async def _files(self, broker: Broker, maker: str | None) -> Seen:
        """A token goes there, and comes back."""
        shares = broker.profile.shares_files
        what = f"the workspace {self._workspace}" if shares else "files over HTTP, both ways"
        if not shares and self._base is None:
            text = "the service does not answer, so nodes have nothing to fetch from it"
            return Seen(broker.name, what, False, text, "start the service, and check again")
        async with self._folder() as folder:
            token = secrets.token_hex(16).encode()
            await asyncio.to_thread((folder / "token").write_bytes, token)
            outcome = await self._echo(broker, maker, folder, file_url(folder / "token"))
            came = await asyncio.to_thread(_content, folder / "out" / "answer")
            await broker.dialect.forget(folder)
        if isinstance(outcome, StepOutcome) and came == token:
            return Seen(broker.name, what, True, "a file went there and came back")
        words = _words(outcome)
        if isinstance(outcome, StepOutcome) and outcome.exit_code == 0:
            words = "its step ended well, but what it wrote is not here: it has another folder at that path"
        advice = self._of_shared(outcome) if shares else self._of_web(words)
        return Seen(broker.name, what, False, words, advice)

    def _of_shared(self, outcome: StepOutcome | _Refused | str) -> str:
        own = "or set shares_files: false for the broker, and files go over HTTP (docs/data.md)"
        if isinstance(outcome, _Refused):
            return f"add {file_url(self._workspace)}/ to data of the node, if it sees this folder; {own}"
        return f"mount this folder at the node at the same path; {own}"

    def _of_web(self, words: str) -> str:
        base = (self._base or "").rstrip("/")
        host = urlsplit(base).netloc
        if "fetch.private_hosts" in words:
            return f'set fetch: {{private_hosts: ["{host}"]}} at the node: the service has a private address'
        if "could send" in words:
            return "name an image with curl, GNU wget or python3 in engine.default_image (docs/data.md)"
        if "takes only" in words:
            return f'add "{base}/" and "data:" to data of the node'
        if "output cannot be fetched" in words:
            return (
                "the node fetches from the service, but not the other way round: let the service connect to"
                " the address that the node tells (its public_url)"
            )
        return f"let the node connect to {base}; if that is not what it calls the service, set public_url"

    async def _place(self, broker: Broker, maker: str | None, place: str) -> Seen | None:
        """One beginning of URLs; None: there is nothing to try."""
        scheme = scheme_of(place)
        if scheme == "file":
            return await self._local(broker, maker, place) if broker.profile.shares_files else None
        is_tried = self._base is not None and self._base.startswith(place.rstrip("/"))
        if scheme == "data" or (scheme in WEB and (is_tried or not urlsplit(place).netloc)):
            return None
        if scheme not in (*WEB, *SCHEMES, "s3"):
            return Seen(broker.name, place, None, f"nothing is known to ask for at {scheme}: URLs; not tried")
        url = place if scheme in WEB else f"{place.rstrip('/')}/wes-bridge-check-{uuid.uuid4().hex}"
        async with self._folder() as folder:
            outcome = await self._echo(broker, maker, folder, url)
            await broker.dialect.forget(folder)
        words = _words(outcome)
        if isinstance(outcome, StepOutcome) and outcome.exit_code == 0:
            return Seen(broker.name, place, True, "it was read")
        if not isinstance(outcome, _Refused) and _ANSWERS[scheme] in words:
            return Seen(broker.name, place, True, f"it answers, as it does for what is not there: {words}")
        return Seen(broker.name, place, False, words, _advice(scheme, words, isinstance(outcome, _Refused)))

    async def _local(self, broker: Broker, maker: str | None, place: str) -> Seen | None:
        """A folder: a file that both see must be the same one."""
        folder = url_path(place)
        if self._workspace.is_relative_to(folder):
            return None  # it has been tried
        sample = await asyncio.to_thread(_small_file, folder)
        url = file_url(sample or folder)
        async with self._folder() as own:
            outcome = await self._echo(broker, maker, own, url, directory=sample is None)
            came = await asyncio.to_thread(_content, own / "out" / "answer")
            await broker.dialect.forget(own)
        if not isinstance(outcome, StepOutcome) or outcome.exit_code != 0:
            advice = f"mount {folder} at the node at the same path, or take {place} out of data"
            return Seen(broker.name, place, False, _words(outcome), advice)
        if sample is None:
            return Seen(broker.name, place, None, "it is there; this service has no file in it to compare")
        if came is not None and came == await asyncio.to_thread(_content, sample):
            return Seen(broker.name, place, True, f"{sample.name} is the same there")
        advice = f"the node has another folder at {folder}; take {place} out of data, or mount the right one"
        return Seen(broker.name, place, False, f"{sample} is another file there", advice)

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        folder = self._workspace / f".wb-check-{uuid.uuid4().hex}"
        await asyncio.to_thread(folder.mkdir)
        try:
            yield folder.resolve()
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _echo(
        self, broker: Broker, maker: str | None, folder: Path, url: str, *, directory: bool = False
    ) -> StepOutcome | _Refused | str:
        """Have a step copy an input to its output; as text: how it failed."""
        plan = _plan(folder, url, directory)
        try:
            async with asyncio.timeout(_WHOLE):
                outcome = await _tried(broker, maker, plan)
                for _ in range(_AGAIN if isinstance(broker.dialect, Reference) else 0):
                    if not isinstance(outcome, str):
                        break
                    outcome = await _tried(broker, maker, plan)
                return outcome
        except TimeoutError:
            return f"it took the step, and has not done it within {_WHOLE:.0f} s: are its nodes booked up?"
        except BrokerError as error:
            return str(error)


def _plan(folder: Path, url: str, directory: bool) -> StepPlan:
    root = f"/wb-{secrets.token_hex(8)}"
    script = 'if test -d "$0"; then : > answer; else cat < "$0" > answer; fi'
    return StepPlan(
        name="wes-bridge check",
        argv=["/bin/sh", "-c", script, f"{root}/in/0/token"],
        environment={"HOME": f"{root}/out", "TMPDIR": f"{root}/scratch"},
        root=root,
        workdir=f"{root}/out",
        output_url=file_url(folder / "out"),
        staged=[
            StagedFile(f"{root}/scratch", directory=True, mode=StageMode.COPY),
            StagedFile(f"{root}/in/0/token", url, directory=directory),
        ],
        booking=Booking(_ASKED),
    )


async def _tried(broker: Broker, maker: str | None, plan: StepPlan) -> StepOutcome | _Refused | str:
    try:
        answer = await broker.request_offers(Requests(plan, None).for_broker(broker), _OFFERS)
    except CannotAskError as error:
        return _Refused(str(error))
    offers = [offer for offer in answer.offers or [] if offer.phase is Phase.OFFERED and offer.meta.url]
    mine = [offer for offer in offers if maker is None or maker_of(offer) == maker]
    for other in offers:
        if not mine or other is not mine[0]:
            await _reject(broker, other)
    if answer.result != "YES" or not mine:
        said = [one for one in answer.meta.messages or [] if maker is None or one.broker == maker]
        words = "; ".join(message.text() for message in said if message.text())
        return _Refused(words or "it makes no offer, and does not say why")
    url = str(mine[0].meta.url)
    await broker.dialect.prepare(plan, mine[0])
    broker.dialect.hold(url)
    session, etag = await broker.accept(url, ACTION_TIMEOUT, 10.0)

    async def tell_nobody(_session: Session) -> None:
        pass

    accepted = Accepted(broker, url, session, etag)
    return await Following(accepted, plan, tell_nobody, LOST_AFTER, lambda: False).outcome()


async def _reject(broker: Broker, offer: Session) -> None:
    if offer.phase is Phase.OFFERED and offer.meta.url:
        with suppress(BrokerError):  # else it expires
            await broker.set_phase(str(offer.meta.url), Phase.REJECTED, ACTION_TIMEOUT)


def _shown(broker: Broker, maker: str | None) -> str:
    return f"{broker.name}/{maker}" if maker else broker.name


def _words(outcome: StepOutcome | _Refused | str) -> str:
    if isinstance(outcome, str):
        return _OF_STAGING.sub("", outcome)
    if isinstance(outcome, _Refused):
        return outcome.text
    return outcome.problem or outcome.hint or f"its command ended with exit code {outcome.exit_code}"


def _advice(scheme: str, words: str, refused: bool) -> str:
    if "fetch.private_hosts" in words:
        return "name the host in fetch.private_hosts of the node"
    if refused:
        return "the node does not take such URLs: correct data of the broker, or the node's configuration"
    if scheme == "s3":
        return (
            "see that the keys in s3 of the node may read there, and list: without that right a store also"
            " refuses to say that an object is not there"
        )
    if scheme in SCHEMES:
        return "see that the token in webdav of the node is good, and that the node can connect to the server"
    return "let the node connect there, or correct data of the broker"


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _small_file(folder: Path) -> Path | None:
    """A file in a folder that is read quickly; None: there is none here."""
    for seen, entry in enumerate(_entries(folder)):
        if seen >= _MOST_LOOKED:
            break
        try:
            if entry.is_file(follow_symlinks=False) and 0 < entry.stat().st_size <= _LARGEST:
                path = Path(entry.path)
                if os.access(path, os.R_OK):
                    return path
        except OSError:
            continue
    return None


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop(0)) as found:
                for entry in found:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except OSError:
            continue
