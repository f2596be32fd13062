"""Process 1 of a cell: starts one command at a time there, and ends all that it has left.

It keeps its rights, over the cell only. A command could do something about it by what it leaves behind, by
system calls that name process 1, and by files; see the package for what keeps it from that.

At its control socket it is asked to run a command, by a line of JSON with three descriptors and the mounts
for ``binds``, in their order; it asks for ``more`` where these are too many for one message. It answers
``started PID``, by its number on the machine, or ``failed ERRNO REASON``, and then ``ended CODE INTACT``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import time

from . import calls, world
from .calls import File, NoSandboxError, call, go_to, libc, opened
from .mounts import NO_DEV, NO_SUID, READ_ONLY, restrict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of what cannot be started, as shells have them."""
AT_ONCE = 200
"""Mounts in one message; the kernel takes 253 descriptors."""
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_RESTORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that are ignored here, and that commands expect not to be."""
_OF_COMMAND = (
    errno.ENOENT,
    errno.EACCES,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENOEXEC,
    errno.ETXTBSY,
    errno.EISDIR,
)
"""What keeps a command from being started that is the command's fault."""
_PAUSES = (0.001, 0.01, 0.1, 0.3)
"""Seconds until it is tried again to let nobody write."""
_HELD = b"wes-bridge: the command failed: another one holds a file open, to write, that it was handed by it\n"
_FIRST_TO_GO = b"500"
"""Of 1000: the system, out of memory, ends what is in a cell before nodes, keepers and services. A command
inherits it."""
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275, "ppc64le": 356, "s390x": 346}
_IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31, "ppc64le": 274, "s390x": 283}


def be_first(control: socket.socket, shows: list[str], *, loopback: bool) -> NoReturn:
    """Be process 1 of a cell, to the end.

    Args:
        control: its socket.
        shows: what can be seen of the machine.
        loopback: whether we are in a new network namespace.
    """
    try:
        libc.prctl(calls.PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGCHLD):  # what has no handler does not reach a process 1
            signal.signal(number, signal.SIG_DFL)
        if loopback:
            _open_loopback()
        _offer_to_the_system()
        _Cell(_only(control), shows).run()
    except (NoSandboxError, OSError) as error:
        _last_words(error)
    except BaseException:  # a fault of ours: the keeper's log should have it
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


_CONTROL = 3


def _offer_to_the_system() -> None:
    try:
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, _FIRST_TO_GO)
        finally:
            os.close(file)
    except OSError:  # not every system has it
        pass


def _open_loopback() -> None:
    """The only interface of a network namespace of our own."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, get_flags, asked), 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def _only(control: socket.socket) -> socket.socket:
    """Have no descriptor but the control socket, and nothing at those of a command's streams."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(control.detach(), _CONTROL, inheritable=False)
    os.closerange(_CONTROL + 1, os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=_CONTROL)


def _last_words(error: Exception) -> None:
    try:
        os.write(_CONTROL, f"failed 0 {error}\n".encode())
    except OSError:  # nobody listens any more
        pass


class _Cell:
    """What process 1 knows of its cell."""

    def __init__(self, control: socket.socket, shows: list[str]) -> None:
        self._control = control
        self._shows = shows
        self._made, self._kept = list[str](), list[str]()
        self._writable = list[File]()
        self._its_world: File | None = None
        self._words: File | None = None
        self._numbers = os.open(
            "/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )  # the machine's
        self._children: File | None = None
        if os.path.exists("/proc/thread-self/children"):  # not every kernel has it
            self._children = opened("/proc/thread-self/children")  # the machine's, too
        call("no namespaces can be made", libc.unshare, calls.CLONE_NEWNS | calls.CLONE_NEWIPC)
        world.make(shows)
        self._world = opened("/proc/self/ns/mnt")
        self._memory = opened("/proc/self/ns/ipc")
        self._terminals = os.open("/dev/pts", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._at_first = self._state()

    def run(self) -> None:
        """Run commands until nobody asks for more."""
        self._say("ready")
        while True:
            line, files = receive(self._control, 3 + AT_ONCE)
            if not line:
                return
            ask = json.loads(line)
            try:
                pid = self._start(ask, files)
            except OSError as error:
                self._say(f"failed {error.errno} {error.strerror}")
                return
            except ValueError:  # a NUL in a word, or "=" in a variable's name
                self._say(f"failed {errno.EINVAL} {os.strerror(errno.EINVAL)}")
                return
            del files
            self._say(f"started {self._number(pid)}")
            code = _wait(pid)
            _end_all()
            if not self._is_over():
                code = 128 + signal.SIGKILL
            self._say(f"ended {code} {int(self._is_as_before())}")

    def _start(self, ask: dict[str, Any], files: list[File]) -> int:
        """Start a command in a copy of the world.

        Raises:
            NoSandboxError: there is no sandbox to run it in.
            OSError: it cannot be started.
        """
        sandbox, streams = ask["sandbox"], files[:3]
        self._words = streams[2]
        call("no namespaces can be made", libc.unshare, calls.CLONE_NEWNS | calls.CLONE_NEWIPC)
        self._its_world = opened("/proc/self/ns/mnt")
        self._furnish(sandbox, files[3:])
        if ask["cpus"]:
            os.sched_setaffinity(0, ask["cpus"])
        os.chdir(ask["cwd"])
        env = {**ask["env"], "PWD": ask["cwd"]}
        try:
            if sandbox["stdin"]:
                streams[0] = _input(sandbox["stdin"])
            return spawn(ask["program"], ask["argv"], env, [file.number for file in streams])
        finally:
            if ask["cpus"]:
                os.sched_setaffinity(0, self._at_first[0])
            go_to(self._world, calls.CLONE_NEWNS)
            go_to(self._memory, calls.CLONE_NEWIPC)

    def _furnish(self, sandbox: dict[str, Any], mounts: list[File]) -> None:
        try:
            furnishing = world.Furnishing(self._shows, sandbox["hides"])
            self._made, self._kept = furnishing.made, sandbox["hides"]
            binds = sandbox["binds"]
            self._writable = []
            for number, (path, writable) in enumerate(binds):
                place = number % AT_ONCE
                if place == 0 and number:
                    self._say("more")
                    _, mounts = receive(self._control, AT_ONCE)
                furnishing.bind(path, mounts[place])
                if writable:
                    self._writable.append(mounts[place])
            furnishing.close()
        except OSError as error:
            raise NoSandboxError(f"{error.filename or 'a file'}: {error.strerror}") from error

    def _is_over(self) -> bool:
        """Let nobody write by way of the mounts of the command, which has ended: it may have handed its
        descriptors of folders to commands in other cells, where they are good as long as those are open.

        Returns:
            Whether that is so. It is not where somebody else has a file open to be written.
        """
        mounts, where, words = self._writable, self._its_world, self._words
        self._writable, self._its_world, self._words = [], None, None
        if not mounts or where is None:
            return True
        go_to(where, calls.CLONE_NEWNS)
        try:
            over = all([_close(mount) for mount in mounts])
        finally:
            go_to(self._world, calls.CLONE_NEWNS)
        if not over and words is not None:
            try:
                os.write(words.number, _HELD)
            except OSError:  # nobody listens, or there is no room
                pass
        return over

    def _number(self, pid: int) -> int:
        """The number on the machine of our command: our first child, as it was not waited for yet."""
        if self._children is not None:
            found = os.pread(self._children.number, 40, 0).split()
            if found:
                return int(found[0])
        return number_of(File(os.pidfd_open(pid)), self._numbers)

    def _say(self, text: str) -> None:
        self._control.sendall(f"{text}\n".encode())

    def _is_as_before(self) -> bool:
        """Take away what was made for a command; whether it has left everything as it was."""
        try:
            world.remove(self._made, self._kept)
            return self._state() == self._at_first
        except (OSError, MemoryError):  # it has set limits for us
            return False

    def _state(self) -> tuple[Any, ...]:
        """What a command could change of process 1, whose user it is, and of the folder of terminals."""
        limits = [resource.getrlimit(number) for number in _LIMITS]
        terminals = [_status(os.stat(name, dir_fd=self._terminals)) for name in (".", "ptmx")]
        names = sorted(os.listdir(self._terminals))
        return os.sched_getaffinity(0), *limits, *_priorities(), *terminals, *names


def _close(mount: File) -> bool:
    """Make a mount one that is read only; whether it could be done."""
    for pause in _PAUSES:
        try:
            restrict(mount, READ_ONLY | NO_SUID | NO_DEV)
            return True
        except NoSandboxError:  # also while the kernel is about to close files of those that have ended
            time.sleep(pause)
    return False


def _input(path: str) -> File:
    """A file to read, opened without waiting: nobody may ever write into a named pipe."""
    file = File(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    os.set_blocking(file.number, True)
    return file


def _status(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_nlink


_machine = os.uname().machine
_attributes = ctypes.create_string_buffer(128)


def _priorities() -> tuple[Any, ...]:
    """How the kernel's schedulers treat us."""
    schedule, io = b"", -1
    if _machine in _SCHED_GETATTR:
        libc.syscall(_SCHED_GETATTR[_machine], 0, _attributes, len(_attributes), 0)
        schedule = _attributes.raw
    if _machine in _IOPRIO_GET:
        io = libc.syscall(_IOPRIO_GET[_machine], 1, 0)
    policy = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    return os.getpriority(os.PRIO_PROCESS, 0), *policy, schedule, io


def number_of(process: File, numbers: int) -> int:
    """The number of a process where the folder ``numbers``, of our descriptors, is from.

    Args:
        process: a descriptor of it.
        numbers: a descriptor of ``/proc/self/fdinfo``, which shows the numbers of its own ``/proc``.
    """
    file = os.open(str(process.number), os.O_RDONLY | os.O_CLOEXEC, dir_fd=numbers)
    try:
        lines = os.read(file, 1000).split(b"\n")
    finally:
        os.close(file)
    return next(int(line.split()[1]) for line in lines if line.startswith(b"Pid:"))


def _wait(pid: int) -> int:
    """The exit code of our command, 128 + n when signal n ended it; all others that end meanwhile are reaped.

    Those that we trace, since a thread of theirs asked for that, are stopped at signals: they are killed.
    """
    while True:
        ended, status = os.waitpid(-1, calls.WALL)
        if os.WIFSTOPPED(status):
            _kill(ended)
        elif ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just gone
        pass


def _end_all() -> None:
    """Kill and reap all that a command has left, until there is nothing.

    A process that makes others while it is killed makes none after that: the kernel does not let it. Where we
    have no child, there is nobody else in the namespace: an orphan is our child.
    """
    while True:
        try:
            os.waitpid(-1, calls.WALL | os.WNOHANG)
        except ChildProcessError:
            return
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.waitpid(-1, calls.WALL)
        except ChildProcessError:
            pass


def spawn(program: str, argv: list[str], env: dict[str, str], files: list[int]) -> int:
    """Start a command where we are; if there is none, a shell says so."""
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
    try:
        return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESTORED)
    except OSError as error:
        if error.errno not in _OF_COMMAND or program == "/bin/sh":
            raise
        if error.errno == errno.ENOEXEC:  # a script that does not say of what
            return spawn("/bin/sh", ["sh", program, *argv[1:]], env, files)
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        script = f'echo "$0: $1, in the sandbox (see the setting sandbox_shows)" >&2; exit {code}'
        return spawn("/bin/sh", ["sh", "-c", script, program, str(error.strerror)], {}, files)


def receive(connection: socket.socket, count: int) -> tuple[bytes, list[File]]:
    """A line and its descriptors, of which no command gets one that is not to have it.

    Both are empty when there is none any more.
    """
    line, files = b"", list[File]()
    try:
        line, numbers, _, _ = socket.recv_fds(connection, 1 << 16, count)  # whose flags are ignored
        files = [File(number) for number in numbers]
        for file in files:
            os.set_inheritable(file.number, False)
        while line and not line.endswith(b"\n"):
            more = connection.recv(1 << 20)
            line = line + more if more else b""
    except OSError:
        line = b""
    return (line, files) if line else (b"", [])
