"""The program: has a user namespace, and in it the holder, which has a maker."""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import sys

from . import calls, first, rights
from .calls import File, NoSandboxError, call, clone, libc, opened
from .maker import Maker, mounts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NAME = "wb-sandbox"
"""What our processes are called in ``/proc/PID/comm``."""


def main() -> None:
    """Make sandboxes for the keeper at standard input; our argument is whether commands have a network."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    keeper = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    libc.prctl(calls.PR_SET_NAME, NAME.encode(), 0, 0, 0)
    gc.collect()
    gc.disable()  # there are no cycles to find
    network = sys.argv[1] == "yes"
    try:
        rights.own_users()
        rights.limit()
        if clone(calls.CLONE_NEWPID | calls.CLONE_PARENT) == 0:  # the keeper's child, too
            _hold(keeper, network=network)
    except NoSandboxError as error:
        _refuse(keeper, str(error))
    except OSError as error:
        _refuse(keeper, f"no user namespace can be made: {error.strerror}")


def _hold(keeper: socket.socket, *, network: bool) -> None:
    """Be process 1 of all: have a maker, and end with the keeper."""
    libc.prctl(calls.PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    poll = select.poll()
    poll.register(keeper, 0)  # tells only that it was closed
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        changes = opened("/proc/self/mountinfo")
        told, tell = os.pipe2(os.O_CLOEXEC)
        if clone(0) == 0:
            os.close(told)
            _make(keeper, changes, tell, network=network)
        os.close(tell)
        poll.register(told, select.POLLIN)
        if any(file != told for file, _ in poll.poll()) or not os.read(told, 1):
            return
        poll.unregister(told)
        os.close(told)


def _make(keeper: socket.socket, changes: File, tell: int, *, network: bool) -> NoReturn:
    """Be a maker, to the end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        mounts = mounts_of(changes)
        call("no mount namespace can be made", libc.unshare, calls.CLONE_NEWNS)
        Maker(keeper, changes, mounts, network=network).run(lambda: os.write(tell, b"1"))
    except (NoSandboxError, OSError) as error:
        _refuse(keeper, str(error))
    except BaseException:  # a fault of ours: the keeper's log should have it
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _refuse(keeper: socket.socket, reason: str) -> None:
    """Answer each question that no sandbox can be made."""
    while first.receive(keeper, 3)[0]:
        keeper.sendall(f"failed 0 {reason}\n".encode())
