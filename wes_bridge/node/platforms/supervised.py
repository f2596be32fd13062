"""What platforms have in common whose commands run under the shim of ``supervisor``."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from wes_bridge.model.execution_broker import Session
from wes_bridge.node.errors import PlatformError
from wes_bridge.node.layout import SessionFolder, clean_path
from wes_bridge.node.platforms import supervisor
from wes_bridge.node.platforms.base import Job
from wes_bridge.node.platforms.supervisor import SHIM_FAILED, Launch
from wes_bridge.node.staging.release import stream_path


class Supervised:
    """Base of such platforms: they say how to launch, this does the rest."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._started: set[str] = set()
        self._codes: dict[str, int] = {}
        self._lock = Lock()
        self._on_cpu = dict.fromkeys(sorted(os.sched_getaffinity(0)), 0)
        self._pinned: dict[str, frozenset[int]] = {}

    def launch(self, job: Job) -> Launch:
        """How to start the command of ``job``. Runs in a thread."""
        raise NotImplementedError

    async def open(self) -> None:
        """The node is starting."""

    async def prepare(self, session: Session) -> None:
        """Nothing to get ready."""

    def start(self, job: Job) -> None:
        """Start the command."""
        launch = self.launch(job)
        try:
            self._pids[job.uuid] = supervisor.spawn(job.folder, launch)
            self._started.add(job.uuid)
        except OSError as error:
            self._unpin(job.uuid)
            name = f": {error.filename}" if error.filename else ""
            raise PlatformError(f"cannot start the command: {error.strerror}{name}") from error

    async def find(self, uuid: str, folder: SessionFolder) -> bool:
        """Whether the shim has left its note."""
        pid = supervisor.read_pid(folder)
        if pid is None:
            return False
        self._pids[uuid] = pid
        return True

    def watched(self, job: Job) -> int | None:
        """The shim, while it runs."""
        return self._pids.get(job.uuid)

    async def wait(self, job: Job) -> int | None:
        """Wait for the shim, then read what it noted."""
        pid = self._pids[job.uuid]
        try:
            code = self._codes.pop(job.uuid, None)
            if code is None and (job.uuid in self._started or supervisor.is_alive(job.folder, pid)):
                _, code = await supervisor.wait_gone(pid)
            return supervisor.read_exit(job.folder) if code in (None, SHIM_FAILED) else code
        finally:
            self._pids.pop(job.uuid, None)
            self._started.discard(job.uuid)
            self._unpin(job.uuid)

    def ends_within(self, job: Job, seconds: float) -> bool:
        """Wait a little for the shim; :meth:`wait` then answers at once."""
        ended, code = supervisor.wait_briefly(self._pids[job.uuid], seconds)
        if ended:
            self._started.discard(job.uuid)
            if code is not None:
                self._codes[job.uuid] = code
        return ended

    async def kill(self, uuid: str, folder: SessionFolder, grace: float) -> None:
        """End the whole tree."""
        pid = self._pids.get(uuid) or supervisor.read_pid(folder)
        if pid is not None:
            await supervisor.kill_tree(folder, pid, uuid, grace)

    async def close(self) -> None:
        """Commands go on."""

    def streams(self, job: Job) -> tuple[Path | None, Path, Path]:
        """The files standard input, output and error are connected to."""
        tree = job.tree
        executable = job.session.executable
        stdin = executable.streams.stdin if executable and executable.streams else None
        source = tree.resolve(clean_path(stdin.path, "streams.stdin.path")) if stdin and stdin.path else None
        out, err = (self._stream(job, name) for name in ("stdout", "stderr"))
        return source, out, err

    def _stream(self, job: Job, name: str) -> Path:
        relative = stream_path(job.session, name)
        if relative is None:
            return job.folder.root / name
        path = job.tree.paths.host(f"{job.tree.workdir}/{relative}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        return path

    def cpus(self, job: Job) -> frozenset[int] | None:
        """The least used processors, when the offer limits their number."""
        cores = job.session.compute.cores if job.session.compute else None
        if cores is None or cores.max is None or cores.max >= len(self._on_cpu):
            return None
        with self._lock:
            quiet = sorted(self._on_cpu, key=lambda cpu: self._on_cpu[cpu])
            chosen = frozenset(quiet[: max(1, cores.max)])
            for cpu in chosen:
                self._on_cpu[cpu] += 1
            self._pinned[job.uuid] = chosen
        return chosen

    def _unpin(self, uuid: str) -> None:
        with self._lock:
            for cpu in self._pinned.pop(uuid, frozenset()):
                self._on_cpu[cpu] -= 1
