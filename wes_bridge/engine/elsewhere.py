"""Outputs of a run that are still at nodes: fetched on demand, and made again after a loss.

A step's output may stay at the node that made it. When that node is gone, the step runs again, and so do the
steps whose lost outputs it needs, but no others. Names stay: the new files stand where the first ones stood.
This module must not know cwltool.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from wes_bridge.data.beneath import real_path
from wes_bridge.data.hashing import hash_file
from wes_bridge.data.stand_ins import put_stand_in, stand_ins_below
from wes_bridge.data.workspace import RunFolder, url_path
from wes_bridge.engine.remakes import Remake, read_remakes, remake_note, write_remake
from wes_bridge.federation.apart import LEASE
from wes_bridge.federation.bringing import Bringing, LostError
from wes_bridge.federation.placement import Progress, Report
from wes_bridge.federation.placing import Federation
from wes_bridge.federation.replicas import Replica, note_of
from wes_bridge.model.manifest import EntryKind, ManifestEntry, ManifestError
from wes_bridge.model.run_options import without_index
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StagedFile, StepOutcome, StepPlan

Result = TypeVar("Result")
_RENEW_AT = 6 * 3600.0
"""Seconds that a lease has left when it is renewed."""
_LOOK = 600.0
"""Seconds between two looks at leases, at most; nodes may give shorter leases than they are asked for."""
_MOST_AGAIN = 3
"""Times one step's output is made again."""
_AT_ONCE = 8
"""Outputs of a run that are fetched at once at its end."""


class LostForGoodError(Exception):
    """An output is lost and cannot be made again; the text is for the run's user."""


@dataclass(frozen=True)
class Maker:
    """A step that has made an output.

    Attributes:
        name: of the step, for people.
        task_id: its task.
        plan: what it does.
        exit_code: with which it ended.
    """

    name: str
    task_id: str
    plan: StepPlan
    exit_code: int | None


class Elsewheres:
    """Those outputs of one run.

    Args:
        folder: of the run.
        bringing: fetches.
        federation: runs steps again.
        tell: is told that a step is run again: its task and a sentence.
        leave: whether sessions are left running when the run is not followed any more.
    """

    def __init__(
        self,
        folder: RunFolder,
        bringing: Bringing,
        federation: Federation,
        tell: Callable[[str, str], None],
        leave: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._leave = leave
        self._bringing = bringing
        self._replicas = bringing.replicas
        self._federation = federation
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._makers: dict[str, Maker] = {}
        self._again: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._times: dict[str, int] = {}
        self._remakes: dict[str, Remake] = {}
        self._changed: dict[str, ManifestEntry] = {}
        self._unfreed: dict[str, Maker] = {}
        self._staying: set[str] = set()

    # ---- steps -------------------------------------------------------------------------------------

    def load(self, task_id: str) -> None:
        """Read the notes of what a task of an earlier run left at nodes. Blocks."""
        self._replicas.load(self._folder.tasks, task_id)

    def take_up(self) -> None:
        """Read the notes of an earlier worker: what the run left at nodes, and what was being made again.
        Blocks."""
        self._replicas.load(self._folder.tasks)
        self._remakes = read_remakes(self._folder.tasks)
        self._times = {folder: remake.times for folder, remake in self._remakes.items()}

    def made(self, maker: Maker, output_url: str | None) -> None:
        """A step has ended; if its output stays at its node, it may have to be made again.

        Args:
            maker: the step.
            output_url: where its output is; None: one of the places that its task has.
        """
        if not self._replicas:
            return
        if output_url is not None:
            found = self._replicas.find(real_path(url_path(output_url)))
            found_all = [] if found is None else [found[0]]
        else:
            found_all = self._replicas.below(str(self._folder.real_root / "tasks" / maker.task_id))
        for replica in found_all:
            if not replica.whole:
                self._makers[replica.folder] = self._unfreed[replica.folder] = maker
                self._news.set()

    async def run(
        self,
        plan: StepPlan,
        report: Report,
        journalled: dict[str, Any] | None,
        leave: Callable[[], bool],
    ) -> StepOutcome:
        """Run a step (:meth:`Federation.run`); inputs that are lost are made again first."""
        while True:
            try:
                return await self._federation.run(await self.told(plan), report, journalled, leave)
            except LostError as lost:
                await self._made_again(lost)
                journalled = None

    @property
    def has_any(self) -> bool:
        """Whether outputs of the run are at nodes."""
        return bool(self._replicas) and bool(self._replicas.below(str(self._folder.real_root)))

    @property
    def is_used(self) -> bool:
        """Whether outputs of the run were left at nodes: reading a file may then take a while."""
        return bool(self._makers)

    @property
    def may_free(self) -> bool:
        """Whether there is something at nodes that was not freed."""
        return bool(self._unfreed)

    async def told(self, plan: StepPlan) -> StepPlan:
        """A step's plan with what is known of its inputs now: sizes of folders, and what was made again."""
        if not self._replicas:
            return plan
        staged = await self._bringing.in_thread(lambda: [self._told(item) for item in plan.staged])
        return replace(plan, staged=staged)

    def _told(self, item: StagedFile) -> StagedFile:
        if item.url is None or not item.url.startswith("file:"):
            return item
        real = real_path(url_path(item.url))
        if item.directory:
            return item if item.size is not None else replace(item, size=self._replicas.size(real))
        changed = self._changed.get(real)
        return item if changed is None else replace(item, checksum=changed.checksum, size=changed.size)

    # ---- bytes -------------------------------------------------------------------------------------

    async def bring_all(self, values: Any) -> None:
        """Bring the files of an output object, and say of those that were made again what they are now.

        Raises:
            LostForGoodError: one cannot be had.
            OSError: or not be written.
        """
        if not self._replicas:
            return
        wanted = dict.fromkeys(real_path(path) for _, path in _files(values))
        waiting = [real for real in wanted if self._replicas.find(real) is not None]

        async def work() -> None:
            while waiting:
                await self.bring_now(waiting.pop())

        workers = [asyncio.create_task(work()) for _ in range(min(_AT_ONCE, len(waiting)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        for item, path in _files(values) if self._changed else ():
            changed = self._changed.get(real_path(path))
            if changed is not None:
                item |= {"checksum": changed.checksum, "size": changed.size}

    async def leave(self, values: Any, lease: float) -> None:
        """Let an output object name files where they are, at their nodes, which keep them for a while.

        Args:
            values: changed in place.
            lease: seconds for which they are to be kept.
        """
        if not self._replicas:
            return
        self._staying = await self._bringing.in_thread(functools.partial(self._left, values))
        for folder in self._staying:
            await self._bringing.renew(folder, lease, lease)

    def _left(self, values: Any) -> set[str]:
        found = set()
        for item, path in list(_files(values)):
            real = real_path(path)
            replica = self._replicas.find(real)
            if replica is not None and not replica[0].whole and any(stand_ins_below(real)):
                is_folder = item["class"] == "Directory"
                item["location"] = replica[0].location(replica[1], directory=is_folder)
                item.pop("listing", None)
                found.add(replica[0].folder)
        return found

    async def free(self, ended: list[str], needed: list[Any]) -> None:
        """Have nodes free the outputs that no step needs; if one is needed after all, its step runs again.

        Args:
            ended: names of the workflow's steps that have ended.
            needed: values that steps still take, or that are outputs of the run.
        """
        done = set(ended)
        mine = [
            folder
            for folder, maker in self._unfreed.items()
            if without_index(maker.name.partition("/")[0]) in done
        ]
        if not mine:
            return
        wanted = await self._bringing.in_thread(lambda: {real_path(path) for _, path in _files(needed)})
        for folder in mine:
            if not any(f"{one}/".startswith(f"{folder}/") for one in wanted):
                del self._unfreed[folder]
                found = self._replicas.find(folder)
                if found is not None and not found[0].whole:
                    await self._bringing.free(found[0])

    def wanted(self, *, is_failed: bool) -> Callable[[str], bool]:
        """Which outputs nodes keep when the run has ended: those that stay there, and of a run that failed
        all that is nowhere else, for a rerun; their leases end."""
        kept = set(self._staying)
        if is_failed:
            kept |= {one.folder for one in self._replicas.below(str(self._folder.real_root)) if not one.whole}
        return kept.__contains__

    async def bring_now(self, real: str) -> None:
        """Bring what is at a real path.

        Raises:
            LostForGoodError: it cannot be had.
            OSError: or not be written.
        """
        while True:
            try:
                await self._bringing.bring(real)
            except LostError as lost:
                await self._made_again(lost)
            else:
                return

    def bring(self, real: str) -> None:
        """See :class:`wes_bridge.data.stand_ins.Elsewhere`."""
        self._wait_for(self.bring_now(real))

    def checksum(self, real: str) -> str | None:
        """See :class:`wes_bridge.data.stand_ins.Elsewhere`."""
        return self._replicas.checksum(real)

    def start(self, real: str, size: int) -> bytes:
        """See :class:`wes_bridge.data.stand_ins.Elsewhere`."""
        return self._wait_for(self._start(real, size))

    async def _start(self, real: str, size: int) -> bytes:
        while True:
            try:
                return await self._bringing.start(real, size)
            except LostError as lost:
                await self._made_again(lost)

    def _wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except LostForGoodError as error:
            raise OSError(str(error)) from error

    async def renew(self) -> None:
        """Have nodes keep what is there for as long as the run goes on."""
        folder = str(self._folder.real_root)
        while True:
            self._news.clear()
            left = await self._bringing.renew(folder, LEASE, _RENEW_AT) if self._replicas else LEASE
            with suppress(TimeoutError):
                async with asyncio.timeout(max(1.0, min(_LOOK, left / 3))):
                    await self._news.wait()
                    await asyncio.sleep(1.0)  # many steps may end together

    # ---- what is lost ------------------------------------------------------------------------------

    async def _made_again(self, lost: LostError) -> None:
        """Wait until a lost output is there again. The first call starts the step; the others wait for it."""
        task = self._again.get(lost.folder)
        if task is None:
            task = asyncio.create_task(self._make_again(lost))
            self._again[lost.folder] = task
            task.add_done_callback(lambda _: self._again.pop(lost.folder, None))
        await asyncio.shield(task)

    async def stop(self) -> None:
        """Make nothing again any more; the sessions go on only where they are left to another worker."""
        for task in list(self._again.values()):
            task.cancel()
        await asyncio.gather(*self._again.values(), return_exceptions=True)

    async def release(self) -> None:
        """Cancel the sessions in which an earlier worker had outputs made again, and that nobody has needed
        since."""
        left = [folder for folder in self._remakes if folder not in self._again]
        await asyncio.gather(*(self._released(folder) for folder in left))

    async def _released(self, folder: str) -> None:
        placement = self._remakes[folder].placement
        await self._federation.cancel(str(placement.get("node")), str(placement.get("session_url")))
        await self._forget_remake(folder)

    async def _forget_remake(self, folder: str) -> None:
        self._remakes.pop(folder, None)
        await self._bringing.in_thread(lambda: remake_note(Path(folder)).unlink(missing_ok=True))

    async def _make_again(self, lost: LostError) -> None:
        maker, found, begun = (
            self._makers.get(lost.folder),
            self._replicas.find(lost.folder),
            self._remakes.get(lost.folder),
        )
        times = self._times[lost.folder] = begun.times if begun else self._times.get(lost.folder, 0) + 1
        if maker is None or found is None or times > _MOST_AGAIN:
            why = "the step that made it is not known" if maker is None else f"it was lost {times} times"
            raise LostForGoodError(f"an output cannot be read from its node, and {why}: {lost}")
        replica = found[0]
        told = f"its output at {replica.note.broker} is lost ({lost}), so the step runs again"
        self._tell(maker.task_id, f"{maker.name}: {told}")
        plan = replace(
            maker.plan,
            output_url=f"{maker.plan.output_url}.again{times}",
            stdout_url=None,
            stderr_url=None,
        )
        journalled = begun.placement if begun else None
        is_left = False
        try:
            outcome = await self.run(plan, self._noting(lost.folder, times), journalled, self._leave)
            if outcome.output_dir is None or outcome.exit_code != maker.exit_code:
                reason = outcome.problem or f"it ended with exit code {outcome.exit_code}"
                raise LostForGoodError(
                    f"{maker.name}: its output is lost ({lost}), and the step cannot run again: {reason}"
                )
            await self._bringing.in_thread(
                functools.partial(self._take_place, maker, replica, outcome.output_dir)
            )
        except asyncio.CancelledError:
            is_left = self._leave()
            raise
        finally:
            if not is_left:
                await asyncio.shield(self._forget_remake(lost.folder))

    def _noting(self, folder: str, times: int) -> Report:
        """Notes an offer before it is accepted, so that the worker that takes the run up knows the session.
        The task is shown as it was."""

        async def note(progress: Progress) -> None:
            if progress.session is not None and progress.session.phase is Phase.OFFERED:
                remake = Remake(times=times, placement=progress.placement.to_json())
                self._remakes[folder] = remake
                await self._bringing.in_thread(lambda: write_remake(Path(folder), remake))

        return note

    def _take_place(self, maker: Maker, old: Replica, output_url: str) -> None:
        """Let what was made again stand where the lost one stood. Blocks."""
        new = real_path(url_path(output_url))
        found = self._replicas.find(new)
        before: dict[str, ManifestEntry] = {}
        with suppress(OSError, ManifestError):
            before = {entry.path: entry for entry in self._replicas.entries(old)}
        if found is not None and not found[0].whole:
            self._stand_in_again(maker, old, found[0], before)
        else:
            self._fill(maker, old, Path(new), before)
        shutil.rmtree(new, ignore_errors=True)

    def _stand_in_again(
        self, maker: Maker, old: Replica, new: Replica, before: dict[str, ManifestEntry]
    ) -> None:
        entries = {entry.path: entry for entry in self._replicas.entries(new)}
        folder = Path(old.folder)
        for place in list(stand_ins_below(old.folder)):
            inside = os.path.relpath(place, old.folder)
            entry = entries.get(inside)
            if entry is None:
                raise LostForGoodError(
                    f"{maker.name}: its output was lost, and the step has not made {inside} when it ran again"
                )
            if entry.checksum != before.get(inside, entry).checksum:
                self._note_change(maker, folder / inside, entry)
                (folder / inside).unlink()
                put_stand_in(folder / inside, entry)
        note_of(Path(new.folder)).replace(note_of(folder))
        self._replicas.drop(old)
        self._replicas.drop(new)
        self._unfreed[old.folder] = maker
        made = Replica(old.folder, new.note, False, new.signed, new.signed_until)
        self._replicas.put(made)

    def _fill(self, maker: Maker, old: Replica, new: Path, before: dict[str, ManifestEntry]) -> None:
        for place in list(stand_ins_below(old.folder)):
            inside = os.path.relpath(place, old.folder)
            source = new / inside
            if source.is_symlink() or not source.is_file():
                raise LostForGoodError(
                    f"{maker.name}: its output was lost, and the step has not made {inside} when it ran again"
                )
            entry = _entry_of(source, inside)
            if entry.checksum != before.get(inside, entry).checksum:
                self._note_change(maker, Path(place), entry)
            source.replace(place)
        found = self._replicas.find(str(new))
        self._replicas.drop(old)
        if found is not None:
            self._replicas.drop(found[0])
        note_of(Path(old.folder)).unlink(missing_ok=True)

    def _note_change(self, maker: Maker, place: Path, entry: ManifestEntry) -> None:
        self._changed[str(place)] = entry
        self._tell(
            maker.task_id,
            f"{maker.name}: its output was lost, and the step has made a different {place.name} when it ran"
            " again; steps that had used the first one do not run again",
        )


def _entry_of(file: Path, path: str) -> ManifestEntry:
    with file.open("rb") as opened:
        size, sums = hash_file(opened.fileno())
    return ManifestEntry(path, EntryKind.FILE, size, checksum=sums.checksum)


def _files(value: Any) -> Iterator[tuple[dict[str, Any], Path]]:
    """All local Files and Directories in an output object, each with its path."""
    if isinstance(value, list):
        for item in value:
            yield from _files(item)
    elif isinstance(value, dict):
        location = value.get("location")
        if value.get("class") in ("File", "Directory") and isinstance(location, str):
            with suppress(ValueError):
                yield value, url_path(location)
        yield from _files([item for item in value.values() if isinstance(item, dict | list)])
