"""The node's side of the keeper: finding or starting it, and the commands it runs.

It must not know what is started. Linux only, like ``processes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import secrets
import select
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from wes_bridge.node.platforms import keeper
from wes_bridge.one_cpu import anywhere

_PATIENCE = 30.0
"""Seconds a keeper may take to answer."""
_LONGEST_ADDRESS = 107
"""Bytes of a socket's path (``unix(7)``)."""
_LONGEST_ANSWER = 4096
"""Bytes: a reason has a path in it."""
_SECRET = 32
"""Bytes of chance in what the keeper knows the node by."""
_BACKLOG = 1024
"""Questions that may wait for it."""


class Command:
    """A command that was started: the connection to the keeper that watches it.

    Args:
        connection: says how it ended.
        answer: what it has said so far: ``running PID``, and perhaps more.

    Attributes:
        pid: process id of the command, which leads a session and a process group.
        first: process 1 of its sandbox, which others than the command's own become children of; None when
            it has none, or that is one of its own.
        code: its exit code once it is over (128 + n when signal n ended it); None when the keeper has died.
    """

    def __init__(self, connection: socket.socket, answer: bytes) -> None:
        first, _, rest = answer.partition(b"\n")
        self.pid, *others = (int(word) for word in first.split()[1:])
        self.first = others[0] if others else None
        self.code: int | None = None
        self._connection: socket.socket | None = connection
        self._heard = rest
        self._ended: asyncio.Future[None] | None = None
        self._lock = RLock()

    def ends_within(self, seconds: float) -> bool:
        """Wait a little for its end, from the thread that started it. The loop then has nothing to hear."""
        if not self._is_told(seconds):
            return False
        with self._lock:
            if self._ended is None:  # else the loop waits for it already
                self._hear()
        return True

    def is_over(self) -> bool:
        """Whether it has ended, or nobody knows of it any more; in the loop, as what follows."""
        with self._lock:
            if self._is_told(0):
                self._hear()
        return self._connection is None

    async def gone(self, seconds: float | None = None) -> bool:
        """Wait until it is over, ``seconds`` at most; whether it is."""
        if self.is_over():
            return True
        if self._ended is None:
            with self._lock:
                if self._connection is None:
                    return True
                loop = asyncio.get_running_loop()
                self._ended = loop.create_future()
                loop.add_reader(self._connection, self._hear)
        await asyncio.wait([self._ended], timeout=seconds)
        return self._ended.done()

    def close(self) -> None:
        """Stop following it; it goes on."""
        with self._lock:
            if self._connection is None:
                return
            if self._ended is not None:
                asyncio.get_running_loop().remove_reader(self._connection)
                if not self._ended.done():
                    self._ended.set_result(None)
            self._connection.close()
            self._connection = None

    def _is_told(self, seconds: float) -> bool:
        """Whether its end can be heard, or was, within that time."""
        connection = self._connection
        if self._heard or connection is None:
            return True
        poll = select.poll()
        with contextlib.suppress(ValueError):  # it was closed just now
            poll.register(connection, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _hear(self) -> None:
        with self._lock:
            if self._connection is None:
                return
            if not self._heard:
                with contextlib.suppress(OSError):
                    self._heard = self._connection.recv(64)
            word, _, code = self._heard.partition(b" ")
            self.code = int(code) if word == b"ended" else None
            self.close()


class NoSandboxError(Exception):
    """A command was not begun, since no sandbox can be made for it; the text says why."""


class Keeping:
    """The keeper of a node.

    All methods block, for a millisecond.

    Args:
        state: the node's state directory; the keeper listens there, and serves who knows the secret there.

    Attributes:
        pid: process id of the keeper, when it was started here.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._hold: socket.socket | None = None
        self._lock = Lock()
        self._secret = ""
        self.pid: int | None = None

    def open(self) -> None:
        """Find the keeper that an earlier process of the node has left, or start one, and hold it.

        Raises:
            OSError: none can be had.
        """
        with self._lock, self._locked():
            self._secret = _secret(self._state / "keeper.key")
            if not self._take_hold(_PATIENCE):
                self._reap()
                self._start_keeper()
                self._take_hold(None)

    def close(self) -> None:
        """Let go of the keeper: it ends when nothing runs any more."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    def start(
        self,
        record: Path,
        argv: Sequence[str],
        env: Mapping[str, str],
        files: tuple[int, ...],
        *,
        program: str,
        cwd: Path,
        cpus: frozenset[int] | None = None,
        sandbox: Mapping[str, object] | None = None,
        network: Mapping[str, object] | None = None,
    ) -> Command:
        """Start a command.

        Args:
            record: file that will say what became of it, and that is not there yet.
            argv: the command.
            env: its whole environment.
            files: standard input, output and error, and what it has as 3 and 4.
            program: path of what is run.
            cwd: where it starts.
            cpus: processors it may use; None for all.
            sandbox: what is around it (``enclosing``); None for nothing.
            network: which it is to run in (``networks``); None for the machine's, or what ``sandbox`` says.

        Raises:
            OSError: it cannot be started.
            NoSandboxError: there is no sandbox, or no network, for it.
        """
        ask = {
            "start" if sandbox is None else "enclose": str(record),  # else an old keeper started it without
            "sandbox": sandbox,
            "argv": list(argv),
            "env": dict(env),
            "program": program,
            "cwd": str(cwd),
            "cpus": sorted(cpus) if cpus else None,
            "network": network,
        }
        command = self._asked(ask, files)
        if command is None and not record.exists():  # it was killed, or has never been: nothing has begun
            self.open()
            command = self._asked(ask, files)
        if command is None:
            raise ConnectionError("the node's keeper was killed")
        return command

    def follow(self, record: Path) -> Command | None:
        """The command with that record, if it runs: an earlier process of the node has started it."""
        try:
            return self._asked({"follow": str(record)}, ())
        except OSError:
            return None

    def _asked(self, ask: dict[str, Any], files: tuple[int, ...]) -> Command | None:
        """The command; None when there is no keeper, or it was killed before it answered."""
        try:
            connection = self._connect()
        except OSError:
            return None
        try:
            return self._ask(connection, ask, files)
        except ConnectionError:
            return None

    def _ask(self, connection: socket.socket, ask: dict[str, Any], files: tuple[int, ...]) -> Command | None:
        try:
            line = json.dumps({"secret": self._secret, **ask}).encode() + b"\n"
            sent = socket.send_fds(connection, [line], files) if files else 0
            if sent < len(line):
                connection.sendall(line[sent:])
            answer = connection.recv(_LONGEST_ANSWER)
        except BlockingIOError as error:
            connection.close()
            raise TimeoutError(errno.ETIMEDOUT, "the node's keeper does not answer") from error
        except BaseException:
            connection.close()
            raise
        if answer.startswith(b"running"):
            return Command(connection, answer)
        connection.close()
        if answer:
            _, number, *reason = answer.decode().split(" ", 2)
            if int(number) == 0:
                raise NoSandboxError("".join(reason).strip())
            raise _refusal(int(number))
        return None

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _set_patience(connection, _PATIENCE)
            with self._address() as address:
                connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_hold(self, seconds: float | None) -> bool:
        """Ask the keeper to stay, and wait for it to agree, which one that was just started will."""
        try:
            connection = self._connect()
        except OSError:
            return False
        with contextlib.suppress(OSError):
            _set_patience(connection, seconds or 0.0)
            connection.sendall(json.dumps({"secret": self._secret, "hold": True}).encode() + b"\n")
            if seconds is None or connection.recv(64):
                self.close()
                self._hold = connection
                return True
        connection.close()
        return False

    def _start_keeper(self) -> None:
        (self._state / "keeper").unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            with self._address() as address:
                listener.bind(address)
            (self._state / "keeper").chmod(0o600)
            listener.listen(_BACKLOG)
            log = os.open(self._state / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            told, tell = os.pipe()  # neither its command line nor its environment is a place for a secret
            os.write(tell, self._secret.encode())
            os.close(tell)
            actions = [
                (os.POSIX_SPAWN_DUP2, file, number)
                for number, file in enumerate((listener.fileno(), log, log, told))
            ]
            argv = [sys.executable, "-I", "-S", keeper.__file__, str(self._state)]
            try:
                with anywhere():
                    self.pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
            finally:
                os.close(log)
                os.close(told)

    def _reap(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            self.pid = None

    @contextlib.contextmanager
    def _address(self) -> Iterator[str]:
        """The socket's path; by a descriptor when it is longer than a socket's path may be."""
        path = str(self._state / "keeper")
        if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
            yield path
            return
        folder = os.open(self._state, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/keeper"
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time looks for a keeper and starts one: several platforms have this state directory."""
        file = os.open(self._state / "keeper.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _secret(path: Path) -> str:
    """What the keeper knows the node by; made when it is missing, and the same for the keepers to come."""
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    try:
        found = path.read_text().strip()
        if len(found) >= _SECRET:
            return found
    except FileNotFoundError:
        pass
    made = secrets.token_hex(_SECRET)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, made.encode())
    finally:
        os.close(file)
    return made


def _refusal(number: int) -> OSError:
    """Why the keeper has not started a command."""
    if number == errno.EAGAIN:
        limits = "limits: ulimit -u, pids.max of the control group, kernel.pid_max"
        return OSError(number, f"no more processes can be made here ({limits})")
    return OSError(number, os.strerror(number))


def _set_patience(connection: socket.socket, seconds: float) -> None:
    """How long it may wait, 0 for ever: by the kernel, which Python would ask again before each word."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(seconds), 0))
