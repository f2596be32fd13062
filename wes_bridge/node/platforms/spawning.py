"""``posix_spawn`` without holding the interpreter.

:func:`os.posix_spawn` keeps Python's lock until the new process has begun its program, half a millisecond
to a whole one in which nothing else of the node moves; a foreign function called through ctypes lets go of
it. It must not know what is started. Linux only, like ``supervisor``.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping, Sequence

_LIBC = ctypes.CDLL(None)
_QUICK = ctypes.PyDLL(None)
"""The same functions, called without letting go of the lock: for those that only fill in a structure."""
_ROOM = 1024
"""Bytes for a structure of the C library; glibc's largest has 336, and musl's are no larger."""
_SETSIGDEF, _SETSID = 0x04, 0x80
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, and that programs expect not to be ignored."""


def spawn(argv: Sequence[str], env: Mapping[str, str], stdin: int, stdout: int, stderr: int) -> int:
    """Start a program in a session of its own.

    Args:
        argv: the program's absolute path, and its arguments.
        env: its whole environment.
        stdin, stdout, stderr: descriptors that become 0, 1 and 2; others are closed by ``O_CLOEXEC``.

    Returns:
        Its process id.

    Raises:
        OSError: it cannot be started.
    """
    words = _strings([os.fsencode(word) for word in argv])
    settings = _strings([os.fsencode(f"{name}={value}") for name, value in env.items()])
    actions, attributes, defaults = (ctypes.create_string_buffer(_ROOM) for _ in range(3))
    pid = ctypes.c_int()
    _check(_QUICK.posix_spawn_file_actions_init(actions))
    try:
        for new, old in enumerate((stdin, stdout, stderr)):
            _check(_QUICK.posix_spawn_file_actions_adddup2(actions, old, new))
        _check(_QUICK.posix_spawnattr_init(attributes))
        _QUICK.sigemptyset(defaults)
        for number in _RESTORED:
            _QUICK.sigaddset(defaults, int(number))
        _check(_QUICK.posix_spawnattr_setsigdefault(attributes, defaults))
        _check(_QUICK.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSID)))
        path = os.fsencode(argv[0])
        _check(_LIBC.posix_spawn(ctypes.byref(pid), path, actions, attributes, words, settings))
    finally:
        _QUICK.posix_spawn_file_actions_destroy(actions)
    return pid.value


def _strings(words: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*words, None)


def _check(error: int) -> None:
    if error:
        raise OSError(error, os.strerror(error))
