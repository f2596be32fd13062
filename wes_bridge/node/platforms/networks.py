"""The network of steps: a namespace of its own, with user-mode networking by ``pasta`` or ``slirp4netns``.

It is its own program (``python -I -S networks.py NAME PATH``), of few parts of the standard library, started
by the keeper for each owner of steps that use the network. From inside, the machine's loopback interface and
its abstract sockets cannot be reached, and nobody else's; what is beyond the machine can, but for link-local
addresses: at one of them a cloud gives the machine's credentials to who asks.

Its standard input is the keeper's socket. It says ``ready`` there, with descriptors of the user and the
network namespace (only the latter where we are root), or ``failed REASON``; then it stays until the keeper
closes the socket or dies. All its processes are in a process namespace, whose first ends with that, so
nothing is left.

The node's side is ``isolating``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import os
import signal
import socket
import struct
import sys

if __name__ == "__main__":  # this program sees no packages
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    close = importlib.import_module("link_local").close
    del sys.path[0]
else:
    from wes_bridge.node.platforms.link_local import close

PROGRAMS = ("pasta", "slirp4netns")
"""What makes a network, best first."""
DNS = {"pasta": "192.0.2.53", "slirp4netns": "10.0.2.3"}
"""Where name servers answer inside that cannot be reached from there: those on the loopback interface."""
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_MS_REC, _MS_SLAVE = 1 << 14, 1 << 19
_RESTORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
"""Signals that the keeper ignores; pasta does not start where one is."""
_LONGEST = 2000
"""Bytes of a program's complaint."""
_NOISE = b"Failed to send"
"""What pasta says where there is no log of the system."""


def _command(name: str, path: str, user: str | None, network: str, ready: int) -> list[str]:
    if name == "pasta":
        words = [path, "--quiet", "--config-net", "--no-map-gw", "--dns-forward", DNS[name]]
        for ports in ("-t", "-u", "-T", "-U"):  # nothing of the machine's comes in, nor goes to its loopback
            words += [ports, "none"]
        words += ["--userns", user] if user is not None else ["--netns-only"]
        return [*words, "--netns", network]
    words = [path, "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={ready}"]
    if os.geteuid() == 0:  # it would keep all rights
        words += ["--enable-sandbox", "--enable-seccomp"]
    words += [f"--userns-path={user}"] if user is not None else []
    return [*words, "--netns-type=path", network, "tap0"]


_libc = ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _own_users() -> None:
    """A user namespace, in which our user is what it is outside."""
    user, group = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER)
    maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for file, text in maps.items():
        with open(f"/proc/self/{file}", "w") as written:
            written.write(text)


def _own_mounts() -> None:
    """Mounts that are not the machine's any more, for what is started from here.

    slirp4netns leaves the machine's files by taking all mounts away, and makes only the topmost private
    before that: from mounts that are shared, as those of network namespaces are, it would take away the
    machine's own.
    """
    _unshare(_CLONE_NEWNS)
    if _libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bring_up_loopback() -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, get_flags, asked), 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def _hold(tell: socket.socket) -> None:
    """Be the process whose namespaces they are, to the end: that of the process namespace."""
    root = os.geteuid() == 0
    try:
        if not root:
            _own_users()
        _unshare(_CLONE_NEWNET)
        _bring_up_loopback()
        kinds = ("net",) if root else ("user", "net")
        files = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
        socket.send_fds(tell, [os.readlink("/proc/self").encode()], files)
    except OSError as error:
        tell.sendall(f"failed no network namespace can be made: {error.strerror}".encode())
        os._exit(1)
    try:
        tell.recv(1)
        close()
        tell.sendall(b"closed")
        tell.close()
    except OSError as error:
        tell.sendall(f"link-local addresses cannot be closed: {error.strerror}".encode())
        os._exit(1)
    while True:
        signal.pause()


def _attach(name: str, path: str, process: str) -> str | None:
    """Start the program, and wait until it works; why it does not."""
    ready, tell = os.pipe()
    said = os.memfd_create("said")
    user = None if os.geteuid() == 0 else f"/proc/{process}/ns/user"
    words = _command(name, path, user, f"/proc/{process}/ns/net", tell)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate((null, null, said))]
    os.set_inheritable(tell, True)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    pid = os.posix_spawn(words[0], words, environment, file_actions=actions, setsigdef=_RESTORED)
    os.close(tell)
    if name == "pasta":  # which ends when the one works that it leaves behind
        works = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:
        works = os.read(ready, 1) == b"1"
    os.close(ready)
    text = os.pread(said, _LONGEST, 0)
    os.close(said)
    if works:
        return None
    lines = [line for line in text.splitlines() if line and not line.startswith(_NOISE)]
    return f"{name}: {b'; '.join(lines).decode(errors='replace').strip() or 'it ended'}"


def _be_first(keeper: socket.socket, name: str, path: str) -> None:
    """Be process 1, and end all when the keeper has gone."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _own_mounts()
        ours, its = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            keeper.close()
            _hold(its)
        its.close()
        told, files, _, _ = socket.recv_fds(ours, 500, 2)
        reason = _attach(name, path, told.decode()) if files else told.decode().removeprefix("failed ")
        if reason is None:
            ours.sendall(b"c")
            told = ours.recv(500)
            reason = None if told == b"closed" else told.decode() or "its holder has ended"
        if reason is not None:
            keeper.sendall(f"failed {reason}".encode())
            return
        socket.send_fds(keeper, [b"ready"], files)
        for file in files:
            os.close(file)
        keeper.recv(1)
    except OSError as error:
        with contextlib.suppress(OSError):
            keeper.sendall(f"failed {error.strerror}".encode())
    finally:
        os._exit(0)


def main() -> None:
    """Make a network for the keeper at standard input."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    keeper = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    try:
        if os.geteuid() != 0:
            _own_users()
        _unshare(_CLONE_NEWPID)
        if os.fork() == 0:
            _be_first(keeper, *sys.argv[1:3])
    except OSError as error:
        keeper.sendall(f"failed no namespace can be made: {error.strerror}".encode())


if __name__ == "__main__":
    main()
