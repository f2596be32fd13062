"""Plain processes, in a sandbox where that works."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from wes_bridge.auth.private import private_token
from wes_bridge.config import NodeConfig
from wes_bridge.model.execution_broker import PROCESS, ExecutionRequest, Message, Network
from wes_bridge.model.gaps import Gap
from wes_bridge.node import messages
from wes_bridge.node.errors import CommandNotFoundError, CommandNotShownError, NotBegunError, PlatformError
from wes_bridge.node.layout import clean_path, is_below
from wes_bridge.node.platforms import advice, hindsight, limits, sandbox
from wes_bridge.node.platforms.base import Job
from wes_bridge.node.platforms.isolating import Networks
from wes_bridge.node.platforms.keeping import NoSandboxError
from wes_bridge.node.platforms.kept import Kept, Launch
from wes_bridge.node.platforms.processes import MARKER
from wes_bridge.node.staging.plan import volume_path

_LOOPBACK = "commands that use the network reach this machine's loopback interface: {reason}"
_TRIED_FOR = 10.0
"""Seconds that the first command in a sandbox may take."""
_FOUND_FOR = 5.0
"""Seconds after which a command is looked for again, at most; one that was not found is so each time."""


class ProcessPlatform(Kept):
    """Runs commands as processes of the node's user.

    Args:
        config: of the node.
        state: the node's state directory.
    """

    name = "process"
    kinds = frozenset({PROCESS})
    links = True

    def __init__(self, config: NodeConfig, state: Path) -> None:
        super().__init__(state)
        self._config = config
        self._state = state
        self._encloses = False
        self._bwrap: str | None = None
        self._view = sandbox.View([], [], state)
        self._no_sandbox = "the sandbox is switched off"
        self._shows_too_little = False
        self._networks = Networks(self._keeper, state, config.step_network)

    async def open(self) -> None:
        """Find out once which sandbox works."""
        await super().open()
        if self._config.sandbox != "none":
            await asyncio.get_running_loop().run_in_executor(None, self._find_sandbox)

    def _find_sandbox(self) -> None:
        """The node's own is tried first, since it costs least; bubblewrap's where that cannot be made."""
        self._view = sandbox.View.of(self._config.sandbox_shows, self._state)
        shows = self._view.folders
        why = ""
        if self._config.sandbox != "bwrap":
            reason = self._try_enclosing(shows)
            self._encloses = reason is None
            self._shows_too_little = reason is not None and self._try_enclosing(["/"]) is None
            why = "" if reason is None else f"no sandbox of the node's own: {reason}"
            self._no_sandbox = why
        if not self._encloses and not self._shows_too_little and self._config.sandbox != "own":
            self._bwrap, reason = sandbox.bubblewrap(tuple(shows))
            self._shows_too_little = self._bwrap is None and sandbox.bubblewrap()[0] is not None
            self._no_sandbox = f"{why}; {reason}" if why else reason
        if self._shows_too_little:
            self._no_sandbox = (
                f"the setting sandbox_shows shows too little ({', '.join(self._view.shows) or 'nothing'}):"
                " /bin/sh cannot be started; list the folders of /bin/sh and its libraries, too"
            )

    def _try_enclosing(self, shows: list[str]) -> str | None:
        """Why the keeper makes no sandboxes; None when it does."""
        record = self._state / f"sandbox-{os.getpid()}"
        around = {"shows": shows, "hides": [str(self._state)], "binds": [], "stdin": None, "network": False}
        null = os.open(os.devnull, os.O_RDWR)
        try:
            command = self._keeper.start(
                record, ["sh", "-c", ":"], {}, (null,) * 3, program="/bin/sh", cwd=Path("/"), sandbox=around
            )
            if not command.ends_within(_TRIED_FOR):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(command.pid, signal.SIGKILL)
                command.close()
                return "its command does not end"
            return None if command.code == 0 else f"its command ended with {command.code}"
        except NoSandboxError as error:
            return str(error)
        except OSError as error:
            return error.strerror or str(error)
        finally:
            os.close(null)
            record.unlink(missing_ok=True)

    @property
    def shields(self) -> bool:
        """A sandbox shows inputs read-only."""
        return self._is_enforced

    @property
    def _is_enforced(self) -> bool:
        return self._encloses or self._bwrap is not None

    async def unavailable(self) -> str | None:
        """Always there, unless the configuration insists on a sandbox that does not work.

        It does with a list of what to show, too: where a sandbox can be made, a command never sees more.
        """
        insists = self._config.sandbox in ("bwrap", "own") or self._shows_too_little
        if insists and not self._is_enforced:
            return self._no_sandbox
        return None

    async def gaps(self) -> list[Gap]:
        """Without a sandbox, all of it; else that commands with a network reach the machine's loopback. And
        which limits are not held."""
        if await self.unavailable() is not None:  # nothing runs
            return []
        work = functools.partial(limits.of_processes, sandboxed=self._is_enforced)
        found = await asyncio.get_running_loop().run_in_executor(None, work)
        if not self._is_enforced:
            text = f"plain processes run without a sandbox: {self._no_sandbox}"
            return [
                Gap(what="sandbox", text=text),
                Gap(what="no_network", text=f"they are not kept from using the network: {self._no_sandbox}"),
                *found,
            ]
        reason = await self._networks.settled()
        if reason is None or self._config.step_network == "isolated":
            return found
        return [Gap(what="loopback", text=_LOOPBACK.format(reason=reason)), *found]

    async def _unenforced(self, network: Network | None) -> list[Message]:
        """The same, of one request; what is quiet is left out."""
        no_network = network is not None and network.access is False
        texts: list[str] = []
        if not self._is_enforced:
            texts.append("the command runs without a sandbox: {reason}")
            texts.append(limits.LEFT_BEHIND)
            if no_network:
                texts.append("the command is not kept from using the network: {reason}")
            reason: str | None = self._no_sandbox
        else:
            reason = None if no_network else await self._networks.settled()
            if reason is not None and self._config.step_network != "isolated":
                texts.append(_LOOPBACK)
        return [messages.message(messages.UNENFORCED, text, "INFO", reason=reason) for text in texts]

    async def check(self, request: ExecutionRequest) -> list[Message]:
        """A process has no file system of its own: all paths must lie below ``executable.root``."""
        executable = request.executable
        if executable is None:
            return []
        found: list[Message] = []
        if not executable.command:
            found.append(messages.message(messages.MISSING_VALUE, "a process needs executable.command"))
        if executable.entrypoint:
            found.append(messages.message(messages.NOT_SUPPORTED, "a process has no entrypoint"))
        found += _check_paths(request)
        network = executable.network
        if self._config.step_network == "isolated" and (network is None or network.access is not False):
            reason = await self._networks.settled() if self._is_enforced else self._no_sandbox
            if reason is not None:
                text = "no network can be had that keeps the machine's loopback interface apart: {reason}"
                found.append(messages.message(messages.NOT_SUPPORTED, text, reason=reason))
        return found + await self._unenforced(network)

    @property
    def leaves_open(self) -> bool:
        """What a command has handed over stays open, to write, where bubblewrap has made its mounts: they are
        not ours to close."""
        return self._bwrap is not None

    @property
    def shows(self) -> Sequence[str]:
        """What every command sees of the machine."""
        return self._view.folders if self._is_enforced else ["/"]

    def shares_network(self, job: Job) -> bool:
        """All that have one do: those of one owner, or all where none can be made for each."""
        network = job.session.executable.network if job.session.executable else None
        return not self._is_enforced or network is None or network.access is not False

    def network(self, job: Job) -> Mapping[str, object] | None:
        """One of its owner's, unless the command has none, or no sandbox that keeps it there."""
        network = job.session.executable.network if job.session.executable else None
        if not self._is_enforced or (network is not None and network.access is False):
            return None
        return self._networks.of(job.owner)

    def launch(self, job: Job) -> Launch:
        """Translate paths, check that the command exists, and put the sandbox around it."""
        executable = job.session.executable
        if executable is None or not executable.command:
            raise PlatformError("the session has no command")
        paths = job.tree.paths
        argv = [paths.inward(word) for word in executable.command]
        env = {name: paths.inward(value) for name, value in (executable.environment or {}).items()}
        env.setdefault("PATH", os.environ.get("PATH") or os.defpath)
        cwd = paths.host(job.tree.workdir)
        program = _find_command(argv[0], cwd, env["PATH"])
        network = executable.network is None or executable.network.access is not False
        streams = self.streams(job)
        marker = {MARKER: job.uuid}
        if not self._is_enforced:
            return Launch(program, argv, {**env, **marker}, cwd, *streams, cpus=self.cpus(job))
        binds = sandbox.binds_of(self._view, job)
        if not sandbox.is_seen(self._view, binds, Path(cwd, program)):
            raise CommandNotShownError(
                str(Path(cwd, program)), advice.of_program(Path(cwd, program), self._view)
            )
        runs = advice.interpreter(Path(cwd, program))
        if runs is not None and not sandbox.is_seen(self._view, binds, runs) and runs.is_file():
            raise CommandNotShownError(
                str(runs), advice.of_program(runs, self._view), str(Path(cwd, program))
            )
        if self._bwrap is None:
            around = sandbox.enclosure(self._view, binds, streams[0], network=network)
            return Launch(program, argv, env, cwd, None, *streams[1:], cpus=self.cpus(job), sandbox=around)
        options = sandbox.options(self._view, binds, env, cwd, network=network)
        argv = sandbox.command_line(self._bwrap, argv, streams[0])
        outside = (None, *streams[1:])
        return Launch(self._bwrap, argv, marker, cwd, *outside, cpus=self.cpus(job), options=options)

    def ends_within(self, job: Job, seconds: float) -> bool:
        """Wait a little for the command.

        Raises:
            NotBegunError: the sandbox could not be made; in bubblewrap's words.
        """
        if not super().ends_within(job, seconds):
            return False
        try:
            self._check_sandbox(job, self.code(job))
        except NotBegunError:
            self.forget(job)
            raise
        return True

    async def wait(self, job: Job) -> int | None:
        """Wait for the command.

        Raises:
            NotBegunError: as :meth:`ends_within`.
        """
        code = await super().wait(job)
        self._check_sandbox(job, code)
        executable = job.session.executable
        if self._is_enforced and executable is not None and code not in (executable.success_codes or [0]):
            found = await asyncio.get_running_loop().run_in_executor(None, self._in_hindsight, job)
            job.session.meta.messages = [*(job.session.meta.messages or []), *found]
        return code

    def _in_hindsight(self, job: Job) -> list[Message]:
        """What the command may have failed for."""
        executable = job.session.executable
        if executable is None:
            return []
        found: list[Message] = []
        if private_token():
            paths, binds = job.tree.paths, sandbox.binds_of(self._view, job)

            def is_seen(path: Path) -> bool:
                inward = paths.inward(str(path))
                return inward != str(path) or sandbox.is_seen(self._view, binds, path)

            found += hindsight.unseen(executable.command or [], is_seen)
        if executable.network is not None and executable.network.access is False:
            found += hindsight.unreached(self.streams(job)[2])
        return found

    def _check_sandbox(self, job: Job, code: int | None) -> None:
        if code == sandbox.FAILED and self._bwrap is not None:
            reason = sandbox.failure(self.streams(job)[2])
            if reason is not None:
                raise NotBegunError(f"the sandbox cannot be made: {reason}")


def _find_command(command: str, cwd: Path, path: str) -> str:
    """What a shell would find, found out before there is a sandbox to hide it.

    Raises:
        CommandNotFoundError: missing (127) or not executable (126).
    """
    if "/" in command:
        place = cwd / command
        if not place.exists():
            raise CommandNotFoundError(command, 127)
        if not place.is_file() or not os.access(place, os.X_OK):
            raise CommandNotFoundError(command, 126)
        return command
    return _which(command, path, time.monotonic() // _FOUND_FOR)


@functools.lru_cache(maxsize=256)
def _which(command: str, path: str, _now: float) -> str:
    """Where the command is: a long ``PATH`` is looked through once, not for each step of a wide scatter."""
    found = shutil.which(command, path=path)
    if found is None:
        raise CommandNotFoundError(command, 127)
    return str(Path(found).absolute())


def _check_paths(request: ExecutionRequest) -> list[Message]:
    executable = request.executable
    volumes = (request.compute.volumes or []) if request.compute else []
    if executable is None or (executable.root is None and not volumes and executable.workdir is None):
        return []
    if executable.root is None:
        return [
            messages.message(
                messages.NOT_SUPPORTED,
                "a process has no file system of its own: volumes and workdir need executable.root",
            )
        ]
    root = clean_path(executable.root, "executable.root")
    if root == "/":
        return [messages.message(messages.NOT_SUPPORTED, "executable.root must not be / for a process")]
    paths = [volume_path(volume) for volume in volumes]
    paths += [clean_path(executable.workdir, "executable.workdir")] if executable.workdir else []
    stdin = executable.streams.stdin if executable.streams else None
    paths += [clean_path(stdin.path, "streams.stdin.path")] if stdin and stdin.path else []
    return [
        messages.message(
            messages.NOT_SUPPORTED,
            "{path} is outside executable.root {root}, and a process has no file system of its own",
            path=path,
            root=root,
        )
        for path in paths
        if not is_below(path, root)
    ]
