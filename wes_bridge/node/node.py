"""A node: what it has been asked, what it has offered, and what runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import psutil

from wes_bridge.auth.acting import person_of
from wes_bridge.auth.principal import Principal
from wes_bridge.auth.rates import sessions_limit
from wes_bridge.auth.signed_urls import KeyRing, SignedUrls
from wes_bridge.config import NodeConfig
from wes_bridge.model.execution_broker import (
    ENUM_UPDATE,
    ExecutionRequest,
    Message,
    Meta,
    OfferSet,
    Session,
    Update,
)
from wes_bridge.model.gaps import Gap
from wes_bridge.model.states import Phase
from wes_bridge.model.units import GIB, utcnow
from wes_bridge.node import enforced, messages
from wes_bridge.node.booking import is_booked, reservations
from wes_bridge.node.capacity import Capacity, Queue
from wes_bridge.node.checks import check_request, check_values
from wes_bridge.node.door import Door
from wes_bridge.node.errors import NodeError
from wes_bridge.node.ids import new_uuid
from wes_bridge.node.kept.inputs import KeptInputs
from wes_bridge.node.kept.outputs import Outputs
from wes_bridge.node.kinds import NAMES, check_kinds
from wes_bridge.node.live import LiveSession, decode
from wes_bridge.node.messages import message
from wes_bridge.node.offers import OfferMaker, check_limits, storage_min
from wes_bridge.node.phases import client_may_move
from wes_bridge.node.platforms import load_platforms
from wes_bridge.node.platforms.base import Platform
from wes_bridge.node.platforms.watch import Bounds
from wes_bridge.node.room import Room
from wes_bridge.node.runner import Runner
from wes_bridge.node.staging import default_schemes
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.plan import make_tree
from wes_bridge.node.staging.release import open_stream, stream_path
from wes_bridge.node.user_tokens import UserTokens
from wes_bridge.private_files import private_folder
from wes_bridge.store import node_sessions as store
from wes_bridge.store.database import Database
from wes_bridge.store.outage import Trouble
from wes_bridge.store.writer import Writer

log = logging.getLogger(__name__)

REMEMBER = 20.0
"""Seconds that what has ended stays in memory; after that it is read from the database."""
GAPS_AFTER = 1.0
"""Seconds after its start in which a node does not look for what it cannot enforce: trying costs as much as
some steps."""
PURGE_EVERY = 600.0
"""Seconds between looks for sessions to forget."""
KEEP_UNTAKEN = 3600.0
"""Seconds that offers which nobody took, and answers that were NO, are remembered at most."""
MOST_UNTAKEN = 20_000
"""How many of them."""


class LiveOfferSet:
    """An offer set in memory.

    Args:
        model: without its offers.
        offers: they.
        owner: whose it is.
    """

    __slots__ = ("model", "offers", "owner")

    def __init__(self, model: OfferSet, offers: list[LiveSession], owner: str = "") -> None:
        self.model = model
        self.offers = offers
        self.owner = owner

    @property
    def uuid(self) -> str:
        """Its UUID."""
        return str(self.model.meta.uuid)

    def encode(self, base: str) -> bytes:
        """The wire form as JSON, with the offers in the phases they are in now."""
        self.model.meta.url = f"{base}/offersets/{self.uuid}"
        body = self.model.model_dump_json(by_alias=True, exclude_none=True).encode()
        if not self.offers:
            return body
        return body[:-1] + b',"offers":[' + b",".join(offer.encode(base) for offer in self.offers) + b"]}"


OFFERS_WRITTEN_AFTER = 0.5
"""Seconds an offer set is only in memory; most are accepted before, and then stored once."""


def _rows(offerset: LiveOfferSet) -> tuple[store.OfferSetRow, list[store.SessionRow]]:
    """An offer set and its offers as they are now, to be stored."""
    model = offerset.model
    created = model.meta.created.timestamp() if model.meta.created else time.time()
    body = model.model_dump_json(by_alias=True, exclude_none=True)
    rows = [
        store.SessionRow(
            live.uuid,
            offerset.uuid,
            live.phase.value,
            created + index / 1e6,
            live.expires,
            live.body(),
            ended=time.time() if live.phase.is_final else None,
            owner=live.owner,
        )
        for index, live in enumerate(offerset.offers)
    ]
    return store.OfferSetRow(offerset.uuid, created, body, offerset.owner), rows


def _accepted_rows(
    rows: tuple[store.OfferSetRow, list[store.SessionRow]], uuid: str, now: float
) -> tuple[store.OfferSetRow, list[store.SessionRow]]:
    """The rows of an offer set once one offer is accepted; the bodies stay, a row's phase is what counts."""
    offers = [
        replace(row, phase=Phase.ACCEPTED.value, expires=None)
        if row.uuid == uuid
        else replace(row, phase=Phase.REJECTED.value, ended=now)
        if row.phase == Phase.OFFERED.value
        else row
        for row in rows[1]
    ]
    return rows[0], offers


class Node:
    """An ExecutionBroker node.

    Args:
        config: of the node.
        state: directory for its database and its sessions; made if missing.
        end_sessions: whether sessions end with the node, rather than go on without it.
    """

    def __init__(self, config: NodeConfig, state: Path, end_sessions: bool = False) -> None:
        self.config = config
        self.state = state.absolute()
        self._unwritten: dict[str, LiveOfferSet] = {}
        self._end_sessions = end_sessions
        self.boot = token_hex(4)
        self.capacity = capacity_of(config)
        self.queue = Queue(self.capacity, kept=lambda: self.kept.store.size)
        self.reservations = reservations(config, self.capacity, self.queue, self._save_soon)
        self.offers = OfferMaker(config, self.capacity, self.reservations.planner)
        self.door = Door()
        self.kept = Outputs(config, self.state)
        self.schemes = default_schemes(config, self.kept.count_fetched)
        self.signed = _signed(config, self.state)
        self.tokens = UserTokens(config.delegation)
        self.closing = False
        self.gaps: list[Gap] | None = None
        self._platforms: dict[str, Platform] = {}
        self._sessions: dict[str, LiveSession] = {}
        self._sets: dict[str, LiveOfferSet] = {}
        self._room = Room(config.open_offers)
        self._expiring: deque[tuple[float, str]] = deque()  # by UUID: most sets are gone long before
        self._ended: deque[tuple[float, LiveSession]] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._background: set[asyncio.Task[None]] = set()

    # ---- coming and going --------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the database, find what was running, and be ready."""
        private_folder(self.state)
        self.state = self.state.resolve()
        self._folder = self.state / "sessions"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        loop = asyncio.get_running_loop()
        url = f"sqlite:///{self.state / 'node.db'}"
        self.database = await loop.run_in_executor(None, Database, url, store.NODE)
        self.writer = Writer(self.database, f"node-{self.config.name}")
        for platform in load_platforms(self.config, self.state):
            await platform.open()
            for kind in platform.kinds:
                self._platforms.setdefault(kind, platform)
        for platform in set(self._platforms.values()):
            enforced.check(self.config, await platform.gaps() if self.config.serves_others else ())
        await loop.run_in_executor(None, self.door.load, self.database)
        await loop.run_in_executor(None, self.kept.store.load)
        await loop.run_in_executor(None, self.signed.load)
        self.runner = Runner(
            self._folder,
            self.queue,
            self._platforms,
            self.schemes,
            incoming=Incoming(self.state / "incoming", int(self.config.cache_gib * GIB)),
            reservations=self.reservations,
            ended=self._on_ended,
            most_rewritten=self.config.max_rewrite,
            limits=Bounds(
                processes=self.config.max_processes,
                disk=None if self.config.session_gib is None else int(self.config.session_gib * GIB),
            ),
            kept=self.kept,
            tokens=self.tokens,
        )
        await self._resume()
        await self.runner.in_thread(self._remove_strays)
        unfinished = [live.uuid for live in self.runner.sessions]
        await self.runner.in_thread(lambda: self.kept.store.tidy(unfinished))
        self._spawn(
            self.kept.free_due(lambda: {live.uuid for live in self.runner.sessions}, self.queue.look_again)
        )
        self._spawn(self._find_gaps())
        self._spawn(self._purge_now_and_then())

    async def stop(self) -> None:
        """Answer who waits, stop following sessions, close the database."""
        self.release_waiters()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._background:
            task.cancel()
        self.reservations.close()
        await self.runner.close(self._end_sessions)
        await self.tokens.close()
        for platform in set(self._platforms.values()):
            await platform.close()
        for uuid in list(self._unwritten):
            self._write_offers(uuid)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.writer.close)
        self.database.close()

    async def _find_gaps(self) -> None:
        """Find out what is not enforced here, and say so once."""
        await asyncio.sleep(GAPS_AFTER)
        found = enforced.of_the_node(self.config)
        for platform in set(self._platforms.values()):
            found += await platform.gaps()
        self.gaps = found
        for gap in found:
            level = logging.INFO if gap.quiet else logging.WARNING
            log.log(level, "not enforced by node %s: %s", self.config.name, gap.text)
        with contextlib.suppress(OSError):
            await self.runner.in_thread(lambda: enforced.write(self.state, found))

    def release_waiters(self) -> None:
        """Answer all long polls now: the node is going down."""
        self.closing = True
        for live in self._sessions.values():
            live.release()

    async def _resume(self) -> None:
        now = time.time()
        await self.writer(lambda connection: store.expire_offers(connection, now))
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(None, store.live_sessions, self.database)
        for row in rows:
            live = self._restore(row)
            live.stop = Phase(row.stop) if row.stop else None
            if live.phase is not Phase.ACCEPTED:
                live.session.phase = Phase.ACCEPTED
            live.say(message(messages.RESTARTED, "the node was restarted while it had this session", "INFO"))
            self.reservations.restore(live)
            try:
                self.runner.begin(live, resumed=True)
            except NodeError as error:
                live.session.meta.messages = [*(live.session.meta.messages or []), error.message]
                live.move(Phase.FAILED)
                await self._on_ended(live)
        for row in await loop.run_in_executor(None, store.open_offers, self.database):
            if row.offerset not in self._sets:
                await self._restore_set(row.offerset)

    def _restore(self, row: store.SessionRow) -> LiveSession:
        live = LiveSession(decode(row.body, row.phase), row.offerset, self.boot, row.owner)
        self._sessions[live.uuid] = live
        return live

    async def _restore_set(self, uuid: str) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, store.get_offerset, self.database, uuid)
        if found is None:
            return
        offers = [self._sessions.get(row.uuid) or self._restore(row) for row in found[1]]
        offerset = LiveOfferSet(OfferSet.model_validate_json(found[0].body), offers, found[0].owner)
        self._sets[uuid] = offerset
        self._await_expiry(offerset)

    # ---- requests ----------------------------------------------------------------------------------

    async def offer(
        self, request: ExecutionRequest, owner: str, caller: Principal | None = None
    ) -> LiveOfferSet:
        """Answer a request: YES with offers, or NO with reasons. Kept either way, as ``owner``'s.

        Args:
            request: the request.
            owner: the name of the caller.
            caller: the same with their credentials, with which tokens for stores are made.

        Raises:
            BadRequestError: the request makes no sense to any node.
        """
        check_kinds(request)
        check_values(request)
        found = await self._lacking(request) or await self._checked(request, owner, caller)
        reasons = [note for note in found if note.level == "ERROR"]
        offers: list[Session] = []
        if not reasons:
            offers, reasons = self.offers.make(request, found)
        return self._keep(offers, reasons, owner)

    async def direct(
        self, request: ExecutionRequest, owner: str, caller: Principal | None = None
    ) -> tuple[LiveOfferSet, LiveSession | None]:
        """Accept the first offer at once; None, and the reasons in the set, when there is none; as
        :meth:`offer`.

        Raises:
            BadRequestError: as :meth:`offer`.
        """
        offerset = await self.offer(request, owner, caller)
        if not offerset.offers:
            return offerset, None
        await self._accept(offerset.offers[0])
        return offerset, offerset.offers[0]

    async def _lacking(self, request: ExecutionRequest) -> list[Message]:
        """That nothing here runs executables of this kind; it is then all that is said, so that clients can
        tell it from reasons that another request would not meet."""
        if request.executable is None:
            return []
        kind = request.executable.kind
        platform = self._platforms.get(kind)
        names = ", ".join(sorted(one.name for one in set(self._platforms.values()))) or "none"
        reason = f"its platforms are {names}" if platform is None else await platform.unavailable()
        if reason is None:
            return []
        text = "this node runs no {what}: {reason}"
        return [message(messages.UNKNOWN_TYPE, text, kind=kind, what=NAMES[kind], reason=reason)]

    async def _checked(
        self, request: ExecutionRequest, owner: str, caller: Principal | None
    ) -> list[Message]:
        found = check_request(request, self.schemes, KeptInputs(self.kept.store, owner).is_kept)
        found += check_limits(request, self.capacity) + self._check_storage(request)
        platform = self._platforms.get(request.executable.kind) if request.executable else None
        found += await platform.check(request) if platform is not None else []
        if self.tokens.can_be_made and not any(note.level == "ERROR" for note in found):
            found += await self._without_tokens(request, caller)
        return found + ([refusal] if (refusal := self.door.refusal()) else [])

    async def _without_tokens(self, request: ExecutionRequest, caller: Principal | None) -> list[Message]:
        """Data in stores that want a token of the user, for which there is none."""
        wanted = {
            each: location
            for location in (data.location or "" for data in request.data or [] if data.keep is None)
            if (each := self.schemes.delegated(location)) is not None
        }
        found = []
        for each, location in wanted.items():
            reason = await self.tokens.refusal(caller, each)
            if reason is not None:
                values = {"location": location[:200], "audience": each.audience, "reason": reason}
                found.append(
                    message(messages.NO_TOKEN, "{location} (audience {audience}): {reason}", **values)
                )
        return found

    def _check_storage(self, request: ExecutionRequest) -> list[Message]:
        asked = sum(storage.size.min or 0 for storage in request.storage or [] if storage.size)
        quota, kept = self.capacity.storage, self.kept.store.size
        needed = storage_min(request.storage)
        if needed and quota is not None and needed <= quota < needed + kept:
            text = (
                "storage: {asked} bytes asked for at least, {here} of {quota} are not taken by kept outputs"
            )
            return [message(messages.RESOURCE_LIMIT, text, asked=needed, here=quota - kept, quota=quota)]
        if not asked:
            return []
        free = shutil.disk_usage(self.state).free // GIB
        if asked <= free:
            return []
        text = "storage: {asked} GiB asked for at least, {here} GiB are free here"
        return [message(messages.RESOURCE_LIMIT, text, asked=asked, here=free)]

    def _keep(self, offers: list[Session], reasons: list[Message], owner: str) -> LiveOfferSet:
        uuid = new_uuid()
        now = utcnow()
        result: Literal["YES", "NO"] = "YES" if offers else "NO"
        meta = Meta(uuid=uuid, name=self.config.name, created=now, messages=reasons or None)
        lives = [LiveSession(session, str(uuid), self.boot, owner) for session in offers]
        offerset = LiveOfferSet(OfferSet(meta=meta, result=result), lives, owner)
        self._unwritten[str(uuid)] = offerset
        asyncio.get_running_loop().call_later(OFFERS_WRITTEN_AFTER, self._write_offers, str(uuid))
        if lives:
            self._sets[str(uuid)] = offerset
            for live in lives:
                self._sessions[live.uuid] = live
            self._await_expiry(offerset)
        else:
            self._sets[str(uuid)] = offerset
            self._forget_later(None, offerset)
        return offerset

    def make_room(self, offerset: LiveOfferSet, size: int) -> None:
        """Know of a set of offers that takes so many bytes; where it gets crowded others are taken back."""
        if offerset.offers:
            for crowded in self._room.add(offerset.uuid, offerset.owner, size):
                self._take_back(crowded)

    def _take_back(self, uuid: str) -> None:
        """Expire a set of offers before its time, and forget it: there are too many."""
        offerset = self._sets.pop(uuid, None)
        was_written = self._unwritten.pop(uuid, None) is None
        now = time.time()
        uuids = [live.uuid for live in offerset.offers] if offerset else []
        for live in offerset.offers if offerset else ():
            if live.phase is Phase.OFFERED:
                live.move(Phase.EXPIRED)
            self._sessions.pop(live.uuid, None)
        if was_written:
            self.writer.soon(lambda connection: store.set_phase(connection, uuids, Phase.EXPIRED, now))

    def _write_offers(self, uuid: str) -> None:
        """Store an offer set that was not accepted at once (an accepted one was stored then)."""
        offerset = self._unwritten.pop(uuid, None)
        if offerset is not None:
            row, rows = _rows(offerset)
            self.writer.soon(lambda connection: store.add_offerset(connection, row, rows))

    # ---- finding -----------------------------------------------------------------------------------

    async def session(self, uuid: str) -> LiveSession | None:
        """A session; None when unknown. One that has ended long ago is read from the database."""
        live = self._sessions.get(uuid)
        if live is not None:
            return live
        loop = asyncio.get_running_loop()
        row = await loop.run_in_executor(None, store.get_session, self.database, uuid)
        if row is None:
            return self._sessions.get(uuid)
        return LiveSession(decode(row.body, row.phase), row.offerset, self.boot, row.owner)

    def came(self, live: LiveSession, caller: Principal) -> None:
        """Somebody calls for a session: a token of its owner's may be of use to it."""
        if live.phase is not Phase.OFFERED and not live.phase.is_final:
            self.tokens.came(live.uuid, live.owner, caller)

    async def offerset(self, uuid: str) -> LiveOfferSet | None:
        """An offer set with its offers as they are now; None when unknown."""
        found = self._sets.get(uuid)
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        stored = await loop.run_in_executor(None, store.get_offerset, self.database, uuid)
        if stored is None:
            return self._sets.get(uuid)
        offers = [
            self._sessions.get(row.uuid)
            or LiveSession(decode(row.body, row.phase), uuid, self.boot, row.owner)
            for row in stored[1]
        ]
        return LiveOfferSet(OfferSet.model_validate_json(stored[0].body), offers, stored[0].owner)

    async def stream(self, live: LiveSession, name: str) -> int | None:
        """A descriptor of the file that holds a session's stream; None when nothing was written yet."""
        folder, allowed = self.runner.folder(live.uuid), self.schemes.allowed
        keeper = self.kept.keeper(live)

        def find() -> int | None:
            plain = open_stream(live.session, folder, None, name, allowed, keeper)
            if plain is not None or stream_path(live.session, name) is None:
                return plain
            with contextlib.suppress(NodeError, OSError, ValueError):
                tree = make_tree(live.session, folder.fs, self.schemes, self.kept.inputs(live).path)
                return open_stream(live.session, folder, tree, name, allowed, keeper)
            return None

        return await self.runner.in_thread(find)

    def status(self) -> dict[str, Any]:
        """A small picture of the node."""
        return {
            "name": self.config.name,
            "cores": {"total": self.capacity.cores, "free": max(0, self.queue.free_cores)},
            "sessions": {"running": self.queue.running, "waiting": self.queue.waiting},
            "kinds": sorted(self._platforms),
            "data": self.schemes.places,
            "draining": self.door.draining is not None,
        }

    # ---- administration ----------------------------------------------------------------------------

    async def drain(self, cancel_booked: bool = False) -> int:
        """Take nothing new; what was accepted goes on.

        Args:
            cancel_booked: whether to cancel the sessions that have not begun.

        Returns:
            How many were cancelled.
        """
        await self.door.drain(self.writer)
        booked = [live for live in self._sessions.values() if cancel_booked and is_booked(live)]
        for live in booked:
            live.say(message(messages.DRAINING, "cancelled: this node is being drained", "WARN"))
            await self._move(live, Phase.CANCELLED)
        return len(booked)

    async def reopen(self) -> None:
        """Take new sessions again."""
        await self.door.open(self.writer)

    # ---- updates -----------------------------------------------------------------------------------

    async def update(self, live: LiveSession, update: Update) -> None:
        """Do what a client asks of a session; what is not allowed leaves a message and nothing else."""
        refused = _not_a_phase(update)
        if refused is None:
            phase = Phase(str(update.value))
            refused = await self._move(live, phase)
        if refused is not None:
            live.say(message(messages.ILLEGAL_UPDATE, "{reason}", "WARN", reason=refused))

    async def _move(self, live: LiveSession, phase: Phase) -> str | None:
        if live.phase is Phase.OFFERED and live.expires is not None and live.expires <= time.time():
            self._expire(live)
        if not client_may_move(live.phase, phase):
            return f"a session that is {live.phase} cannot be made {phase}"
        if phase is Phase.ACCEPTED:
            await self._accept(live)
        elif live.phase is Phase.OFFERED:
            live.move(phase)
            await self._save(live)
            self._forget_later(live, None)
        elif live.stop is None:
            await self.writer(lambda connection: store.set_stop(connection, live.uuid, phase))
            if not live.phase.is_final:
                live.say(message(messages.CANCELLING, "ending the session as {phase}", "INFO", phase=phase))
                self.runner.stop(live, phase)
        return None

    async def _accept(self, live: LiveSession) -> None:
        offerset = self._sets.get(live.offerset)
        others = offerset.offers if offerset else []
        siblings = [other for other in others if other is not live and other.phase is Phase.OFFERED]
        before = itertools.takewhile(lambda other: other is not live, others)
        first = all(other.phase is not Phase.OFFERED for other in before)
        refused = self.door.refusal() or self._too_many_sessions(live) or self.reservations.take(live, first)
        if refused is not None:
            await self._withdraw(live, refused)
            return
        self._room.remove(live.offerset)
        expires = live.session.expires
        unwritten = self._unwritten.pop(live.offerset, None)
        now = time.time()
        new = _accepted_rows(_rows(unwritten), live.uuid, now) if unwritten else None
        live.move(Phase.ACCEPTED)
        for sibling in siblings:
            sibling.move(Phase.REJECTED)
        body = "" if new else live.body()

        def save(connection: Any) -> None:
            if new:
                store.add_offerset(connection, *new)
                return
            store.save_session(connection, live.uuid, Phase.ACCEPTED, body, None)
            store.set_phase(connection, [other.uuid for other in siblings], Phase.REJECTED, now)

        try:
            await self.writer(save)
        except BaseException:
            self.reservations.free(live.uuid)
            if unwritten:
                self._unwritten[live.offerset] = unwritten
            live.session.expires = expires
            for offer in (live, *siblings):
                offer.session.phase = Phase.OFFERED
                offer.changed()
            raise
        for sibling in siblings:
            self._forget_later(sibling, None)
        self.runner.begin(live)

    def _too_many_sessions(self, offer: LiveSession) -> Message | None:
        """Why its owner may accept no more; None when they may."""
        person = person_of(offer.owner)
        limit = sessions_limit(self.config.limits, person or "")
        if limit is None:
            return None
        having = sum(1 for live in self.runner.sessions if person_of(live.owner) == person)
        if having < limit.value:
            return None
        text = "you have {count} sessions here that have not ended, and no more are allowed ({setting})"
        return message(messages.RESOURCE_LIMIT, text, count=having, setting=limit.setting)

    async def _withdraw(self, offer: LiveSession, reason: Message) -> None:
        """An offer that cannot be kept any more."""
        offer.session.meta.messages = [*(offer.session.meta.messages or []), reason]
        offer.move(Phase.EXPIRED)
        await self._save(offer)
        self._forget_later(offer, None)

    def _save_soon(self, live: LiveSession) -> None:
        body, phase = live.body(), live.phase
        self.writer.soon(lambda connection: store.save_session(connection, live.uuid, phase, body, None))

    async def _save(self, live: LiveSession) -> None:
        body, phase = live.body(), live.phase
        ended = time.time() if phase.is_final else None
        await self.writer(lambda connection: store.save_session(connection, live.uuid, phase, body, ended))

    async def _on_ended(self, live: LiveSession) -> None:
        self.reservations.free(live.uuid)
        await self._save(live)
        self._forget_later(live, None)

    # ---- time --------------------------------------------------------------------------------------

    def _await_expiry(self, offerset: LiveOfferSet) -> None:
        times = [live.expires for live in offerset.offers if live.expires and live.phase is Phase.OFFERED]
        if not times:
            return
        left = max(times) - time.time()  # from here on it is counted: clocks are set, time goes on
        self._expiring.append((asyncio.get_running_loop().time() + left, offerset.uuid))
        if len(self._expiring) == 1:
            self._timer("expire", left, self._expire_due)

    def _expire_due(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._expiring and self._expiring[0][0] <= now:
            _, uuid = self._expiring.popleft()
            offerset = self._sets.get(uuid)
            for live in offerset.offers if offerset else ():
                if live.phase is Phase.OFFERED:
                    self._expire(live)
        if self._expiring:
            self._timer("expire", self._expiring[0][0] - now, self._expire_due)

    def _expire(self, live: LiveSession) -> None:
        live.move(Phase.EXPIRED)
        uuid, now = live.uuid, time.time()
        self.writer.soon(lambda connection: store.set_phase(connection, [uuid], Phase.EXPIRED, now))
        self._forget_later(live, None)

    def _forget_later(self, live: LiveSession | None, offerset: LiveOfferSet | None) -> None:
        if live is not None and live.phase in (Phase.EXPIRED, Phase.REJECTED):
            self._give_back(live.offerset)
        if live is None and offerset is not None:
            asyncio.get_running_loop().call_later(REMEMBER, self._sets.pop, offerset.uuid, None)
        if live is None:
            return
        self._ended.append((asyncio.get_running_loop().time() + REMEMBER, live))
        if len(self._ended) == 1:
            self._timer("forget", REMEMBER, self._forget_due)

    def _give_back(self, uuid: str) -> None:
        """A set has an offer less: it takes no room when none is left."""
        offerset = self._sets.get(uuid)
        if offerset is None or all(live.phase is not Phase.OFFERED for live in offerset.offers):
            self._room.remove(uuid)

    def _forget_due(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._ended and self._ended[0][0] <= now:
            _, live = self._ended.popleft()
            self._sessions.pop(live.uuid, None)
            offerset = self._sets.get(live.offerset)
            if offerset is not None and all(offer.uuid not in self._sessions for offer in offerset.offers):
                del self._sets[live.offerset]
        if self._ended:
            self._timer("forget", self._ended[0][0] - now, self._forget_due)

    def _timer(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(max(0.0, seconds) + 0.002, work)

    def _remove_strays(self) -> None:
        """Folders of sessions that are forgotten: a crash came between the two. Blocks."""
        known = store.known_sessions(self.database)
        for path in self._folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    async def _purge_now_and_then(self) -> None:
        trouble = Trouble(log, "cannot purge sessions; trying again")
        while True:
            gone = 0
            try:
                gone = await self._purge()
            except Exception as error:  # such as a disk that is full: all the more it is tried again
                trouble.seen(error)
            else:
                trouble.over()
            await asyncio.sleep(1.0 if gone else min(PURGE_EVERY, self.config.keep_sessions))

    async def _purge(self) -> int:
        """Forget sessions that ended long ago, and remove what they left."""
        before = time.time() - timedelta(seconds=self.config.keep_sessions).total_seconds()
        refused = time.time() - min(KEEP_UNTAKEN, self.config.keep_sessions)
        untaken: int = await self.writer(
            functools.partial(store.purge_untaken, before=refused, most=MOST_UNTAKEN)
        )
        gone: list[str] = await self.writer(functools.partial(store.purge, before=before))
        for uuid in gone:
            remove = functools.partial(shutil.rmtree, self._folder / uuid, ignore_errors=True)
            await self.runner.in_thread(remove)
        return len(gone) + untaken

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _signed(config: NodeConfig, state: Path) -> SignedUrls:
    """The signed URLs of a node; their keys are in its state folder."""
    kept = config.kept
    ring = KeyRing(
        state / "url-keys.json", kept.rotate_keys.total_seconds(), kept.max_url_lifetime.total_seconds()
    )
    return SignedUrls(ring, str(config.public_url) if config.public_url else None)


def capacity_of(config: NodeConfig) -> Capacity:
    """What a node has to offer: as configured, else what the machine has."""
    cores = config.cores or len(os.sched_getaffinity(0))
    memory = int(config.memory_gib * GIB) if config.memory_gib else psutil.virtual_memory().total
    storage = int(config.storage_gib * GIB) if config.storage_gib else None
    return Capacity(cores, memory, config.max_running or cores, storage, config.gpus)


def _not_a_phase(update: Update) -> str | None:
    """Why an update is not one that can be done; None when it may be."""
    if update.kind != ENUM_UPDATE:
        return f"updates of kind {update.kind} change nothing here"
    if update.path not in ("/phase", "phase"):
        return f"{update.path} cannot be updated; /phase can"
    if str(update.value) not in Phase.__members__:
        return f"{update.value!r} is not a phase"
    return None
