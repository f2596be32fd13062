"""The keeper: a small process that starts the commands of a node, and outlives it.

It is its own program (``python -I -S keeper.py``), of few parts of the standard library and nothing of
wes-bridge, so that it is small and quick. It knows nothing of sessions: only of commands, each of which has
a record of its own, a file. ``keeping`` is the other side.

It listens on the socket that is its standard input. A connection is one question, a line of JSON:

- ``{"hold": true}``: answered ``held``. While such a connection is open, the keeper stays.
- ``{"start": RECORD, "argv": ..., "env": ..., "cwd": ..., "program": ..., "cpus": ...}``, with descriptors
  for standard input, output and error, and others that the command has as 3 and 4. Answered ``running PID``,
  or ``failed ERRNO``.
- ``{"enclose": RECORD, ..., "sandbox": ...}``: as ``start``, in a sandbox. An ``encloser`` makes it, which is
  started for the first. Answered ``running PID FIRST``, FIRST being process 1 of the sandbox, or
  ``failed ERRNO REASON``; ERRNO is 0 when there is no sandbox.
- ``{"follow": RECORD}``: answered ``running PID``, or by the end of the connection when it does not run.

When the command ends the connection says ``ended CODE`` and is closed. The record is made before the command
is started, so that it is not started twice, and says its process id and its start (seconds since the epoch)
in one line, and in the next its exit code. The keeper ends when nothing runs and nobody holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes as long as the rest
    from typing import Any

LINGER = 1000
"""Milliseconds that the keeper stays without anything to do."""
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


class Enclosed:
    """A question for the encloser.

    Args:
        connection: who asked.
        ask: the question.
        line: the same, as it came.
        files: its descriptors, which are closed once they were sent.
    """

    def __init__(self, connection: socket.socket, ask: dict[str, Any], line: bytes, files: list[int]) -> None:
        self.connection = connection
        self.followers = [connection]
        self.record = str(ask["enclose"])
        self.line = line
        self.files = files
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


class Encloser:
    """The encloser of the commands that have network, or of those that have none.

    It is asked one question at a time, and the others wait here: a file system that does not answer holds up
    sandboxes only.
    """

    def __init__(self, *, network: bool) -> None:
        self.socket, its = socket.socketpair()
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "encloser.py")
        argv = [sys.executable, "-I", "-S", program, "yes" if network else "no"]
        actions = [(os.POSIX_SPAWN_DUP2, its.fileno(), 0)]
        with its:
            os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        self.asked: Enclosed | None = None
        self.waiting = deque[Enclosed]()
        self.running: dict[bytes, Enclosed] = {}
        self._heard = b""

    def ask(self, question: Enclosed) -> None:
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
                os.close(os.open(question.record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
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
    """

    def __init__(self, listener: socket.socket, woken: int) -> None:
        self._listener = listener
        self._woken = woken
        self._holders: dict[int, socket.socket] = {}
        self._pids: dict[str, int] = {}
        self._running: dict[int, tuple[str, list[socket.socket]]] = {}
        self._enclosers: dict[bool, Encloser] = {}
        self._poll = select.poll()

    def run(self) -> None:
        """Work until there is nothing to do."""
        poll = self._poll
        poll.register(self._listener, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            idle = not self._running and not self._holders and not self._is_enclosing()
            events = poll.poll(LINGER if idle else None)
            if idle and not events:
                return
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
        connection.settimeout(PATIENCE)
        line, files = _receive(connection)
        connection.setblocking(False)
        try:
            ask = _parse(line) if not _is_gone(connection) else {}
            if "start" in ask:
                self._start(connection, ask, files)
            elif "enclose" in ask:
                self._enclose(Enclosed(connection, ask, line, files), network=bool(ask["sandbox"]["network"]))
                files = []
            elif "follow" in ask:
                self._follow(connection, ask["follow"])
            elif "hold" in ask:
                _tell(connection, "held")
                return connection
        finally:
            for file in files:
                os.close(file)
        return None

    def _is_enclosing(self) -> bool:
        return any(encloser.running or encloser.asked for encloser in self._enclosers.values())

    def _enclose(self, question: Enclosed, *, network: bool) -> None:
        encloser = self._enclosers.get(network)
        if encloser is None:
            try:
                encloser = Encloser(network=network)
            except OSError as error:
                question.refuse(f"failed {error.errno} {error.strerror}")
                return
            self._enclosers[network] = encloser
            self._poll.register(encloser.socket, select.POLLIN)
        encloser.ask(question)

    def _hear(self, file: int) -> None:
        """Listen to the encloser with that socket."""
        network, encloser = next(
            (item for item in self._enclosers.items() if item[1].socket.fileno() == file), (False, None)
        )
        if encloser is None:
            return
        try:
            said = encloser.hear()
        except OSError:
            del self._enclosers[network]
            self._poll.unregister(file)
            self._lose(encloser)
            return
        for words in said:
            if words[0] == b"ended":
                ended = encloser.running.pop(words[1])
                _note_end(ended.record, ended.followers, int(words[2]))
            elif encloser.asked is not None:
                question, encloser.asked = encloser.asked, None
                _note_answer(encloser, question, words)
        encloser.go_on()

    @staticmethod
    def _lose(encloser: Encloser) -> None:
        """An encloser was killed, and all in its sandboxes: nobody will know how they ended."""
        encloser.socket.close()
        for question in encloser.running.values():
            for connection in question.followers:
                connection.close()
        for question in encloser.waiting:  # nothing was begun
            question.refuse("failed 0 the process that makes them was killed")
        if encloser.asked is not None:  # perhaps
            encloser.asked.connection.close()

    def _follow(self, connection: socket.socket, record: str) -> None:
        pid = self._pids.get(record)
        if pid is not None:
            self._running[pid][1].append(connection)
            _tell(connection, f"running {pid}")
        for encloser in self._enclosers.values():
            for question in encloser.running.values():
                if question.record == record:
                    question.followers.append(connection)
                    _tell(connection, question.answer)

    def _start(self, connection: socket.socket, ask: dict[str, Any], files: list[int]) -> None:
        record = ask["start"]
        try:
            pid = _spawn(ask, files)
        except OSError as error:
            _tell(connection, f"failed {error.errno}")
            return
        except ValueError:  # a NUL in a word, or "=" in a variable's name
            _tell(connection, f"failed {errno.EINVAL}")
            return
        self._pids[record] = pid
        self._running[pid] = (record, [connection])
        _tell(connection, f"running {pid}")

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
        record, connections = self._running.pop(pid)
        del self._pids[record]
        _note_end(record, connections, code)


def _note_answer(encloser: Encloser, question: Enclosed, words: list[bytes]) -> None:
    """An encloser has answered."""
    if words[0] == b"failed":
        with contextlib.suppress(OSError):  # nothing was begun
            os.unlink(question.record)
        question.refuse(b" ".join(words).decode())
        return
    encloser.running[words[1]] = question
    _append(question.record, _beginning(int(words[2])))
    question.answer = b" ".join([b"running", *words[2:]]).decode()
    _tell(question.connection, question.answer)


def _note_end(record: str, connections: list[socket.socket], code: int) -> None:
    """A command has ended."""
    _append(record, b"%d\n" % code)
    for connection in connections:
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


def _spawn(ask: dict[str, Any], files: list[int]) -> int:
    """Start a command in a session of its own, and note that.

    Raises:
        OSError: there is a record already, or no process can be made.
    """
    if len(files) < 3:
        raise OSError(errno.EMFILE, "descriptors were lost")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    record = os.open(ask["start"], flags, 0o644)
    allowed = os.sched_getaffinity(0) if ask["cpus"] else None
    try:
        os.chdir(ask["cwd"])
        if allowed:
            os.sched_setaffinity(0, ask["cpus"])
        pid = _posix_spawn(ask["program"], ask["argv"], ask["env"], files)
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


def _posix_spawn(program: str, argv: list[str], env: dict[str, str], files: list[int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
    try:
        return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESTORED)
    except OSError as error:
        if error.errno in _PASSING or program == "/bin/sh":
            raise
        if error.errno == errno.ENOEXEC:  # a script that does not say of what
            return _posix_spawn("/bin/sh", ["sh", program, *argv[1:]], env, files)
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        script = f'echo "$0: $1" >&2; exit {code}'
        return _posix_spawn("/bin/sh", ["sh", "-c", script, program, str(error.strerror)], {}, files)


def _adopt_orphans() -> None:
    """Be the parent of what commands leave behind, each sandbox a process or two.

    Process 1 would be. In a container that is often a program that does not know, and what has ended
    would be kept until no process can be made any more.
    """
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Keep commands for whoever connects to standard input."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # who else waits for their end should not wait for us
    _adopt_orphans()
    listener = socket.socket(fileno=os.dup(0))
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    Keeper(listener, woken).run()


if __name__ == "__main__":
    main()
