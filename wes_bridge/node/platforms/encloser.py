"""The encloser: a small process that starts the keeper's commands in sandboxes.

It is its own program (``python -I -S encloser.py``), as the keeper is, of few parts of the standard library
and nothing of wes-bridge: each sandbox begins as a copy of this process, so what it has not loaded costs
nothing. It knows nothing of sessions. ``sandbox`` says what a sandbox has to be.

It lives in a user namespace of its own, in which it may make namespaces and mounts and do nothing to the
machine. Its standard input is the keeper's socket. A question is what the keeper was asked, with the same
three descriptors; the part for us is ``sandbox``:

- ``shows``: paths that can be seen, read-only; ``/`` is the whole machine.
- ``hides``: folders that are empty inside.
- ``binds``: pairs of a path that is there again and whether it can be written to.
- ``network``: whether there is one.

The answer is ``running PID``, or ``failed ERRNO``. The process is a child of the keeper, not ours.

A sandbox has namespaces of its own for mounts, processes and System V memory, and without network one for that.
Its process 1 is our copy: it makes the file system, gives up all rights, starts the command, waits for its
end and ends with its exit code, which ends all that is left. It dies with the keeper. If the sandbox cannot be made, it
ends with 1 and says why on standard error, after ``sandbox: ``. Nothing of a sandbox is used again, save an
empty network namespace when no process is in it any more: to make one takes as long as all the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import json
import os
import select
import signal
import socket
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing
    from typing import Any

NAME = "wb-sandbox"
"""What this process and each process 1 are called in ``/proc/PID/comm``."""
FAILED = 1
"""Exit code of a sandbox that cannot be made; commands end with it, too."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of what cannot be started, as shells have them."""

_KEPT = (0, 1, 3, 4, 5, 6, 7)
"""What root inside may still do (``capabilities(7)``): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID.
It treats files as root does. Other users may do nothing."""
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
_RESTORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that are ignored here, and that commands expect not to be."""

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_CLONE_PIDFD, _CLONE_PARENT = 0x1000, 0x8000
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
    """Set flags of a mount, and of all that is mounted below it; nothing comes to it from outside any more."""
    attributes = struct.pack("=QQQQ", flags, 0, _MS_PRIVATE, 0)
    where = _EMPTY_PATH | (_RECURSIVE if below else 0)
    _syscall("cannot restrict a mount", _MOUNT_SETATTR, mount.number, b"", where, attributes, len(attributes))


def _place(mount: File, path: str) -> File:
    """Put a mount where it belongs."""
    if not os.path.lexists(path):
        _make_room(path, folder=stat.S_ISDIR(os.fstat(mount.number).st_mode))
    _move(mount, path)
    return mount


def _make_room(path: str, *, folder: bool) -> None:
    """Have something that a mount can be put on."""
    if folder:
        os.makedirs(path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444))


def _move(mount: File, path: str) -> None:
    to = (_AT_FDCWD, os.fsencode(path), _FROM_EMPTY_PATH)
    _syscall(f"cannot mount on {path}", _MOVE_MOUNT, mount.number, b"", *to)


# --- the file system of a sandbox


def _make_world(shows: list[str]) -> None:
    """In a mount namespace of its own, leave the machine's file system for one with what can be seen.

    All that is taken from the machine is taken first, each as a mount without a place; then the machine's
    file system goes, and they are put where nothing else is left to be reached by mistake.
    """
    everything = "/" in shows
    if everything:
        root = _read_only("/")
        shown, links = list[tuple[str, File]](), list[tuple[str, str]]()
    else:
        root = _new("tmpfs", _NO_SUID | _NO_DEV, mode="755")
        there = [path for path in shows if os.path.exists(path)]
        links = [(path, os.readlink(path)) for path in there if os.path.islink(path)]
        shown = [(path, _read_only(path)) for path in there if not os.path.islink(path)]
        shown.append(("/proc", _read_only("/proc")))  # below the sandbox's own, which the kernel allows then
    devices = [(name, _taken(f"/dev/{name}", _NO_SUID | _NO_EXEC)) for name in _DEVICES]
    _enter(root)
    for path, target in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    for path, mount in shown:
        _place(mount, path)
    _make_devices(devices)
    if not everything:
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


def _furnish(hides: list[str], bound: list[tuple[str, File]]) -> None:
    """Make what one sandbox has for itself, in a copy of the world."""
    _place(_new("tmpfs", _NO_SUID | _NO_DEV, mode="1777"), "/dev/shm")
    _place(_new("tmpfs", _NO_SUID | _NO_DEV, mode="1777"), "/tmp")
    closed = [_place(_new("tmpfs", _NO_SUID | _NO_DEV, mode="755"), path) for path in hides]
    for path, mount in bound:
        _place(mount, path)
    for mount in closed:
        _restrict(mount, _READ_ONLY | _NO_SUID | _NO_DEV, below=False)


def _show_processes() -> None:
    """Those of the namespace that we are in."""
    _place(_new("proc", _NO_SUID | _NO_DEV | _NO_EXEC), "/proc")
    for path in _MACHINE if os.geteuid() == 0 else _MACHINE[:1]:  # the others only root may write to
        if os.path.exists(path):
            _place(_read_only(path), path)


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


def _give_up_rights() -> None:
    mask = sum(1 << capability for capability in _kept())
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    _call("cannot give up rights", _libc.capset, header, struct.pack("=6I", mask, mask, 0, 0, 0, 0))


def _kept() -> tuple[int, ...]:
    return _KEPT if os.geteuid() == 0 else ()


# --- process 1 of a sandbox


def _live(ask: dict[str, Any], files: list[int], network: File | None, keeper: int) -> int:
    """Make the sandbox, start the command and wait for its end: what process 1 does.

    Returns:
        The exit code, 128 + n when signal n ended it.
    """
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    if network is not None:
        _call("cannot leave the network", _libc.setns, network.number, _CLONE_NEWNET)
    _show_processes()
    _give_up_rights()
    _call("cannot die with the keeper", _libc.prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if _is_closed(keeper):
        return FAILED  # it died before that
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(ask["cwd"])
    if ask["cpus"]:
        os.sched_setaffinity(0, ask["cpus"])
    command = _spawn(ask["program"], ask["argv"], {**ask["env"], "PWD": ask["cwd"]})
    os.closerange(0, 3)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _spawn(program: str, argv: list[str], env: dict[str, str]) -> int:
    try:
        return os.posix_spawn(program, argv, env, setsid=True, setsigdef=_RESTORED)
    except OSError as error:
        if error.errno == errno.ENOEXEC and program != "/bin/sh":  # a script that does not say of what
            return _spawn("/bin/sh", ["sh", program, *argv[1:]], env)
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP):
            raise
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE)


def _is_closed(connection: int) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


def _end(ask: dict[str, Any], files: list[int], network: File | None, keeper: int, reason: str | None) -> None:
    """Be process 1, to the end."""
    code = FAILED
    try:
        if reason is not None:
            raise NoSandboxError(reason)
        code = _live(ask, files, network, keeper)
    except NoSandboxError as error:
        _excuse(files[2], str(error))
    except OSError as error:
        _excuse(files[2], _told(error))
    except BaseException as error:  # nothing of this may go on as the encloser
        _excuse(files[2], repr(error))
    finally:
        os._exit(code)


def _excuse(file: int, reason: str) -> None:
    with contextlib.suppress(OSError):
        os.write(file, f"sandbox: {reason}\n".encode())


# --- the encloser itself


class Encloser:
    """Answers the keeper.

    Args:
        keeper: its socket.
        changes: ``/proc/self/mountinfo``, opened before we have a copy of the machine's mounts.
        reason: why no sandbox can be made; None when one can.
    """

    def __init__(self, keeper: socket.socket, changes: File, reason: str | None) -> None:
        self._keeper = keeper
        self._changes = changes
        self._reason = reason
        self._machine: File | None = None
        self._worlds: dict[tuple[str, ...], File] = {}
        self._networks: dict[File, File] = {}

    def run(self) -> bool:
        """Work until the keeper has gone, or something was mounted on the machine.

        Returns:
            Whether something was.
        """
        if self._reason is None:
            try:
                _call("no mount namespace can be made", _libc.unshare, _CLONE_NEWNS)
                self._machine = _opened("/proc/self/ns/mnt")
            except NoSandboxError as error:
                self._reason = str(error)
        poll = select.poll()
        poll.register(self._keeper, select.POLLIN)
        poll.register(self._changes.number, select.POLLPRI)
        while True:
            if any(file == self._changes.number for file, _ in poll.poll()):
                return True
            line, files = receive(self._keeper)
            if not line:
                return False
            try:
                answer = f"running {self._start(json.loads(line), files)}"
            except OSError as error:
                answer = f"failed {error.errno}"
            finally:
                for file in files:
                    os.close(file)
            self._keeper.sendall(f"{answer}\n".encode())

    def _start(self, ask: dict[str, Any], files: list[int]) -> int:
        """Start a sandbox; its process id.

        Raises:
            OSError: no process can be made.
        """
        reason, network, flags = self._reason, None, 0
        try:
            if reason is None:
                flags = _CLONE_NEWPID | _CLONE_NEWIPC
                network = None if ask["sandbox"]["network"] else self._network()
                self._go_in(ask["sandbox"])
        except NoSandboxError as error:
            reason = str(error)
        except OSError as error:
            reason = _told(error)
        try:
            pidfd = ctypes.c_int(-1)
            pid = _clone(flags | _CLONE_PARENT | _CLONE_PIDFD, pidfd)
            if pid == 0:
                _end(ask, files, network, self._keeper.fileno(), reason)
        finally:
            self._come_back()
        user = File(pidfd.value)
        if network is not None:
            self._networks[network] = user
        return pid

    def _go_in(self, sandbox: dict[str, Any]) -> None:
        """Be in a sandbox's file system, so that what is started is."""
        taken = [
            (path, _taken(path, _NO_SUID | _NO_DEV | (0 if writable else _READ_ONLY)))
            for path, writable in sandbox["binds"]
        ]
        world = self._world(tuple(sandbox["shows"]))
        _call("cannot enter the sandbox", _libc.setns, world.number, _CLONE_NEWNS)
        _call("cannot copy the sandbox", _libc.unshare, _CLONE_NEWNS)
        _furnish(sandbox["hides"], taken)

    def _come_back(self) -> None:
        """Be where the machine's files are."""
        if self._machine is not None:
            _call("cannot leave the sandbox", _libc.setns, self._machine.number, _CLONE_NEWNS)

    def _world(self, shows: tuple[str, ...]) -> File:
        """The mount namespace that sandboxes with these things to see are copies of."""
        world = self._worlds.get(shows)
        if world is None:
            _call("no mount namespace can be made", _libc.unshare, _CLONE_NEWNS)
            world = _opened("/proc/self/ns/mnt")
            try:
                _make_world(list(shows))
            finally:
                self._come_back()
            self._worlds[shows] = world
        return world

    def _network(self) -> File:
        """A network namespace in which there is nothing but a loopback interface, and no process."""
        for network, user in self._networks.items():
            if _is_over(user):
                return network
        return _empty_network()


def _opened(path: str) -> File:
    return File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A question and its descriptors; empty when there is none any more."""
    line, files = b"", list[int]()
    try:
        line, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        while line and not line.endswith(b"\n"):
            more = connection.recv(1 << 20)
            if not more:
                return b"", files
            line += more
    except OSError:
        line = b""
    return line, files


def _clone(flags: int, pidfd: ctypes.c_int | None) -> int:
    """As ``fork(2)``, with flags: there is one thread, and nothing that must know.

    Raises:
        OSError: no process can be made.
    """
    address = 0 if pidfd is None else ctypes.addressof(pidfd)
    arguments = struct.pack("=8Q", flags, address, 0, 0, 0, 0, 0, 0)
    pid = int(_libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_long(len(arguments))))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def _is_over(pidfd: File) -> bool:
    """Whether process 1 of a sandbox has ended; it does so after all others of it."""
    poll = select.poll()
    poll.register(pidfd.number, select.POLLIN)
    return bool(poll.poll(0))


def _empty_network() -> File:
    """Made by a process that is in it, since we stay where we are."""
    ours, its = socket.socketpair()
    maker = os.fork()
    if maker == 0:
        with contextlib.suppress(OSError, NoSandboxError):
            _call("", _libc.unshare, _CLONE_NEWNET)
            _raise_loopback()
            network = _opened("/proc/self/ns/net")
            socket.send_fds(its, [b"1"], [network.number])
        os._exit(0)
    its.close()
    with ours:
        _, files, _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(maker, 0)
    if not files:
        raise NoSandboxError("no network namespace can be made")
    return File(files[0])


def _raise_loopback() -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, get_flags, asked), 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def _serve(keeper: socket.socket, reason: str | None) -> bool:
    """Make sandboxes from a copy of the machine's mounts, in a process that ends when there are others.

    Returns:
        Whether there are others; else the keeper has gone.
    """
    changes = _opened("/proc/self/mountinfo")
    told, tell = os.pipe2(os.O_CLOEXEC)
    if _clone(_CLONE_PARENT, None) == 0:  # what it starts is then the keeper's, too
        try:
            os.close(told)
            if Encloser(keeper, changes, reason).run():
                os.write(tell, b"1")
        finally:
            os._exit(0)
    os.close(tell)
    try:
        return bool(os.read(told, 1))
    finally:
        os.close(told)


def main() -> None:
    """Make sandboxes for the keeper at standard input."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    keeper = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    _libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
    reason = None
    try:
        _own_users()
        _limit_rights()
    except NoSandboxError as error:
        reason = str(error)
    except OSError as error:
        reason = f"no user namespace can be made: {error.strerror}"
    gc.collect()
    gc.disable()  # what is looked at is copied for each sandbox
    while _serve(keeper, reason):
        pass


if __name__ == "__main__":
    main()
