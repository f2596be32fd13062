"""Results of steps kept for other runs: what the same command makes of the same bytes need not be made again.

A result is known by the command, environment, image and the *content* of its inputs, and by whose run it was:
nobody is given what another made. It is a folder ``WORKSPACE/.reuse/KK/KEY`` of hard links to what the step
left, which comes and goes in one rename, so that a reader finds all of it or nothing, whoever crashes. The
outputs are collected from it anew, by the tool as it is now. The database knows sizes and when each was last
used. It must not know HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from wes_bridge.data.beneath import real_path
from wes_bridge.data.linking import link_file, link_tree, tree_size
from wes_bridge.data.special import special_kind
from wes_bridge.data.stand_ins import is_stand_in, stand_ins_below
from wes_bridge.data.workspace import url_path
from wes_bridge.model.states import State
from wes_bridge.model.step_plan import StagedFile, StageMode, StepOutcome, StepPlan
from wes_bridge.small_files import open_regular, read_small
from wes_bridge.store.reuse import forget, note_kept, note_used, too_many
from wes_bridge.store.runs import TaskRow
from wes_bridge.store.writer import Writer

_ROOT = "/wb-root"
_FOLDER = ".reuse"
_MOST_REWRITTEN = 64 * 1024**2
"""Bytes of a file that a session's paths are replaced in; a result with a larger one is not taken."""
_REMEMBERED = 100_000
"""Files whose checksums are remembered."""


class UnknownContentError(ValueError):
    """The content of an input cannot be known here."""


class Kept(BaseModel):
    """What is known of a kept result; ``size`` is in bytes, ``root`` the session's root it was made below."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    task_id: str
    name: str
    node: str | None
    exit_code: int
    root: str
    size: int


class Checksums:
    """SHA-256 of local files, each computed once while it looks the same (inode, size, time of change).

    Args:
        told: gives the checksum of a real path of a file that only stands in here, as its node has told it.
    """

    def __init__(self, told: Callable[[str], str | None] = lambda _path: None) -> None:
        self._told = told
        self._known: OrderedDict[tuple[int, int, int, int], str] = OrderedDict()
        self._lock = threading.Lock()
        self.computed = 0

    def of(self, path: Path, top: Path | None = None) -> str:
        """Of a file; of a folder, over the names and contents below it. Blocks.

        Args:
            path: the file or folder.
            top: the folder that it is a part of.

        Raises:
            OSError: it cannot be read.
            UnknownContentError: there is a link that leads out, or a pipe.
        """
        if top is not None and path.is_symlink():
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(top)):
                raise UnknownContentError(str(path))
            return f"l{path.readlink()}"  # that to which it leads counts by itself
        if path.is_dir():
            entries = sorted(path.iterdir())
            text = "\0".join(f"{entry.name}\0{self.of(entry, top or path)}" for entry in entries)
            return "d" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        stat = path.stat()
        if special_kind(stat.st_mode) is not None:  # to read a pipe would wait for its other end
            raise UnknownContentError(str(path))
        if is_stand_in(stat):
            checksum = self._told(real_path(path))
            if checksum is None:
                raise UnknownContentError(str(path))
            return checksum
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with self._lock:
            self.computed += 1
            self._known[key] = digest
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return digest


def content_key(plan: StepPlan, owner: str, checksums: Checksums) -> str | None:
    """What a step's result is known by; None when the content of its inputs is not known here. Blocks.

    Resources and time limit do not count: they do not change what a command makes, unless it is told them.
    """
    try:
        staged = [_identity(file, checksums) for file in plan.staged]
    except (OSError, UnknownContentError):
        return None
    what = {
        "owner": owner,
        "argv": plan.argv,
        "environment": plan.environment,
        "workdir": plan.workdir,
        "streams": [plan.stdin, plan.stdout, plan.stderr],
        "network": plan.network,
        "image": [plan.image, "in it"],
        "success_codes": plan.success_codes,
        "staged": staged,
    }
    text = json.dumps(what, sort_keys=True).replace(plan.root, _ROOT)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _identity(file: StagedFile, checksums: Checksums) -> list[Any]:
    if file.mode is StageMode.INPLACE:
        raise UnknownContentError(file.path)
    content = file.contents
    if file.url is not None:
        if not file.url.startswith("file:"):
            raise UnknownContentError(file.url)
        content = checksums.of(url_path(file.url))
    return [file.path, file.url is None, content, file.directory, file.mode]


class ResultFolder:
    """The kept results on disk. All methods block.

    Args:
        workspace: folder of all runs.
    """

    def __init__(self, workspace: Path) -> None:
        self.root = workspace / _FOLDER

    def _place(self, key: str) -> Path:
        return self.root / key[:2] / key

    def _new(self) -> Path:
        folder = self.root / ".new"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def keep(self, key: str, kept: Kept, out: Path, streams: dict[str, Path]) -> bool:
        """Keep a result; false when it is there already.

        Raises:
            OSError: no room, or the files are gone.
        """
        new, place = self._new(), self._place(key)
        try:
            new.mkdir()
            link_tree(out, new / "out")
            for name, path in streams.items():
                link_file(path, new / name)
            (new / "kept.json").write_text(kept.model_dump_json())
            place.parent.mkdir(exist_ok=True)
            try:
                new.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
                return False
            return True
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def take(self, key: str, plan: StepPlan) -> Kept | None:
        """Put a kept result where the step would have written; None when there is none that is whole."""
        place, target = self._place(key), url_path(plan.output_url)
        partial = target.with_name(f".{uuid.uuid4().hex}")
        try:
            kept = Kept.model_validate_json((place / "kept.json").read_bytes())
            partial.parent.mkdir(parents=True, exist_ok=True)
            link_tree(place / "out", partial)
            if tree_size(partial) != kept.size:
                raise FileNotFoundError(str(place))
            _rewrite(partial, plan, kept.root)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            for name, url in (("stdout", plan.stdout_url), ("stderr", plan.stderr_url)):
                if url is not None and (place / name).is_file():
                    url_path(url).unlink(missing_ok=True)
                    link_file(place / name, url_path(url))
        except (OSError, shutil.Error, ValidationError):
            shutil.rmtree(partial, ignore_errors=True)
            if place.is_dir():  # damaged: another may take its place
                self.drop([key])
            return None
        return kept

    def drop(self, keys: Iterable[str]) -> None:
        """Remove results, each out of sight first."""
        for key in keys:
            gone = self._new()
            with contextlib.suppress(FileNotFoundError):
                self._place(key).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def sweep(self, known: set[str], before: float) -> list[str]:
        """Remove what a crash left, older than a moment: half-made results, and those nobody knows.

        Returns:
            Keys in ``known`` that have no folder.
        """
        found = set()
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            for path in folder.iterdir():
                found.add(path.name)
                with contextlib.suppress(OSError):
                    if (folder.name == ".new" or path.name not in known) and path.stat().st_mtime < before:
                        shutil.rmtree(path, ignore_errors=True)
        return sorted(known - found)


def _rewrite(out: Path, plan: StepPlan, old_root: str) -> None:
    """Paths below the old session's root, in files that the engine reads paths from, as the new one's."""
    for name in plan.rewrite:
        path = out / name
        if path.is_file() and not path.is_symlink():
            text = read_small(path, _MOST_REWRITTEN, follow=False).replace(
                old_root.encode(), plan.root.encode()
            )
            path.unlink()
            path.write_bytes(text)


InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Reuse:
    """Kept results, for the steps of all runs of a worker.

    Attributes:
        folder: where they are.
        limit: bytes they may have together.
        writer: for the database.
        checksums: of inputs.
    """

    folder: ResultFolder
    limit: int
    writer: Writer
    checksums: Checksums

    async def find(self, plan: StepPlan, owner: str, in_thread: InThread) -> tuple[str | None, Kept | None]:
        """What a step's result is known by, and the result if it is kept: then it is in its place."""

        def look() -> tuple[str | None, Kept | None]:
            key = content_key(plan, owner, self.checksums)
            return key, self.folder.take(key, plan) if key else None

        found: tuple[str | None, Kept | None] = await in_thread(look)
        key, kept = found
        if key is not None and kept is not None:
            now = time.time()
            self.writer.soon(lambda connection: note_used(connection, key, now))
        return key, kept

    async def keep(
        self, key: str, task: TaskRow, plan: StepPlan, done: StepOutcome, thread: InThread
    ) -> None:
        """Keep what a step made; whatever stands in the way, the run goes on without."""
        out = url_path(done.output_dir or plan.output_url)
        streams = {
            name: url_path(url)
            for name, url in (("stdout", task.stdout), ("stderr", task.stderr))
            if getattr(plan, name) is None and url is not None and url.startswith("file:")
        }

        def keep() -> int | None:
            size = tree_size(out)
            if size > self.limit or any(stand_ins_below(real_path(out))):
                return None
            kept = Kept(
                run_id=task.run_id,
                task_id=task.task_id,
                name=task.name,
                node=task.node,
                exit_code=done.exit_code or 0,
                root=plan.root,
                size=size,
            )
            existing = {
                name: path for name, path in streams.items() if path.is_file() and not path.is_symlink()
            }
            return size if self.folder.keep(key, kept, out, existing) else None

        with contextlib.suppress(OSError, shutil.Error):
            size = await thread(keep)
            if size is not None:
                now = time.time()
                await self.writer(lambda connection: note_kept(connection, key, size, now))
                await self.make_room(thread)

    async def make_room(self, in_thread: InThread) -> None:
        """Drop what was not used for longest until the rest is small enough."""
        while keys := await self.writer(lambda connection: too_many(connection, self.limit)):
            await self.drop(keys, in_thread)

    async def drop(self, keys: list[str], in_thread: InThread) -> None:
        """Forget results; what runs have linked stays theirs."""
        await in_thread(lambda: self.folder.drop(keys))
        await self.writer(lambda connection: forget(connection, keys))


def show_kept(task: TaskRow, kept: Kept) -> None:
    """Tell in a task's log where its result is from."""
    words = f"result of {kept.name} in run {kept.run_id}, kept for reuse"
    where = f"; it ran on {kept.node}" if kept.node else ""
    task.state, task.node = State.RUNNING, kept.node
    task.placement = {
        "node": kept.node,
        "reason": words + where,
        "reused_from": {"run_id": kept.run_id, "task_id": kept.task_id},
    }
    task.system_logs = [words]
    task.start_time = time.time()
