"""Users, rights and system calls: what our processes and all that they start may do."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import calls
from .calls import NoSandboxError, call, libc

_KEPT = (0, 1, 3, 4, 5, 6, 7)
"""What root inside may still do (``capabilities(7)``): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID and
SETUID. It treats root's files as root does. Other users may do nothing."""
_NOBODYS = 1_900_000_000
"""The first of the users on the machine that others than root are in a sandbox of root's. No user of the
machine is one of these, so that root inside can unpack files of any user, and has nobody's rights by that."""
_USERS = 65535
_ROOMY = 2000
"""As many users of a container make it worth to use some of them so."""
_CALLS = {  # by the kernel's name of the processor (``linux/audit.h``): add_key, request_key, keyctl; socket
    0xC000003E: ((248, 249, 250, 0x400000F8, 0x400000F9, 0x400000FA), 41),  # x86-64, and its x32
    0x40000003: ((286, 287, 288), 359),  # i386
    0xC00000B7: ((217, 218, 219), 198),  # ARM, 64 bit
    0x40000028: ((309, 310, 311), 281),  # ARM
    0xC00000F3: ((217, 218, 219), 198),  # RISC-V
    0xC0000015: ((269, 270, 271), 326),  # POWER, little-endian
    0x80000016: ((278, 279, 280), 359),  # s390x
}
"""Calls for keys, which the kernel keeps for a user and not for a sandbox, and the one that makes sockets."""
_IO_RING = (425, 426, 427)
"""``io_uring`` goes on after the end of a process, and is where many faults of the kernel were."""
_AF_VSOCK = 40
"""Sockets to the host of a virtual machine; no network namespace keeps them in."""
_CAPABILITIES_V3 = 0x20080522


def own_users() -> None:
    """Be in a user namespace of our own, where root is root, and other users are nobody's on the machine."""
    root = os.geteuid() == 0
    users = _roots_map("/proc/self/uid_map") if root else f"{os.geteuid()} {os.geteuid()} 1"
    groups = _roots_map("/proc/self/gid_map") if root else f"{os.getegid()} {os.getegid()} 1"
    go, gone = os.pipe2(os.O_CLOEXEC)
    us = os.getpid()
    helper = os.fork()  # root's map can only be written from outside
    if helper == 0:
        os.close(gone)
        code = 1
        try:
            if os.read(go, 1):
                _write_maps(us, users, groups, groups_stay=root)
                code = 0
        finally:
            os._exit(code)
    os.close(go)
    try:
        call("no user namespace can be made", libc.unshare, calls.CLONE_NEWUSER)
        os.write(gone, b"1")
    finally:
        os.close(gone)
        _, status = os.waitpid(helper, 0)
    if status != 0:
        raise NoSandboxError("the users of a user namespace cannot be set")


def _roots_map(path: str) -> str:
    """Root is root; all others are users that nobody on the machine is."""
    with open(path) as file:
        extents = [(int(words[0]), int(words[2])) for words in map(str.split, file)]
    first, count = _NOBODYS, _USERS
    if not any(start <= first and first + count <= start + length for start, length in extents):
        start, length = max(extents, key=lambda extent: extent[1])  # a container: its upper half
        count = min(_USERS, length // 2)
        first = start + length - count
        if count < _ROOMY:
            return "0 0 1"
    return f"0 0 1\n1 {first} {count}"


def _write_maps(process: int, users: str, groups: str, *, groups_stay: bool) -> None:
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


def limit() -> None:
    """Whatever is run from now on gets no more rights than commands may have; this process keeps its own."""
    kept = _KEPT if os.geteuid() == 0 else ()
    for capability in range(64):
        if capability not in kept and libc.prctl(calls.PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:  # there are no more
                break
            raise NoSandboxError(f"cannot limit rights: {os.strerror(ctypes.get_errno())}")
    call("cannot give up new rights", libc.prctl, calls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("cannot hide memory", libc.prctl, calls.PR_SET_DUMPABLE, 0, 0, 0, 0)
    program = _filter()
    text = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("@HP", len(program) // 8, ctypes.addressof(text))
    call("cannot limit system calls", libc.prctl, calls.PR_SET_SECCOMP, 2, filters, 0, 0)


def _filter() -> bytes:
    """A filter of system calls (``seccomp(2)``): those that are refused fail, all others are made."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse, missing = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    no_family = 0x00050000 | errno.EAFNOSUPPORT
    number, processor, first_argument = 0, 4, 16  # offsets in what is looked at
    steps = list[tuple[int, int, int, int]]()
    for kind, (keys, socket) in _CALLS.items():
        part = [(load, 0, 0, number)]
        for call_number, result in [(key, refuse) for key in keys] + [(ring, missing) for ring in _IO_RING]:
            part += [(equal, 0, 1, call_number), (answer, 0, 0, result)]
        low_word = first_argument + (4 if kind == 0x80000016 else 0)
        part += [(equal, 0, 3, socket), (load, 0, 0, low_word), (equal, 0, 1, _AF_VSOCK)]
        part += [(answer, 0, 0, no_family), (answer, 0, 0, allow)]
        steps += [(load, 0, 0, processor), (equal, 0, len(part), kind), *part]
    steps.append((answer, 0, 0, allow))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
