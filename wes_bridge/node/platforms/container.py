"""Containers, by the command line of podman or docker.

``engine run`` is started and watched as a plain process is: its exit code and streams are the container's,
and a node that comes back finds it the same way. Killing goes through the engine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path

from wes_bridge.config import NodeConfig
from wes_bridge.data.beneath import opened, parent_beneath, top_of
from wes_bridge.model.execution_broker import (
    DOCKER_CONTAINER,
    Compute,
    Executable,
    ExecutionRequest,
    Message,
    Session,
)
from wes_bridge.model.gaps import Gap
from wes_bridge.model.units import GIB
from wes_bridge.node import messages
from wes_bridge.node.errors import NotBegunError, PlatformError
from wes_bridge.node.layout import SessionFolder
from wes_bridge.node.messages import message
from wes_bridge.node.platforms import container_env, processes
from wes_bridge.node.platforms.base import PAUSES, Job
from wes_bridge.node.platforms.closing import Closing
from wes_bridge.node.platforms.engine_errors import (
    AMBIGUOUS,
    engines_failure,
    is_passing,
    tells_when_started,
)
from wes_bridge.node.platforms.images import Images, last_line, run
from wes_bridge.node.platforms.kept import Kept, Launch
from wes_bridge.node.platforms.processes import MARKER, Roots
from wes_bridge.node.staging.file import copy_into
from wes_bridge.node.staging.plan import Entry, Kind, Tree

log = logging.getLogger(__name__)

LABEL = "wes-bridge.session"
"""Label of all containers of a node; its value is the session's UUID."""
_ENGINE_TIMEOUT = 60.0
_REACHED = "containers with a network reach link-local addresses, a cloud's credentials service too: {reason}"
_SPECIAL = frozenset(',"\r\n')
"""Letters for which a field of CSV is quoted."""


class ContainerPlatform(Kept):
    """Runs commands in containers.

    Args:
        config: of the node.
        state: the node's state directory.
    """

    name = "container"
    kinds = frozenset({DOCKER_CONTAINER})
    links = False
    shields = True
    leaves_open = True
    """What a command has handed over stays open, to write: the engine's mounts are not ours to close."""

    def __init__(self, config: NodeConfig, state: Path) -> None:
        super().__init__(state)
        self._engine = _find_engine(config.container_engine)
        self._asked_for = config.container_engine
        self._images = Images(self._engine or "", config.pull_images, config.images)
        self._chosen: dict[str, str] = {}
        self._stopped: set[str] = set()
        self._is_podman = "podman" in Path(self._engine or "").name
        self._tells_when_started = False
        self._works: bool | None = None
        self._why_not = ""
        self._isolates = config.step_network != "machine"
        self._closing = Closing(state, strict=config.step_network == "isolated")
        self._knows_hooks = False

    async def unavailable(self) -> str | None:
        """Whether there is an engine. One that does not work is one, and says so by :meth:`check`: a command
        must not run without its image because a service has to be started."""
        if self._engine is None:
            return f"{self._asked_for or 'podman or docker'} is not installed here"
        return None

    async def _out_of_order(self) -> str | None:
        """Why the engine does not answer; asked until it does."""
        if self._engine is None:
            return None
        if not self._works:
            code, out, err = await run(self._engine, "version", timeout=_ENGINE_TIMEOUT)
            self._is_podman = self._is_podman or "podman" in out.lower()
            self._tells_when_started = self._is_podman and tells_when_started(out)
            self._why_not = f"{self._engine} does not work: {last_line(err)}"
            if code == 0 and self._is_podman:  # one that is only a client of another machine's knows none
                asked = ("version", "--hooks-dir", os.devnull)
                self._knows_hooks = (await run(self._engine, *asked, timeout=_ENGINE_TIMEOUT))[0] == 0
            self._works = code == 0
        return None if self._works else self._why_not

    async def gaps(self) -> list[Gap]:
        """That link-local addresses are in reach. It does not ask podman, which is too much for a start."""
        if self._engine is None or not self._isolates or "podman" in Path(self._engine).name:
            return []
        return [Gap(what="link_local", text=_REACHED.format(reason=f"{self._engine} knows no hooks"))]

    async def _unenforced(self, request: ExecutionRequest) -> list[Message]:
        """The same, of one request."""
        if request.executable is None or not self._isolates or not _has_network(request.executable):
            return []
        reason = f"{self._engine} knows no hooks"
        if self._knows_hooks:
            reason = await asyncio.to_thread(lambda: self._closing.why_not() or "")
        return [message(messages.UNENFORCED, _REACHED, "INFO", reason=reason)] if reason else []

    async def check(self, request: ExecutionRequest) -> list[Message]:
        """Whether the engine answers, and the image is here or may be had."""
        reason = await self._out_of_order()
        if reason is not None:
            text = "this node cannot run containers at the moment: {reason}"
            return [message(messages.ENGINE_FAILED, text, reason=reason)]
        if request.executable is None:
            return []
        return await self._images.check(request.executable.image) + await self._unenforced(request)

    async def prepare(self, session: Session) -> None:
        """Get the image."""
        image = session.executable.image if session.executable else None
        await self._out_of_order()
        self._chosen[str(session.meta.uuid)] = await self._images.get(image)

    def launch(self, job: Job) -> Launch:
        """The engine's command line."""
        executable = job.session.executable
        if executable is None or self._engine is None:
            raise PlatformError("no container engine")
        image = self._chosen[job.uuid]
        stdin, out, err = self.streams(job)
        has_network = _has_network(executable)
        is_closed = has_network and self._isolates and self._knows_hooks
        words = [self._engine, "run", *(self._closing.options() if is_closed else []), "--rm"]
        words += ["--pull=never", "--log-driver=none", "--name", _name(job.uuid)]
        words += ["--label", f"{LABEL}={job.uuid}", "--cidfile", str(job.folder.root / "cid")]
        if self._tells_when_started:
            words += ["--pidfile", str(job.folder.root / "cpid")]
        words += self._user()
        words += _limits(job.session.compute)
        if stdin is not None:
            words.append("--interactive")
        if not has_network:
            words += ["--network", "none"]
        elif self._isolates:
            words += ["--network", "private" if self._is_podman else "bridge"]
        words += ["--workdir", job.tree.workdir]
        for mount in _mounts(job.tree):
            words += mount
        environment = container_env.told(executable.environment or {})
        words += environment.write(job.folder.root / "environment")
        if executable.entrypoint:
            words += ["--entrypoint", executable.entrypoint]
        env = {**os.environ, **environment.own, MARKER: job.uuid}
        words += [image, *(executable.command or [])]
        return Launch(self._engine, words, env, job.folder.root, stdin, out, err)

    def shares_network(self, job: Job) -> bool:
        """Only where the site leaves that to the engine; else each container has one of its own."""
        executable = job.session.executable
        return not self._isolates and executable is not None and _has_network(executable)

    def watched(self, job: Job) -> Roots | None:
        """The engine limits memory itself."""
        return None

    def ends_within(self, job: Job, seconds: float) -> bool:
        """No: an engine takes its time."""
        return False

    async def wait(self, job: Job) -> int | None:
        """Wait for the container. One that was not begun, for a reason that passes, is made again.

        Raises:
            PlatformError: it could not be made or started; in the engine's words.
        """
        try:
            for pause in PAUSES:
                try:
                    return await self._wait_once(job)
                except NotBegunError as error:
                    can_try = job.uuid in self._chosen and job.uuid not in self._stopped
                    if not can_try or not is_passing(str(error)):
                        raise
                    log.info("session %s: trying again: %s", job.uuid, error)
                await asyncio.sleep(pause)
                await run(self._engine or "", "rm", "--force", _name(job.uuid), timeout=_ENGINE_TIMEOUT)
                await asyncio.get_running_loop().run_in_executor(None, self._start_again, job)
                if job.uuid in self._stopped:  # meanwhile
                    await self.kill(job.uuid, job.folder, 0.0)
            return await self._wait_once(job)
        finally:
            self._chosen.pop(job.uuid, None)
            self._stopped.discard(job.uuid)

    def _start_again(self, job: Job) -> None:
        for name in ("cid", "cpid"):
            (job.folder.root / name).unlink(missing_ok=True)
        job.folder.command.unlink(missing_ok=True)
        self.start(job)

    async def _wait_once(self, job: Job) -> int | None:
        code = await super().wait(job)
        (job.folder.root / "environment").unlink(missing_ok=True)
        if code in AMBIGUOUS:
            started = await self._was_started(job)
            reason = engines_failure(self.streams(job)[2], started)
            if reason is not None:
                failure = PlatformError if started is None else NotBegunError
                raise failure(f"the container engine failed: {reason}")
        if code is None and self._engine is not None:
            await run(self._engine, "rm", "--force", _name(job.uuid), timeout=_ENGINE_TIMEOUT)
        return code

    async def kill(self, uuid: str, folder: SessionFolder, grace: float) -> None:
        """End the container, then what is left of the engine's command."""
        if uuid in self._chosen:
            self._stopped.add(uuid)
        command = self._commands.get(uuid) or await self._follow(folder)
        if self._engine is None or (command is None and not processes.was_started(folder)):
            return
        name = _name(uuid)
        if grace > 0 and command is not None and not command.is_over():
            seconds = str(max(1, round(grace)))
            await run(self._engine, "stop", "--time", seconds, name, timeout=_ENGINE_TIMEOUT)
            await command.gone(2.0)
        await run(self._engine, "rm", "--force", name, timeout=_ENGINE_TIMEOUT)
        await processes.kill_tree(command, uuid, 0.0)

    async def _was_started(self, job: Job) -> bool | None:
        """Whether the command was; None when this engine does not tell."""
        if not (job.folder.root / "cid").exists():
            return False
        await self._out_of_order()
        return (job.folder.root / "cpid").exists() if self._tells_when_started else None

    def _user(self) -> list[str]:
        if self._is_podman and os.geteuid() != 0:
            return ["--userns=keep-id"]
        return ["--user", f"{os.geteuid()}:{os.getegid()}"]


def _has_network(executable: Executable) -> bool:
    return executable.network is None or executable.network.access is not False


def _find_engine(configured: str | None) -> str | None:
    if configured:
        return shutil.which(configured)
    return shutil.which("podman") or shutil.which("docker")


def _name(uuid: str) -> str:
    return f"wb-{uuid}"


def _limits(compute: Compute | None) -> list[str]:
    """Processors and memory, where the offer names a maximum."""
    words: list[str] = []
    if compute is None:
        return words
    if compute.cores is not None and compute.cores.max is not None:
        words += ["--cpus", str(min(max(1, compute.cores.max), os.cpu_count() or 1))]
    memory = compute.memory
    if memory is not None:
        limit = memory.max_bytes or (memory.max * GIB if memory.max else None)
        if limit:
            words += ["--memory", str(limit)]
    return words


def _mounts(tree: Tree) -> list[list[str]]:
    """Options that show the session's file system at the paths the client chose."""
    found: list[list[str]] = []
    if tree.paths.root is not None:
        found.append(bind(Path(tree.paths.real), tree.paths.root, True) or _refuse(tree.paths.real))
    for entry in tree.ordered():
        if entry.kind is Kind.LINK:
            option = bind(entry.source, entry.path, entry.writable)
            if option is None:
                _copy_in(tree, entry)
            else:
                found.append(option)
        elif not tree.paths.is_rooted(entry.path) and not tree.is_inside(entry.path):
            there = tree.paths.host(entry.path)
            found.append(bind(there, entry.path, entry.writable) or _refuse(entry.path))
    return found


def bind(source: Path, target: str, writable: bool) -> list[str] | None:
    """The option for one bind mount; None where no engine takes these names.

    An engine reads them as UTF-8, and those with a colon as a line of CSV, in which it makes one letter of a
    carriage return and the line's end after it.
    """
    text = f"{source}{target}"
    if "\r\n" in text or not _is_utf8(text):
        return None
    if ":" not in text:
        return ["--volume", f"{source}:{target}:{'rw' if writable else 'ro'}"]
    fields = ["type=bind", f"source={source}", f"destination={target}", *([] if writable else ["readonly"])]
    return ["--mount", ",".join(map(_quoted, fields))]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(field: str) -> str:
    """A field of the line of CSV that ``--mount`` takes."""
    return field if _SPECIAL.isdisjoint(field) else '"' + field.replace('"', '""') + '"'


def _copy_in(tree: Tree, entry: Entry) -> None:
    if entry.writable or tree.paths.root is None:
        _refuse(entry.path)
    with opened(top_of(tree.paths.real)) as top:
        folder, name = parent_beneath(top, tree.paths.below(entry.path), make=True)
    with opened(folder):
        copy_into(entry.source, folder, name)


def _refuse(path: str) -> list[str]:
    raise PlatformError(
        f"{path!r}: a container engine cannot mount this name, since it is not UTF-8 or has a carriage"
        " return before a line's end; rename the file"
    )
