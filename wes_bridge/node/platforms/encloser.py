"""The encloser: a small process that starts the keeper's commands in sandboxes.

It is its own program (``python -I -S encloser.py``), as the keeper is, of few parts of the standard library
and nothing of wes-bridge. It knows nothing of sessions. It stays, and starts a command without making a
process of its own first: for a quick command that, or ``bwrap``, takes several times as long as the command.

Its standard input is the keeper's socket. A question is what the keeper was asked, with the same three
descriptors; the part for us is ``sandbox``:

- ``shows``: paths that can be seen, read-only; ``/`` is the whole machine.
- ``hides``: folders that are empty inside.
- ``binds``: pairs of a path that is there again, and whether it can be written to.
- ``network``: whether there is one. It is the same in all questions: our only argument, ``yes`` or ``no``.

The answer is ``running NAME PID FIRST``: a name of ours, and the process ids, as the keeper sees them, of the
command and of process 1 of its sandbox; or ``failed ERRNO REASON``, where ERRNO is 0 if the sandbox cannot be
made. When the command and all that it started have ended, ``ended NAME CODE`` follows.

**Processes.** All are in a user namespace where our user has no rights over the machine, and in a process
namespace. Its process 1, the *holder*, dies with the keeper, and the kernel ends all others with it. The
*maker*, its child, has a copy of the machine's mounts, and makes sandboxes. When something is mounted on the
machine, the holder makes another, and the former ends when its commands have.

**Cells.** A process namespace, with a process 1 that only ends what is left there, ``/proc``, terminals and,
where there is to be no network, a network namespace with nothing but a loopback interface. One command at a
time runs in a cell. It gets mounts, shared memory and temporary files of its own, which end with it. Before
another gets the cell, every process in it has been killed and has gone; where process 1 was tampered with, no
other gets it.

**Commands** are children of the maker, not of their process 1, which gives them nothing. They have no rights
(root has those over files), get none by running a program, and can neither trace nor end process 1.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing
    from typing import Any

NAME = "wb-sandbox"
"""What our processes are called in ``/proc/PID/comm``."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of what cannot be started, as shells have them."""
_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
IDLE = 32
"""Cells that are kept without a command."""

_KEPT = (0, 1, 3, 4, 5, 6, 7)
"""What root inside may still do (``capabilities(7)``): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID and
SETUID. It treats files as root does. Other users may do nothing."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}
_MACHINE = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
"""By these the machine is told what to do."""
_ENGINES = (b"/containers/", b"/containerd/", b"/docker/", b"/netns")
"""Parts of places in which container engines mount for each container; no step has business there."""
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

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET, _CLONE_PARENT = 0x20000000, 0x40000000, 0x8000
_KEY_CALLS = {  # by the kernel's name of the processor (``linux/audit.h``): add_key, request_key, keyctl
    0xC000003E: (248, 249, 250, 0x400000F8, 0x400000F9, 0x400000FA),  # x86-64, and its x32
    0x40000003: (286, 287, 288),  # i386
    0xC00000B7: (217, 218, 219),  # ARM, 64 bit
    0x40000028: (309, 310, 311),  # ARM
    0xC00000F3: (217, 218, 219),  # RISC-V
    0xC0000015: (269, 270, 271),  # POWER, little-endian
    0x80000016: (278, 279, 280),  # s390x
}
"""Calls for keys, which the kernel keeps for a user and not for a sandbox: commands may not make them."""
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLONE3, _MOUNT_SETATTR = 435, 442
"""System calls; these have the same numbers on all processors."""
_CLONE_TREE, _CLOEXEC, _RECURSIVE, _EMPTY_PATH = 1, os.O_CLOEXEC, 0x8000, 0x1000
_FROM_EMPTY_PATH = 4
_SET_STRING, _CREATE = 1, 6
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_AT_FDCWD = -100
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 15, 24, 38
_PR_SET_SECCOMP = 22
_CAPABILITIES_V3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class NoSandboxError(Exception):
    """The sandbox cannot be made; the text says why."""


def _call(what: str, function: Any, *args: Any) -> int:
    """Call the C library; whatever fails is told.

    Raises:
        NoSandboxError: it failed.
    """
    result = int(function(*args))
    if result < 0:
        raise NoSandboxError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _syscall(what: str, number: int, *args: Any) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in args]
    return _call(what, _libc.syscall, ctypes.c_long(number), *words)


class File:
    """A descriptor, closed when nothing refers to it any more: also where something fails."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


# --- mounts: each is made, and made safe, before it has a place anywhere


def _taken(path: str, flags: int) -> File:
    """What is at a path, with all that is mounted below it, as a mount without a place."""
    how = _CLONE_TREE | _CLOEXEC | _RECURSIVE
    mount = File(_syscall(f"cannot take {path}", _OPEN_TREE, _AT_FDCWD, os.fsencode(path), how))
    _restrict(mount, flags)
    return mount


def _read_only(path: str) -> File:
    return _taken(path, _READ_ONLY | _NO_SUID | _NO_DEV)


def _new(kind: str, flags: int, **options: str) -> File:
    """A new file system, without a place."""
    what = f"cannot make {kind}"
    context = File(_syscall(what, _FSOPEN, kind.encode(), 1))
    for name, value in options.items():
        _syscall(what, _FSCONFIG, context.number, _SET_STRING, name.encode(), value.encode(), 0)
    _syscall(what, _FSCONFIG, context.number, _CREATE, None, None, 0)
    return File(_syscall(what, _FSMOUNT, context.number, 1, flags))


def _restrict(mount: File, flags: int, *, below: bool = True) -> None:
    """Set flags of a mount, and of all that is mounted below it; nothing comes to it from outside now."""
    attributes = struct.pack("=QQQQ", flags, 0, _MS_PRIVATE, 0)
    where = _EMPTY_PATH | (_RECURSIVE if below else 0)
    _syscall("cannot restrict a mount", _MOUNT_SETATTR, mount.number, b"", where, attributes, len(attributes))


def _place(mount: File, path: str, made: list[str] | None = None) -> File:
    """Put a mount where it belongs; ``made`` gets what is made for that in the root file system."""
    if not os.path.lexists(path):
        _make_room(path, [] if made is None else made, stat.S_ISDIR(os.fstat(mount.number).st_mode))
    _move(mount, path)
    return mount


def _make_room(path: str, made: list[str], is_folder: bool) -> None:
    parent = os.path.dirname(path)
    if not os.path.lexists(parent):
        _make_room(parent, made, True)
    if os.stat(parent).st_dev == os.stat("/").st_dev:
        made.append(path)
    if is_folder:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444))


def _move(mount: File, path: str) -> None:
    to = (_AT_FDCWD, os.fsencode(path), _FROM_EMPTY_PATH)
    _syscall(f"cannot mount on {path}", _MOVE_MOUNT, mount.number, b"", *to)


# --- the file system of a sandbox


def _make_world(shows: list[str]) -> None:
    """Leave the machine's file system for one with what can be seen.

    All that is taken from the machine is taken first, each as a mount without a place; then the machine's
    file system goes, and they are put where nothing else is left to be reached by mistake.
    """
    shown, links = list[tuple[str, File]](), list[tuple[str, str]]()
    if "/" in shows:
        root = _read_only("/")
    else:
        root = _new("tmpfs", _NO_SUID | _NO_DEV, mode="755")
        there = [path for path in shows if os.path.exists(path)]
        links = [(path, os.readlink(path)) for path in there if os.path.islink(path)]
        shown = [(path, _read_only(path)) for path in there if not os.path.islink(path)]
        shown.append(("/proc", _read_only("/proc")))  # below the cell's own, which the kernel allows then
    devices = [(name, _taken(f"/dev/{name}", _NO_SUID | _NO_EXEC)) for name in _DEVICES]
    _enter(root)
    for path, target in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    for path, mount in shown:
        _place(mount, path)
    _make_devices(devices)
    if "/" not in shows:
        os.makedirs("/tmp", exist_ok=True)


def _enter(root: File) -> None:
    """Make a mount the root of all, and let go of the former one."""
    _move(root, "/proc")  # anywhere: what is there goes with the rest
    os.fchdir(root.number)
    _call("cannot change the root", _libc.pivot_root, b".", b".")
    _call("cannot leave the machine's files", _libc.umount2, b".", _MNT_DETACH)
    os.chdir("/")


def _make_devices(devices: list[tuple[str, File]]) -> None:
    folder = _place(_new("tmpfs", _NO_SUID, mode="755"), "/dev")
    for name, mount in devices:
        _place(mount, f"/dev/{name}")
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/shm")
    _place(_new("devpts", _NO_SUID | _NO_EXEC, ptmxmode="0666", mode="620"), "/dev/pts")
    _restrict(folder, _READ_ONLY | _NO_SUID, below=False)


def _show_processes() -> None:
    """Those of the namespace that we are in."""
    _place(_new("proc", _NO_SUID | _NO_DEV | _NO_EXEC), "/proc")
    for path in _MACHINE:
        if os.path.exists(path):
            _place(_read_only(path), path)


def _furnish(sandbox: dict[str, Any], bound: list[tuple[str, File]]) -> list[str]:
    """Make what one command has for itself, in a copy of its cell's world.

    Returns:
        What was made in the world itself, empty folders and files.
    """
    made = list[str]()
    _place(_new("tmpfs", _NO_SUID | _NO_DEV, mode="1777"), "/dev/shm")
    _place(_new("tmpfs", _NO_SUID | _NO_DEV, mode="1777"), "/tmp")
    hidden = [(_new("tmpfs", _NO_SUID | _NO_DEV, mode="755"), path) for path in sandbox["hides"]]
    closed = [_place(mount, path, made) for mount, path in hidden]
    for path, mount in bound:
        _place(mount, path, made)
    for mount in closed:
        _restrict(mount, _READ_ONLY | _NO_SUID | _NO_DEV, below=False)
    if "/" not in sandbox["shows"]:
        _restrict(File(os.open("/", os.O_PATH | os.O_CLOEXEC)), _READ_ONLY | _NO_SUID | _NO_DEV, below=False)
    return made


# --- users and rights


def _own_users() -> None:
    """Be in a user namespace of our own, where each user and group is what it is outside."""
    root = os.geteuid() == 0
    users = _same("/proc/self/uid_map") if root else f"{os.geteuid()} {os.geteuid()} 1"
    groups = _same("/proc/self/gid_map") if root else f"{os.getegid()} {os.getegid()} 1"
    go, gone = os.pipe2(os.O_CLOEXEC)
    us = os.getpid()
    helper = os.fork()  # root's map can only be written from outside
    if helper == 0:
        os.close(gone)
        code = 1
        with contextlib.suppress(OSError):
            if os.read(go, 1):
                _write_maps(us, users, groups, groups_stay=root)
                code = 0
        os._exit(code)
    os.close(go)
    try:
        _call("no user namespace can be made", _libc.unshare, _CLONE_NEWUSER)
        os.write(gone, b"1")
    finally:
        os.close(gone)
        _, status = os.waitpid(helper, 0)
    if status != 0:
        raise NoSandboxError("the users of a user namespace cannot be set")


def _same(path: str) -> str:
    """A map of all users that there are to themselves."""
    with open(path) as file:
        extents = [line.split() for line in file]
    return "\n".join(f"{first} {first} {count}" for first, _, count in extents)


def _write_maps(process: int | str, users: str, groups: str, *, groups_stay: bool) -> None:
    if not groups_stay:
        _write(f"/proc/{process}/setgroups", "deny")
    _write(f"/proc/{process}/uid_map", users)
    _write(f"/proc/{process}/gid_map", groups)


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _limit_rights() -> None:
    """Whatever is run from now on gets no more rights than commands may have; this process keeps its own."""
    for capability in range(64):
        if capability not in _kept() and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:  # there are no more
                break
            raise NoSandboxError(f"cannot limit rights: {os.strerror(ctypes.get_errno())}")
    _call("cannot give up new rights", _libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("cannot hide memory", _libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)
    program = _no_keys()
    text = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
    _call("cannot limit system calls", _libc.prctl, _PR_SET_SECCOMP, 2, filters, 0, 0)


def _no_keys() -> bytes:
    """A filter of system calls (``seccomp(2)``): those for keys fail with EPERM, all others are made."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    number, processor = 0, 4  # offsets in what is looked at
    steps = list[tuple[int, int, int, int]]()
    for kind, calls in _KEY_CALLS.items():
        steps += [(load, 0, 0, processor), (equal, 0, 2 * len(calls) + 2, kind), (load, 0, 0, number)]
        for call in calls:
            steps += [(equal, 0, 1, call), (answer, 0, 0, refuse)]
        steps.append((answer, 0, 0, allow))
    steps.append((answer, 0, 0, allow))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _give_up_rights() -> None:
    mask = sum(1 << capability for capability in _kept())
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    _call("cannot give up rights", _libc.capset, header, struct.pack("=6I", mask, mask, 0, 0, 0, 0))


def _kept() -> tuple[int, ...]:
    return _KEPT if os.geteuid() == 0 else ()


# --- cells


class Cell:
    """A place for one command at a time.

    Args:
        shows: what can be seen in it.
        machine: the mount namespace to come back to.
        network: whether there is one.

    Attributes:
        shows: the argument.
        world: its mount namespace; each command gets a copy.
        processes: its process namespace.
        network: its network namespace; None where it has the machine's.
        first: process 1, by its number in our namespace.
        outside: process 1, by its number on the machine.
        control: process 1 listens there; it ends when we close it.
        made: what is in the way in its file system when a command has ended.
    """

    def __init__(self, shows: list[str], machine: File, *, network: bool) -> None:
        self.shows = shows
        self.made = list[str]()
        self.network = None if network else _empty_network()
        self.control, its = socket.socketpair()
        _call("no mount namespace can be made", _libc.unshare, _CLONE_NEWNS)
        try:
            self.world = _opened("/proc/self/ns/mnt")
            _make_world(shows)
            self.first = _clone(_CLONE_NEWPID)
            if self.first == 0:
                _be_first(its)
        finally:
            _come_back(machine)
        its.close()
        answer, files = _descriptors(self.control, 1000)
        if not files:
            raise NoSandboxError(answer.decode() or "its first process was ended")
        self.processes = File(files[0])
        self.outside = _outside(File(os.pidfd_open(self.first)))
        self._children: File | None = None
        with contextlib.suppress(OSError):  # not every kernel has it
            self._children = _opened(f"/proc/{self.outside}/task/{self.outside}/children")
        self._limits = self._limits_now()

    def go_in(self, sandbox: dict[str, Any]) -> None:
        """Let us, and what is started, be where a command is to run.

        What is to be bound must be taken while we are where the machine's files are.
        """
        taken = [
            (path, _taken(path, _NO_SUID | _NO_DEV | (0 if writable else _READ_ONLY)))
            for path, writable in sandbox["binds"]
        ]
        _go_to(self.world, _CLONE_NEWNS)
        for path in reversed(self.made):
            self._remove(path)
        self.made = []
        _call("no namespaces can be made", _libc.unshare, _CLONE_NEWNS | _CLONE_NEWIPC)
        self.made = _furnish(sandbox, taken)
        if self.network is not None:
            _go_to(self.network, _CLONE_NEWNET)
        _go_to(self.processes, _CLONE_NEWPID)

    def is_empty(self) -> bool:
        """Whether process 1 is alone, its command having ended: what that left are its children now."""
        try:
            return self._children is not None and os.pread(self._children.number, 1, 0) == b""
        except OSError:
            return False

    def clear(self) -> None:
        """Ask process 1 to end whatever is left; it answers when nothing is."""
        with contextlib.suppress(OSError):  # it has ended, and with it all else
            self.control.send(b"?")

    def is_clear(self) -> bool:
        """Whether it has answered."""
        try:
            return self.control.recv(1) == b"."
        except OSError:
            return False

    def is_intact(self) -> bool:
        """Whether process 1 is as it was."""
        try:
            return self._limits_now() == self._limits
        except OSError:
            return False

    def _limits_now(self) -> tuple[Any, ...]:
        """What a command could change of process 1, which has the same user."""
        limits = tuple(resource.prlimit(self.first, number) for number in _LIMITS)
        return (*limits, os.getpriority(os.PRIO_PROCESS, self.first), os.sched_getscheduler(self.first))

    @staticmethod
    def _remove(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # it was in something that has gone
            (os.rmdir if os.path.isdir(path) else os.unlink)(path)


def _be_first(control: socket.socket) -> None:
    """Be process 1 of a cell, to the end."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that have ended vanish
        os.dup2(control.fileno(), 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        _show_processes()
        processes = os.open("/proc/self/ns/pid", os.O_RDONLY)
        _give_up_rights()
        with socket.socket(fileno=0) as maker:
            socket.send_fds(maker, [b"."], [processes])
            os.close(processes)
            while maker.recv(1):
                _end_all()
                maker.send(b".")
    except NoSandboxError as error:
        with contextlib.suppress(OSError):
            os.write(0, str(error).encode())
    finally:
        os._exit(0)


def _end_all() -> None:
    """Kill all processes of our namespace but this one, and wait until they have gone."""
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:  # those of ours have vanished
            time.sleep(0.001)


def _go_to(namespace: File, kind: int) -> None:
    _call("cannot enter a namespace", _libc.setns, namespace.number, kind)


def _come_back(machine: File, memory: File | None = None) -> None:
    """Be where the machine's files are; else what comes next would be taken from a sandbox."""
    try:
        _go_to(machine, _CLONE_NEWNS)
        if memory is not None:
            _go_to(memory, _CLONE_NEWIPC)
    except NoSandboxError:
        sys.excepthook(*sys.exc_info())
        os._exit(1)  # and the holder ends all


def _opened(path: str) -> File:
    return File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _empty_network() -> File:
    """A network namespace with a loopback interface only, in which we are from now on."""
    _call("no network namespace can be made", _libc.unshare, _CLONE_NEWNET)
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, get_flags, asked), 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))
    return _opened("/proc/self/ns/net")


def _clone(flags: int) -> int:
    """As ``fork(2)``, with flags: there is one thread, and nothing that must be told.

    Raises:
        OSError: no process can be made.
    """
    number = 0 if flags & _CLONE_PARENT else int(signal.SIGCHLD)
    arguments = struct.pack("=8Q", flags, 0, 0, 0, number, 0, 0, 0)
    pid = int(_libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_long(len(arguments))))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def _outside(process: File) -> int:
    """The number of a process on the machine."""
    with open(f"/proc/self/fdinfo/{process.number}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


# --- commands


class Command:
    """A command that was started.

    Args:
        pid: it, by its number in our namespace.
        cell: where it runs.

        number: how many we have started before.

    Attributes:
        name: like no other command's.
        handle: readable when it has ended.
        outside: it, by its number on the machine.
        code: its exit code then, 128 + n when signal n ended it.
    """

    def __init__(self, pid: int, cell: Cell, number: int) -> None:
        self.pid = pid
        self.cell = cell
        self.name = f"{os.getpid()}.{number}"
        self.handle = File(os.pidfd_open(pid))
        self.outside = _outside(self.handle)
        self.code = 0


class Maker:
    """Starts commands in cells.

    Args:
        keeper: its socket.
        changes: ``/proc/self/mountinfo`` of the machine, opened before we had a copy of its mounts.
        mounts: what it said before that.
        network: whether commands have one.
    """

    def __init__(
        self, keeper: socket.socket, changes: File, mounts: set[tuple[bytes, ...]], *, network: bool
    ) -> None:
        self._keeper = keeper
        self._changes = changes
        self._mounts = mounts
        self._network = network
        self._machine = _opened("/proc/self/ns/mnt")
        self._memory = _opened("/proc/self/ns/ipc")
        self._processes = _opened("/proc/self/ns/pid")
        self._idle = list[Cell]()
        self._running: dict[int, Command] = {}
        self._clearing: dict[int, Command] = {}
        self._left = list[int]()
        self._started = 0
        self._poll = select.poll()

    def run(self, replace: Any) -> None:
        """Work until the keeper has gone.

        Args:
            replace: called when something was mounted on the machine; no further question is then ours.
        """
        self._poll.register(self._keeper, select.POLLIN)
        self._poll.register(self._changes.number, select.POLLPRI)
        asked = True
        while asked or self._running or self._clearing:
            files = [file for file, _ in self._poll.poll()]
            for file in files:
                if file in self._running:
                    self._has_ended(file)
                elif file in self._clearing:
                    self._is_cleared(file)
            if asked and self._changes.number in files and _mounts(self._changes) != self._mounts:
                self._poll.unregister(self._changes.number)
                self._poll.unregister(self._keeper)
                replace()
                asked = False
            elif asked and self._keeper.fileno() in files and not self._answer():
                return

    def _answer(self) -> bool:
        """Answer one question; whether there was one."""
        line, files = receive(self._keeper)
        if not line:
            return False
        try:
            command = self._start(json.loads(line), files)
            answer = f"running {command.name} {command.outside} {command.cell.outside}"
        except NoSandboxError as error:
            answer = f"failed 0 {error}"
        except OSError as error:
            answer = f"failed {error.errno} {error.strerror}"
        finally:
            for file in files:
                os.close(file)
        self._keeper.sendall(f"{answer}\n".encode())
        return True

    def _start(self, ask: dict[str, Any], files: list[int]) -> Command:
        """Start a command.

        Raises:
            NoSandboxError: there is no sandbox to run it in.
            OSError: it cannot be started.
        """
        allowed = os.sched_getaffinity(0) if ask["cpus"] else None
        cell = self._cell(ask["sandbox"]["shows"])
        try:
            try:
                cell.go_in(ask["sandbox"])
            except OSError as error:
                raise NoSandboxError(f"{error.filename or 'a file'}: {error.strerror}") from error
            os.chdir(ask["cwd"])
            if allowed:
                os.sched_setaffinity(0, ask["cpus"])
            pid = _spawn(ask["program"], ask["argv"], {**ask["env"], "PWD": ask["cwd"]}, files)
        finally:
            if allowed:
                os.sched_setaffinity(0, allowed)
            _come_back(self._machine, self._memory)
        self._started += 1
        try:
            command = Command(pid, cell, self._started)
        except OSError:  # too many open files
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._leave(cell)
            raise
        self._running[command.handle.number] = command
        self._poll.register(command.handle.number, select.POLLIN)
        return command

    def _cell(self, shows: list[str]) -> Cell:
        while self._idle:
            cell = self._idle.pop()
            if cell.shows == shows:
                return cell
            self._leave(cell)
        _go_to(self._processes, _CLONE_NEWPID)  # else its process 1 would be in another cell
        return Cell(shows, self._machine, network=self._network)

    def _has_ended(self, file: int) -> None:
        """A command has; what it started is ended, too."""
        self._poll.unregister(file)
        command = self._running.pop(file)
        code = os.waitstatus_to_exitcode(os.waitpid(command.pid, 0)[1])
        command.code = code if code >= 0 else 128 - code
        if command.cell.is_empty():
            self._over(command, usable=True)
            return
        self._clearing[command.cell.control.fileno()] = command
        self._poll.register(command.cell.control, select.POLLIN)
        command.cell.clear()

    def _is_cleared(self, file: int) -> None:
        """Nothing of a command is left."""
        self._poll.unregister(file)
        command = self._clearing.pop(file)
        self._over(command, usable=command.cell.is_clear())

    def _over(self, command: Command, *, usable: bool) -> None:
        if usable and command.cell.is_intact() and len(self._idle) < IDLE:
            self._idle.append(command.cell)
        else:
            self._leave(command.cell)
        self._keeper.sendall(f"ended {command.name} {command.code}\n".encode())

    def _leave(self, cell: Cell) -> None:
        """Use a cell no more; its process 1 ends when it hears of that."""
        cell.control.close()
        self._left.append(cell.first)
        self._left = [pid for pid in self._left if os.waitpid(pid, os.WNOHANG)[0] == 0]


def _mounts(table: File) -> set[tuple[bytes, ...]]:
    """What is mounted on the machine, save what engines mount for each container."""
    os.lseek(table.number, 0, os.SEEK_SET)
    text = b""
    while more := os.read(table.number, 1 << 16):
        text += more
    mounts = (tuple(line.split(b" ", 6)[:6]) for line in text.splitlines())
    return {mount for mount in mounts if not any(name in mount[4] for name in _ENGINES)}


def _spawn(program: str, argv: list[str], env: dict[str, str], files: list[int]) -> int:
    """Start a command where we are; if there is none, a shell says so."""
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files)]
    try:
        return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigdef=_RESTORED)
    except OSError as error:
        if error.errno not in _OF_COMMAND or program == "/bin/sh":
            raise
        if error.errno == errno.ENOEXEC:  # a script that does not say of what
            return _spawn("/bin/sh", ["sh", program, *argv[1:]], env, files)
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        script = f'echo "$0: $1, in the sandbox (see the setting sandbox_shows)" >&2; exit {code}'
        return _spawn("/bin/sh", ["sh", "-c", script, program, str(error.strerror)], {}, files)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A question and its descriptors; empty when there is none any more."""
    line, files = b"", list[int]()
    try:
        line, files = _descriptors(connection, 1 << 16)
        while line and not line.endswith(b"\n"):
            more = connection.recv(1 << 20)
            line = line + more if more else b""
    except OSError:
        line = b""
    return line, files


def _descriptors(connection: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """What comes, and three descriptors at most, which no command gets that is not to have them."""
    text, files, _, _ = socket.recv_fds(connection, size, 3)  # whose flags are ignored
    for file in files:
        os.set_inheritable(file, False)
    return text, files


# --- our own processes


def _hold(keeper: socket.socket, *, network: bool) -> None:
    """Be process 1 of all: have a maker, and end with the keeper."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    poll = select.poll()
    poll.register(keeper, 0)  # tells only that it was closed
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        changes = _opened("/proc/self/mountinfo")
        told, tell = os.pipe2(os.O_CLOEXEC)
        if _clone(0) == 0:
            os.close(told)
            _make(keeper, changes, tell, network=network)
        os.close(tell)
        poll.register(told, select.POLLIN)
        if any(file != told for file, _ in poll.poll()) or not os.read(told, 1):
            return
        poll.unregister(told)
        os.close(told)


def _make(keeper: socket.socket, changes: File, tell: int, *, network: bool) -> None:
    """Be a maker, to the end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        mounts = _mounts(changes)
        _call("no namespaces can be made", _libc.unshare, _CLONE_NEWNS | _CLONE_NEWIPC)
        Maker(keeper, changes, mounts, network=network).run(lambda: os.write(tell, b"1"))
    except (NoSandboxError, OSError) as error:
        _refuse(keeper, str(error))
    except BaseException:  # a fault of ours: the keeper's log should have it
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _refuse(keeper: socket.socket, reason: str) -> None:
    """Answer each question that no sandbox can be made."""
    while True:
        line, files = receive(keeper)
        for file in files:
            os.close(file)
        if not line:
            return
        keeper.sendall(f"failed 0 {reason}\n".encode())


def main() -> None:
    """Make sandboxes for the keeper at standard input."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    keeper = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    _libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
    gc.collect()
    gc.disable()  # there are no cycles to find
    try:
        _own_users()
        _limit_rights()
        if _clone(_CLONE_NEWPID | _CLONE_PARENT) == 0:  # the keeper's child, too
            _hold(keeper, network=sys.argv[1] == "yes")
    except NoSandboxError as error:
        _refuse(keeper, str(error))
    except OSError as error:
        _refuse(keeper, f"no user namespace can be made: {error.strerror}")


if __name__ == "__main__":
    main()
