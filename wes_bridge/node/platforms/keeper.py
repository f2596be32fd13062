"""The keeper: a small process that starts the commands of a node, and outlives it.

It is its own program (``python -I -S keeper.py``), of few parts of the standard library and nothing of
wes-bridge, so that it is small and quick. It knows nothing of sessions: only of commands, each of which has
a record of its own, a file. ``keeping`` is the other side.

It listens on the socket that is its standard input, for the node only: who connects must be a process of its
own user, see the same processes and users (a step in a sandbox or a container does not), and know the secret
that it read from descriptor 3 when it was started. The mounts of a node may be others than ours: systemd
gives a restarted service new ones. A connection is one question, a line of JSON with ``"secret"``:

- ``{"hold": true}``: answered ``held``. While such a connection is open, the keeper stays.
- ``{"start": RECORD, "argv": ..., "env": ..., "cwd": ..., "program": ..., "cpus": ...}``, with descriptors
  for standard input, output and error, and others that the command has as 3 and 4. Answered ``running PID``,
  or ``failed ERRNO``.
- ``{"enclose": RECORD, ..., "sandbox": ...}``: as ``start``, in a sandbox. An ``encloser`` makes it, which is
  started for the first. Answered ``running PID FIRST``, FIRST being process 1 of the sandbox, or
  ``failed ERRNO REASON``; ERRNO is 0 when there is no sandbox.
- Both may have a ``network``, ``{"owner": ..., "name": ..., "path": ..., "resolver": ...}``: the command
  then runs in the network of that owner, which ``networks`` makes for the first and which stays for a while.
  Where it cannot be made, the answer is ``failed 0 REASON``. ``resolver`` is null, or a file and the one that
  it stands for inside.
- ``{"follow": RECORD}``: answered ``running PID``, or by the end of the connection when it does not run.

When the command ends the connection says ``ended CODE`` and is closed. The record is made before the command
is started, so that it is not started twice, and says its process id and its start (seconds since the epoch)
in one line, and in the next its exit code. The keeper ends when nothing runs and nobody holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import hmac
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes as long as the rest
    from typing import Any

LINGER = 1000
"""Milliseconds that the keeper stays without anything to do."""
UNUSED = 20.0
"""Seconds that a network stays without anything that runs in it."""
_ASIDE = 16
"""Descriptors from here on are none of a command's."""
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_SLAVE = 0x20000, 1 << 12, 1 << 14, 1 << 19
"""``unshare(2)`` and ``mount(2)``."""
PATIENCE = 5.0
"""Seconds a question may take to arrive."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of what cannot be started, as shells have them."""
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that are for the commands, sent to all processes of a service."""
_RESTORED = (*_IGNORED, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that are ignored here, or were where the node was started in the background of a shell, and that
programs expect not to be ignored."""
_DESCRIPTORS = 5
"""At most, that come with a question."""
_PR_SET_CHILD_SUBREAPER = 36
"""``prctl(2)``."""
_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""What keeps a command from being started that is not the command's fault."""
_TOLD = 20
"""Strangers that are told of in our log."""

_libc = ctypes.CDLL(None, use_errno=True)


class Door:
    """Tells the node from strangers.

    Args:
        secret: what the node knows.
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._here = _surroundings("self")
        self._refused = 0

    def admits(self, connection: socket.socket) -> bool:
        """Whether the process at the other end may be the node."""
        size = struct.calcsize("3i")
        pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if user == os.geteuid() and pid > 0 and self._here in ((), _surroundings(str(pid))):
            return True
        self._tell(f"process {pid} of user {user} is not the node's")
        return False

    def knows(self, ask: dict[str, Any]) -> bool:
        """Whether a question comes from somebody who knows the secret."""
        given = ask.get("secret")
        if isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), self.secret):
            return True
        if ask:
            self._tell("a question does not have the node's secret")
        return False

    def _tell(self, reason: str) -> None:
        self._refused += 1
        if self._refused <= _TOLD:
            sys.stderr.write(f"refused: {reason}\n")


def _surroundings(process: str) -> tuple[int, ...]:
    """The process and user namespaces of a process; nothing when they cannot be seen, as on old systems."""
    try:
        return tuple(os.stat(f"/proc/{process}/ns/{kind}").st_ino for kind in ("pid", "user"))
    except OSError:
        return ()


class Question:
    """What was asked, and is begun when it can be.

    Args:
        connection: who asked.
        ask: the question.
        line: the same, as it came.
        files: its descriptors, closed once the command has them.
        network: what it is to run in; None for the machine's, or none.
    """

    def __init__(
        self,
        connection: socket.socket,
        ask: dict[str, Any],
        line: bytes,
        files: list[int],
        network: Network | None = None,
    ) -> None:
        self.connection = connection
        self.followers = [connection]
        self.ask = ask
        self.record = str(ask.get("enclose") or ask.get("start"))
        self.line = line
        self.files = files
        self.network = network
        self.answer = ""

    def close(self) -> None:
        """Close its descriptors."""
        for file in self.files:
            os.close(file)
        self.files = []

    def refuse(self, reason: str) -> None:
        """Answer that nothing was begun."""
        _tell(self.connection, reason)
        self.connection.close()
        self.close()


class Network:
    """A network that ``networks`` keeps, with all that runs in it.

    Args:
        how: as in a question.

    Attributes:
        socket: it says there whether it is ready, and ends when that is closed.
        waiting: questions, until it is.
        users: commands that run in it, or are about to.
        unused_since: by the clock that nobody sets, when there are none.
    """

    def __init__(self, how: dict[str, Any]) -> None:
        self.socket, its = socket.socketpair()
        argv = [_program("networks.py"), str(how["name"]), str(how["path"])]
        with its:
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", *argv],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, its.fileno(), 0)],
                setsid=True,
            )
        self.owner = str(how["owner"])
        self.waiting = deque[Question]()
        self.users = 0
        self.unused_since = time.monotonic()
        self._resolver: list[str] | None = how.get("resolver")
        self._namespaces: list[int] = []

    @property
    def is_ready(self) -> bool:
        """Whether commands can be started in it."""
        return bool(self._namespaces)

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.socket.fileno() < 0

    def hear(self) -> str | None:
        """What it says: why it is of no use, None when it is ready."""
        try:
            text, files, _, _ = socket.recv_fds(self.socket, 4096, 2)
        except OSError as error:
            return str(error.strerror)
        for file in files:
            os.set_inheritable(file, False)
        self._namespaces = files
        return None if files else text.decode(errors="replace").removeprefix("failed ") or "it has ended"

    def enter(self) -> None:
        """Be in it, with what will be started: for a process that starts nothing else.

        Raises:
            OSError: it has gone.
        """
        for file in self._namespaces:  # that of users first: its rights are needed for the other
            _checked(_libc.setns(file, 0))
        if self._resolver is not None:
            source, target = (os.fsencode(path) for path in self._resolver)
            _checked(_libc.unshare(_CLONE_NEWNS))
            _checked(_libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None))
            _checked(_libc.mount(source, target, None, _MS_BIND, None))

    def left(self) -> None:
        """A command that ran in it has ended."""
        self.users -= 1
        self.unused_since = time.monotonic()

    def close(self) -> None:
        """Let it end."""
        self.socket.close()
        for file in self._namespaces:
            os.close(file)
        self._namespaces = []


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _program(name: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


class Encloser:
    """The encloser of the commands that have a network, the machine's or one of ours, or of those without.

    It is asked one question at a time, and the others wait here: a file system that does not answer holds up
    sandboxes only.
    """

    def __init__(self, where: Network | bool) -> None:
        self.socket, its = socket.socketpair()
        argv = [sys.executable, "-I", "-S", _program("encloser.py"), "yes" if where else "no"]
        with its:
            if isinstance(where, Network):
                _fork_in(where, argv[0], argv, dict(os.environ), [its.fileno()], restored=())
            else:
                actions = [(os.POSIX_SPAWN_DUP2, its.fileno(), 0)]
                os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        self.asked: Question | None = None
        self.waiting = deque[Question]()
        self.running: dict[bytes, Question] = {}
        self._heard = b""

    @property
    def is_busy(self) -> bool:
        """Whether there is anything that it has to do."""
        return bool(self.running or self.asked or self.waiting)

    def ask(self, question: Question) -> None:
        """Ask as soon as it has answered what was asked before."""
        self.waiting.append(question)
        self.go_on()

    def go_on(self) -> None:
        """Ask the next question."""
        while self.asked is None and self.waiting:
            question = self.waiting.popleft()
            try:
                if _is_gone(question.connection):
                    continue
                os.close(os.open(question.record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                self.asked = question
                sent = socket.send_fds(self.socket, [question.line], question.files)
                self.socket.sendall(question.line[sent:])
            except OSError as error:  # there is a record already, or the encloser has gone: that is heard
                if self.asked is None:
                    question.refuse(f"failed {error.errno} {error.strerror}")
            finally:
                question.close()
                question.line = b""

    def hear(self) -> list[list[bytes]]:
        """What it has said since: lines, in words.

        Raises:
            OSError: it has gone.
        """
        text = self.socket.recv(1 << 16)
        if not text:
            raise ConnectionError
        *lines, self._heard = (self._heard + text).split(b"\n")
        return [line.split(b" ", 2 if line.startswith(b"failed") else -1) for line in lines]


class Keeper:
    """Answers questions and reaps commands.

    Args:
        listener: where connections come in.
        woken: readable when a command has ended.
        door: who is let in.
    """

    def __init__(self, listener: socket.socket, woken: int, door: Door) -> None:
        self._listener = listener
        self._door = door
        self._woken = woken
        self._holders: dict[int, socket.socket] = {}
        self._pids: dict[str, int] = {}
        self._running: dict[int, Question] = {}
        self._enclosers: dict[Network | bool, Encloser] = {}
        self._networks: dict[str, Network] = {}
        self._poll = select.poll()

    def run(self) -> None:
        """Work until there is nothing to do."""
        poll = self._poll
        poll.register(self._listener, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            idle = not self._running and not self._holders and not self._is_enclosing()
            events = poll.poll(LINGER if idle else self._networks_linger())
            if idle and not events:
                return
            if not events:
                self._end_networks()
            for file, _ in events:
                if file == self._woken:
                    os.read(file, 4096)
                    self._reap()
                elif file == self._listener.fileno():
                    holder = self._accept()
                    if holder is not None:
                        self._holders[holder.fileno()] = holder
                        poll.register(holder, select.POLLIN)
                elif file not in self._holders:
                    self._hear(file)
                else:
                    poll.unregister(file)
                    self._holders.pop(file).close()

    def _accept(self) -> socket.socket | None:
        """Take one question; the connection, when it is to be held."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # too many open files, perhaps
            time.sleep(0.1)
            return None
        if not self._door.admits(connection):  # before anything is read: a stranger's words could take long
            connection.close()
            return None
        connection.settimeout(PATIENCE)
        line, files = _receive(connection)
        connection.setblocking(False)
        try:
            ask = _parse(line) if not _is_gone(connection) else {}
            if not self._door.knows(ask):
                return None
            line = line.replace(self._door.secret, b"", 1)  # the encloser need not know it
            if "start" in ask or "enclose" in ask:
                question = Question(connection, ask, line, files)
                files = []
                if ask.get("network") is not None:
                    self._await_network(question, ask["network"])
                else:
                    self._begin(question)
            elif "follow" in ask:
                self._follow(connection, ask["follow"])
            elif "hold" in ask:
                _tell(connection, "held")
                return connection
        finally:
            for file in files:
                os.close(file)
        return None

    def _begin(self, question: Question) -> None:
        if "enclose" in question.ask:
            self._enclose(question)
        else:
            self._start(question)

    def _await_network(self, question: Question, how: dict[str, Any]) -> None:
        """Begin as soon as there is the network that it is to run in."""
        network = self._networks.get(str(how["owner"]))
        if network is None:
            try:
                network = Network(how)
            except OSError as error:
                question.refuse(f"failed {error.errno} {error.strerror}")
                return
            self._networks[network.owner] = network
            self._poll.register(network.socket, select.POLLIN)
        question.network = network
        network.users += 1
        if network.is_ready:
            self._begin(question)
        else:
            network.waiting.append(question)

    def _hear_network(self, network: Network) -> None:
        """It is ready, or of no use."""
        reason = network.hear() if not network.is_ready else "it has ended"
        waiting, network.waiting = network.waiting, deque()
        if reason is not None:
            self._end_network(network)
        for question in waiting:
            if reason is not None or _is_gone(question.connection):
                network.left()
                question.refuse(f"failed 0 there is no network for it: {reason}")
            else:
                self._begin(question)

    def _end_network(self, network: Network) -> None:
        """End it: what runs there has no network any more, and what comes next gets another."""
        del self._networks[network.owner]
        self._poll.unregister(network.socket)
        network.close()
        self._end_encloser(network)

    def _end_encloser(self, where: Network | bool) -> None:
        """End the encloser of a network that has ended, once it has nothing to do."""
        encloser = self._enclosers.get(where)
        if encloser is None or encloser.is_busy or isinstance(where, bool) or not where.is_closed:
            return
        self._poll.unregister(encloser.socket)
        del self._enclosers[where]
        encloser.socket.close()

    def _networks_linger(self) -> int | None:
        """Milliseconds until a network has been unused for long; None when all are used."""
        since = [network.unused_since for network in self._networks.values() if not network.users]
        return max(0, round((min(since) + UNUSED - time.monotonic()) * 1000)) + 1 if since else None

    def _end_networks(self) -> None:
        for network in list(self._networks.values()):
            if not network.users and time.monotonic() - network.unused_since >= UNUSED:
                self._end_network(network)

    def _is_enclosing(self) -> bool:
        return any(one.is_busy for one in self._enclosers.values()) or any(
            network.waiting for network in self._networks.values()
        )

    def _enclose(self, question: Question) -> None:
        where = question.network or bool(question.ask["sandbox"]["network"])
        encloser = self._enclosers.get(where)
        if encloser is None:
            try:
                encloser = Encloser(where)
            except OSError as error:
                _leave_network(question)
                question.refuse(f"failed {error.errno} {error.strerror}")
                return
            self._enclosers[where] = encloser
            self._poll.register(encloser.socket, select.POLLIN)
        encloser.ask(question)

    def _hear(self, file: int) -> None:
        """Listen to the encloser, or to the network, with that socket."""
        for network in self._networks.values():
            if network.socket.fileno() == file:
                self._hear_network(network)
                return
        for where, encloser in self._enclosers.items():
            if encloser.socket.fileno() == file:
                self._hear_encloser(where, encloser)
                return

    def _hear_encloser(self, where: Network | bool, encloser: Encloser) -> None:
        try:
            said = encloser.hear()
        except OSError:
            del self._enclosers[where]
            self._poll.unregister(encloser.socket)
            self._lose(encloser)
            return
        for words in said:
            if words[0] == b"ended":
                _note_end(encloser.running.pop(words[1]), int(words[2]))
            elif encloser.asked is not None:
                question, encloser.asked = encloser.asked, None
                _note_answer(encloser, question, words)
        encloser.go_on()
        self._end_encloser(where)

    @staticmethod
    def _lose(encloser: Encloser) -> None:
        """An encloser was killed, and all in its sandboxes: nobody will know how they ended."""
        encloser.socket.close()
        for question in encloser.running.values():
            _leave_network(question)
            for connection in question.followers:
                connection.close()
        for question in encloser.waiting:  # nothing was begun
            _leave_network(question)
            question.refuse("failed 0 the process that makes them was killed")
        if encloser.asked is not None:  # perhaps
            _leave_network(encloser.asked)
            encloser.asked.connection.close()

    def _follow(self, connection: socket.socket, record: str) -> None:
        pid = self._pids.get(record)
        if pid is not None:
            self._running[pid].followers.append(connection)
            _tell(connection, f"running {pid}")
        for encloser in self._enclosers.values():
            for question in encloser.running.values():
                if question.record == record:
                    question.followers.append(connection)
                    _tell(connection, question.answer)

    def _start(self, question: Question) -> None:
        try:
            pid = _spawn(question)
        except OSError as error:
            _leave_network(question)
            question.refuse(f"failed {error.errno}")
            return
        except ValueError:  # a NUL in a word, or "=" in a variable's name
            _leave_network(question)
            question.refuse(f"failed {errno.EINVAL}")
            return
        question.close()
        question.line = b""
        self._pids[question.record] = pid
        self._running[pid] = question
        _tell(question.connection, f"running {pid}")

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # there are none left
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                pid = ended.si_pid
                if pid not in self._running:  # an orphan
                    os.waitpid(pid, 0)
                    continue
                with contextlib.suppress(OSError):  # what it left in its group, while the number is its own
                    os.killpg(pid, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                self._ended(pid, code if code >= 0 else 128 - code)

    def _ended(self, pid: int, code: int) -> None:
        question = self._running.pop(pid)
        del self._pids[question.record]
        _note_end(question, code)


def _leave_network(question: Question) -> None:
    """It runs no more, or will never."""
    if question.network is not None:
        question.network.left()


def _note_answer(encloser: Encloser, question: Question, words: list[bytes]) -> None:
    """An encloser has answered."""
    if words[0] == b"failed":
        _leave_network(question)
        with contextlib.suppress(OSError):  # nothing was begun
            os.unlink(question.record)
        question.refuse(b" ".join(words).decode())
        return
    encloser.running[words[1]] = question
    _append(question.record, _beginning(int(words[2])))
    question.answer = b" ".join([b"running", *words[2:]]).decode()
    _tell(question.connection, question.answer)


def _note_end(question: Question, code: int) -> None:
    """A command has ended."""
    _leave_network(question)
    _append(question.record, b"%d\n" % code)
    for connection in question.followers:
        _tell(connection, f"ended {code}")
        connection.close()


def _append(record: str, line: bytes) -> None:
    with contextlib.suppress(OSError):
        file = os.open(record, os.O_WRONLY | os.O_APPEND)
        os.write(file, line)
        os.close(file)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The question and its descriptors; what did not come whole has no end of line."""
    line, files = b"", list[int]()
    try:
        line, files, _, _ = socket.recv_fds(connection, 1 << 16, _DESCRIPTORS)
        for file in files:
            os.set_inheritable(file, False)
        while not line.endswith(b"\n"):
            more = connection.recv(1 << 20)
            if not more:
                break
            line += more
    except OSError:
        line = b""
    return line, files


def _parse(line: bytes) -> dict[str, Any]:
    """A question; empty when it is none."""
    try:
        ask = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return ask if isinstance(ask, dict) else {}


def _is_gone(connection: socket.socket) -> bool:
    """Whether who asked has stopped waiting: then nothing is started any more."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _tell(connection: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):  # a node that was killed finds it in the record
        connection.sendall(f"{text}\n".encode())


def _spawn(question: Question) -> int:
    """Start a command in a session of its own, and note that.

    Raises:
        OSError: there is a record already, or no process can be made.
    """
    ask, files = question.ask, question.files
    if len(files) < 3:
        raise OSError(errno.EMFILE, "descriptors were lost")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    record = os.open(ask["start"], flags, 0o600)
    allowed = os.sched_getaffinity(0) if ask["cpus"] else None
    try:
        os.chdir(ask["cwd"])
        if allowed:
            os.sched_setaffinity(0, ask["cpus"])
        pid = _run(ask["program"], ask["argv"], ask["env"], files, question.network)
        os.write(record, _beginning(pid))
        return pid
    finally:
        os.close(record)
        os.chdir("/")
        if allowed:
            os.sched_setaffinity(0, allowed)


def _beginning(pid: int) -> bytes:
    """The first line of a record."""
    return f"{pid} {time.time():.3f} {time.monotonic():.3f}\n".encode()


def _run(program: str, argv: list[str], env: dict[str, str], files: list[int], where: Network | None) -> int:
    try:
        if where is not None:
            return _fork_in(where, program, argv, env, files)
        actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
        return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESTORED)
    except OSError as error:
        if error.errno in _PASSING or program == "/bin/sh":
            raise
        if error.errno == errno.ENOEXEC:  # a script that does not say of what
            return _run("/bin/sh", ["sh", program, *argv[1:]], env, files, where)
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        script = f'echo "$0: $1" >&2; exit {code}'
        return _run("/bin/sh", ["sh", "-c", script, program, str(error.strerror)], {}, files, where)


def _fork_in(
    network: Network,
    program: str,
    argv: list[str],
    env: dict[str, str],
    files: list[int],
    *,
    restored: tuple[signal.Signals, ...] = _RESTORED,
) -> int:
    """As ``posix_spawn``, by a process that enters a network first: there is one thread.

    Raises:
        OSError: as that does.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        number = errno.EINVAL
        try:
            tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, _ASIDE)
            os.setsid()
            network.enter()
            aside = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ASIDE) for file in files]
            for place, file in enumerate(aside):
                os.dup2(file, place)
            for one in restored:
                signal.signal(one, signal.SIG_DFL)
            os.execve(program, argv, env)  # noqa: S606 - as posix_spawn does
        except OSError as error:
            number = error.errno or number
        finally:
            os.write(tell, str(number).encode())
            os._exit(1)
    os.close(tell)
    said = os.read(told, 16)
    os.close(told)
    if said:
        os.waitpid(pid, 0)
        raise OSError(int(said), os.strerror(int(said)))
    return pid


def _adopt_orphans() -> None:
    """Be the parent of what commands leave behind, each sandbox a process or two.

    Process 1 would be. In a container that is often a program that does not know, and what has ended
    would be kept until no process can be made any more.
    """
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Keep commands for the node that connects to standard input."""
    secret = os.read(3, 1024)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # who else waits for their end should not wait for us
    _adopt_orphans()
    listener = socket.socket(fileno=os.dup(0))
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    gc.freeze()  # what is there is not looked at again: neither here, nor in a process that enters a network
    Keeper(listener, woken, Door(secret)).run()


if __name__ == "__main__":
    main()
