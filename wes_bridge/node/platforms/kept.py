"""What platforms have in common whose commands the node's keeper runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from wes_bridge.data import beneath
from wes_bridge.data.beneath import real_path
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.gaps import Gap
from wes_bridge.node.errors import NotBegunError, PlatformError
from wes_bridge.node.layout import SessionFolder, clean_path
from wes_bridge.node.platforms import processes
from wes_bridge.node.platforms.base import Job
from wes_bridge.node.platforms.keeping import Command, Keeping, NoSandboxError
from wes_bridge.node.staging.release import stream_path

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC


@dataclass(frozen=True)
class Launch:
    """How to start a command.

    Attributes:
        program: path of what is run.
        argv: the command.
        env: its whole environment.
        cwd: where it starts.
        stdin, stdout, stderr: its streams; ``/dev/null`` when stdin is None.
        cpus: processors it may use; None for all.
        sandbox: what the keeper puts around it (``enclosing``); None for nothing.
        options: words that the program reads at descriptor 3, each ended by a NUL; None when it reads none.
            Other users of the machine cannot see them, as they can see ``argv``.
    """

    program: str
    argv: list[str]
    env: dict[str, str]
    cwd: Path
    stdin: Path | None
    stdout: Path
    stderr: Path
    cpus: frozenset[int] | None = None
    sandbox: Mapping[str, object] | None = None
    options: list[str] | None = None


class Kept(ABC):
    """Base of such platforms: they say how to launch, this does the rest.

    Args:
        state: the node's state directory.
    """

    def __init__(self, state: Path) -> None:
        self._keeper = Keeping(state)
        self._commands: dict[str, Command] = {}
        self._lock = Lock()
        self._on_cpu = dict.fromkeys(sorted(os.sched_getaffinity(0)), 0)
        self._pinned: dict[str, frozenset[int]] = {}

    @abstractmethod
    def launch(self, job: Job) -> Launch:
        """How to start the command of ``job``. Runs in a thread."""

    def network(self, job: Job) -> Mapping[str, object] | None:
        """The network that the command of ``job`` is to run in; None when :meth:`launch` has seen to that."""
        return None

    async def open(self) -> None:
        """Have a keeper.

        Raises:
            OSError: none can be had.
        """
        await asyncio.get_running_loop().run_in_executor(None, self._keeper.open)

    async def gaps(self) -> list[Gap]:
        """None, unless a platform knows of some."""
        return []

    async def prepare(self, session: Session) -> None:  # noqa: B027 - most have nothing to do
        """Nothing to get ready."""

    def start(self, job: Job) -> None:
        """Start the command.

        Raises:
            NotBegunError: there is no sandbox for it.
            PlatformError: it cannot be started.
        """
        network = self.network(job)
        launch = self.launch(job)
        try:
            self._commands[job.uuid] = _start(self._keeper, job.folder, launch, network)
        except NoSandboxError as error:
            self._unpin(job.uuid)
            raise NotBegunError(f"the sandbox cannot be made: {error}") from error
        except OSError as error:
            self._unpin(job.uuid)
            name = f": {error.filename}" if error.filename else ""
            raise PlatformError(f"cannot start the command: {error.strerror or error}{name}") from error

    async def find(self, uuid: str, folder: SessionFolder) -> bool:
        """Whether there is a record; if the command still runs, follow it."""
        command = await self._follow(folder)
        if command is not None:
            self._commands[uuid] = command
        return command is not None or processes.was_started(folder)

    def watched(self, job: Job) -> processes.Roots | None:
        """The command, and what its sandbox has adopted."""
        command = self._commands.get(job.uuid)
        return processes.Roots(command.pid, command.first) if command is not None else None

    async def wait(self, job: Job) -> int | None:
        """Wait for the command's end; if its keeper has died, for the end of what is left of it."""
        command = self._commands.get(job.uuid)
        try:
            if command is not None:
                await command.gone()
            code = command.code if command is not None else None
            if code is None:
                code = processes.read_exit(job.folder)
            if code is None:
                await processes.kill_tree(None, job.uuid, 0.0)
            return code
        finally:
            if command is not None:
                command.close()
            self._commands.pop(job.uuid, None)
            self._unpin(job.uuid)

    def ends_within(self, job: Job, seconds: float) -> bool:
        """Wait a little for the command; :meth:`wait` then answers at once."""
        return self._commands[job.uuid].ends_within(seconds)

    def code(self, job: Job) -> int | None:
        """The exit code of a command that has ended."""
        return self._commands[job.uuid].code

    def forget(self, job: Job) -> None:
        """Let an ended command have never been: it can be started again."""
        del self._commands[job.uuid]
        self._unpin(job.uuid)
        job.folder.command.unlink(missing_ok=True)

    async def kill(self, uuid: str, folder: SessionFolder, grace: float) -> None:
        """End the whole tree."""
        command = self._commands.get(uuid) or await self._follow(folder)
        if command is not None or processes.was_started(folder):
            await processes.kill_tree(command, uuid, grace)

    async def _follow(self, folder: SessionFolder) -> Command | None:
        follow = functools.partial(self._keeper.follow, folder.command)
        return await asyncio.get_running_loop().run_in_executor(None, follow)

    async def close(self) -> None:
        """Commands go on, and the keeper as long as they do."""
        for command in self._commands.values():
            command.close()
        self._keeper.close()

    def streams(self, job: Job) -> tuple[Path | None, Path, Path]:
        """The files standard input, output and error are connected to."""
        executable = job.session.executable
        stdin = executable.streams.stdin if executable and executable.streams else None
        source = _input(job, clean_path(stdin.path, "streams.stdin.path")) if stdin and stdin.path else None
        out, err = (self._stream(job, name) for name in ("stdout", "stderr"))
        return source, out, err

    def _stream(self, job: Job, name: str) -> Path:
        relative = stream_path(job.session, name)
        if relative is None:
            return job.folder.root / name
        return job.tree.paths.host(f"{job.tree.workdir}/{relative}")

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


def _input(job: Job, path: str) -> Path:
    """The real path of standard input. A link is followed within what the session was given, no further.

    Raises:
        PlatformError: there is none, or a link leads elsewhere.
    """
    top, place = job.tree.given(path) or job.folder.root, job.tree.resolve(path)
    real = real_path(place)
    if not Path(real).is_relative_to(real_path(top)):
        raise PlatformError(f"cannot read standard input: a link leads from {path} out of what was staged")
    return Path(real)


def _open_input(path: Path) -> int:
    """Standard input, by its real path: no link is followed any more."""
    with beneath.opened(beneath.top_of("/")) as top:
        found = beneath.open_beneath(top, str(path)[1:])
    os.set_blocking(found, True)
    return found


def _open_output(folder: SessionFolder, path: Path) -> int:
    """A stream's file, emptied; no link is followed to it, and one in its place gives way."""
    with beneath.opened(beneath.top_of(folder.root)) as root:
        there, name = beneath.parent_beneath(root, str(path.relative_to(folder.root)), make=True)
    with beneath.opened(there):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(os.lstat(name, dir_fd=there).st_mode):
                os.unlink(name, dir_fd=there)
        found = beneath.open_beneath(there, name, _WRITE, 0o644)
    os.set_blocking(found, True)
    return found


def _start(
    keeper: Keeping, folder: SessionFolder, launch: Launch, network: Mapping[str, object] | None
) -> Command:
    opened = [_open_input(launch.stdin) if launch.stdin else os.open(os.devnull, os.O_RDONLY)]
    try:
        opened.append(_open_output(folder, launch.stdout))
        if launch.stderr != launch.stdout:
            opened.append(_open_output(folder, launch.stderr))
        streams = (opened[0], opened[1], opened[-1])
        opened += [_written(launch.options)] if launch.options is not None else []
        return keeper.start(
            folder.command,
            launch.argv,
            launch.env,
            (*streams, *([opened[-1]] if launch.options is not None else [])),
            program=launch.program,
            cwd=launch.cwd,
            cpus=launch.cpus,
            sandbox=launch.sandbox,
            network=network,
        )
    finally:
        for file in opened:
            os.close(file)


def _written(words: list[str]) -> int:
    """A descriptor of a file without a name that has these words."""
    file = os.memfd_create("options", os.MFD_CLOEXEC)
    try:
        text = memoryview(b"".join(os.fsencode(word) + b"\0" for word in words))
        while text:
            text = text[os.write(file, text) :]
        os.lseek(file, 0, os.SEEK_SET)
    except BaseException:
        os.close(file)
        raise
    return file
