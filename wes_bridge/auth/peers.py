"""Whose program is at the other end of a connection on this machine: the kernel is asked.

A connection over loopback has two sockets here, ours and the peer's, and the kernel knows whose each is. It
must not know what is asked over the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import chain
from pathlib import Path

_SOCK_DIAG = 20
_NETLINK_SOCK_DIAG = 4
_REQUEST = 1
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
_OWNER = struct.Struct("=II")
_OWNER_AT = _HEADER.size + 4 + 48 + 12
_ALIVE = frozenset({1, 4, 5, 8})
"""TCP states of a socket whose other end has been accepted: established, or closed on one side only.

A socket that is just connecting may have the same addresses as one that is gone.
"""
_PATIENCE = 1.0
"""Seconds the kernel has to answer."""

_asked_before: deque[str] = deque(maxlen=4)
"""Processes that held sockets before; each is looked at anew."""
Address = tuple[str, int]
Ip = IPv4Address | IPv6Address


@dataclass(slots=True)
class Connection:
    """A connection as our server sees it; what is found out about it is kept with it.

    Attributes:
        local, remote: address and port of the two ends.
        is_own: whether a program of our own user is at the other end; None: not asked yet.
    """

    local: Address
    remote: Address
    is_own: bool | None = field(default=None)

    @property
    def is_loopback(self) -> bool:
        """Whether both ends are on this machine's loopback interface."""
        return _is_loopback(self.local[0]) and _is_loopback(self.remote[0])

    async def of_own_user(self) -> bool:
        """Whether a program of our own user, and no step of a workflow in a sandbox, is at the other end."""
        if self.is_own is None:
            self.is_own = self.is_loopback and await _of_own_user(self.local, self.remote)
        return self.is_own


async def _of_own_user(local: Address, remote: Address) -> bool:
    user = os.getuid()
    found = owner(remote, local)
    if found is None or found[0] != user or user == _nobody():
        return False
    return await asyncio.to_thread(_is_fellow, found[1], user)


def owner(local: Address, remote: Address) -> tuple[int, int] | None:
    """The user and the inode of a TCP socket of this machine.

    Args:
        local: its own address.
        remote: the other end's.

    Returns:
        None: there is no such socket, or no program holds it any more. The kernel calls such a socket root's.
    """
    try:
        found = _ask(local, remote)
    except OSError:
        found = _look(local, remote)
    return found if found is not None and found[1] else None


def _ask(local: Address, remote: Address) -> tuple[int, int] | None:
    """By netlink: 20 microseconds, however many connections there are.

    Raises:
        OSError: the kernel does not answer such questions.
    """
    near, far = _plain(local[0]), _plain(remote[0])
    family = socket.AF_INET if isinstance(near, IPv4Address) else socket.AF_INET6
    name = struct.pack("!HH16s16s", local[1], remote[1], near.packed, far.packed)
    body = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += name + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    question = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG, _REQUEST, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.send(question)
        answer = kernel.recv(4096)
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG:
        error = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if error in (2, 111):  # ENOENT: no such socket
            return None
        raise OSError(error, os.strerror(error))
    state = answer[_HEADER.size + 1]
    told = answer[_HEADER.size + 4 : _HEADER.size + 4 + len(name)]
    if state not in _ALIVE or told != name:  # a listener is found where no connection is
        return None
    user, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    return user, inode


def _look(local: Address, remote: Address) -> tuple[int, int] | None:
    """By the table in ``/proc``, where netlink is not to be had; it is read from its beginning."""
    near, far = _plain(local[0]), _plain(remote[0])
    tables: list[tuple[str, Ip, Ip]] = [("/proc/net/tcp6", _six(near), _six(far))]
    if isinstance(near, IPv4Address):
        tables.insert(0, ("/proc/net/tcp", near, far))
    for table, own, other in tables:
        ends = f"{_hex(own)}:{local[1]:04X}", f"{_hex(other)}:{remote[1]:04X}"
        with contextlib.suppress(OSError), Path(table).open(encoding="ascii") as lines:
            for line in lines:
                words = line.split()
                if (words[1], words[2]) == ends and int(words[3], 16) in _ALIVE:
                    return int(words[7]), int(words[9])
    return None


def _plain(text: str) -> Ip:
    address: Ip = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _six(address: Ip) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _hex(address: Ip) -> str:
    """As in ``/proc/net/tcp``: words of four bytes as this machine has them."""
    packed = address.packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _is_loopback(text: str) -> bool:
    try:
        return _plain(text).is_loopback
    except ValueError:
        return False


def _nobody() -> int:
    """The user as whom the kernel names users that it cannot name here."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534


def _is_fellow(inode: int, user: int) -> bool:
    """Whether a socket of our user is held by a process that is in no sandbox.

    A step of a workflow runs as our user, too; in a sandbox it has other namespaces than we do. So the socket
    must be found with a process that has ours, and nothing is gained by a step that hides what it holds, or
    hands it around. A socket that is found with nobody is a fellow's only where no process is apart: some
    programs let nobody look (``ssh -L``). Who asked before, and who came last, is looked at first.
    """
    ours, link, is_anybody_apart = _namespaces("self"), f"socket:[{inode}]", False
    for name in chain(tuple(_asked_before), _processes()):
        if not _is_of(name, user):
            continue
        if not _is_beside(name, ours):
            is_anybody_apart = True
        elif _holds(name, link):
            if name not in _asked_before:
                _asked_before.appendleft(name)
            return True
    return not is_anybody_apart


def _processes() -> Iterator[str]:
    """All processes, the newest first; they are listed when the first is asked for."""
    names = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - a third of the time
    yield from sorted(names, key=int, reverse=True)


def _is_of(process: str, user: int) -> bool:
    """Whether a process is our user's; one that lets nobody look at it belongs to root by its folder."""
    try:
        folder = os.stat(f"/proc/{process}").st_uid  # noqa: PTH116
        if folder == user or folder != 0:
            return folder == user
        return _status(process, "Uid:")[:1] == [str(user)]
    except OSError:  # it has ended
        return False


def _is_beside(process: str, ours: tuple[str, ...] | None) -> bool:
    try:
        theirs = _namespaces(process)
    except FileNotFoundError:
        return True  # it has ended
    except OSError:
        theirs = None
    if theirs is None or ours is None:  # it lets nobody look, but all may see how many names it has
        try:
            return len(_status(process, "NSpid:")) == len(_status("self", "NSpid:"))
        except OSError:
            return True
    return theirs == ours


def _namespaces(process: str) -> tuple[str, ...]:
    return tuple(os.readlink(f"/proc/{process}/ns/{kind}") for kind in ("user", "pid"))  # noqa: PTH115


def _status(process: str, field: str) -> list[str]:
    text = Path(f"/proc/{process}/status").read_text(errors="replace")
    return next((line.split()[1:] for line in text.splitlines() if line.startswith(field)), [])


def _holds(process: str, link: str) -> bool:
    folder = f"/proc/{process}/fd"
    try:
        for number in os.listdir(folder):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{number}") == link:  # noqa: PTH115
                    return True
    except OSError:
        pass
    return False
