"""The program of a process that evaluates JavaScript: ``python -I -S evaluator.py FOLDER``.

It answers questions from standard input on standard output, one after the other, each in a QuickJS context of
its own, and ends when standard input does. It limits what an expression may use and what else the process can
do; the process that started it kills it when that is not enough. The code is untrusted, so nothing is opened,
no other module of ours is imported, and the process knows neither CWL nor our environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing them
    from typing import Any, BinaryIO

QUESTION = struct.Struct("<dII")
"""Seconds of processor time; the bytes of what is evaluated first, and of what is evaluated for its value."""
ANSWER = struct.Struct("<cdI")
"""How it went, seconds of processor time that this process has used, and bytes of the text after it."""
READY, VALUE, UNDEFINED, FAILED, TOO_LONG, TOO_BIG, TOO_LARGE = b"r", b"v", b"u", b"e", b"t", b"m", b"l"
"""Can be asked; a value; none; JavaScript's error; out of time; out of memory; a value that is too large."""

MEMORY_LIMIT = 256 * 1024**2
"""Bytes an expression may use."""
VALUE_LIMIT = 64 * 1024**2
"""Bytes of an expression's value as JSON."""
_STACK_LIMIT = 1024**2
"""Bytes of JavaScript stack."""
_PROCESS_LIMIT = MEMORY_LIMIT + 512 * 1024**2
"""Bytes of address space: Python's own, and the question and the answer beside the expression."""
_HARD = 2
"""Seconds beyond its time, after which the system ends the process: QuickJS may not look at the clock."""


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for those who asked
    _end_with_parent()
    _limit(resource.RLIMIT_AS, _PROCESS_LIMIT)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    questions, answers = open(0, "rb"), open(1, "wb")  # noqa: SIM115 - for as long as the process lives
    try:
        sys.path.append(sys.argv[1])
        # Not ``quickjs``, which starts a thread: its time would count, and it has more to import.
        import _quickjs as engine  # noqa: PLC0415
    except ImportError as error:
        _answer(answers, FAILED, f"the JavaScript engine cannot be loaded: {error}")
        return
    _answer(answers, READY)
    _limit(resource.RLIMIT_NOFILE, 3)
    while True:
        context = _context(engine)  # ahead: it takes longer than most expressions
        head = questions.read(QUESTION.size)
        if len(head) < QUESTION.size:
            return
        seconds, first, second = QUESTION.unpack(head)
        texts = questions.read(first), questions.read(second)
        _answer(answers, *_evaluate(engine, context, seconds, *texts))


def _end_with_parent() -> None:
    """Have the kernel send SIGIO, which ends a process that does not expect it, when the parent is killed:
    QuickJS does not come back to Python to look.

    Our standard error is a pipe into which nothing is ever written, and SIGIO comes when its other end is
    closed. On the pipe of the questions it comes for each of them, too, and perhaps late: after all of the
    question was read.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(2, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) | os.O_ASYNC)
        life = select.poll()
        life.register(2, 0)
        if life.poll(0):  # it was closed before
            os._exit(1)


def _limit(what: int, amount: int) -> None:
    """Limit this process; for good, except for the time, which is raised for each question."""
    most = resource.getrlimit(what)[1]
    if most != resource.RLIM_INFINITY:
        amount = min(amount, most)
    with contextlib.suppress(
        ValueError, OSError
    ):  # macOS does not limit all of this; QuickJS still does its part
        resource.setrlimit(what, (amount, most if what == resource.RLIMIT_CPU else amount))


def _context(engine: Any) -> Any:
    context = engine.Context()
    context.set_memory_limit(MEMORY_LIMIT)
    context.set_max_stack_size(_STACK_LIMIT)
    return context


def _answer(answers: BinaryIO, kind: bytes, text: str = "") -> None:
    data = text.encode(errors="replace")
    answers.write(ANSWER.pack(kind, time.process_time(), len(data)) + data)
    answers.flush()


def _evaluate(engine: Any, context: Any, seconds: float, first: bytes, second: bytes) -> tuple[bytes, str]:
    begun = time.process_time()
    _limit(resource.RLIMIT_CPU, int(begun + seconds) + _HARD)
    try:
        context.set_time_limit(seconds)
        context.eval(first.decode())
        context.set_time_limit(max(seconds - (time.process_time() - begun), 0.001))
        value = context.eval(second.decode())
    except MemoryError:
        return TOO_BIG, ""
    except (engine.JSException, engine.StackOverflow) as error:
        return _failure(str(error), time.process_time() - begun >= 0.9 * seconds)
    if value is None:
        return UNDEFINED, ""
    return (VALUE, value) if len(value) <= VALUE_LIMIT else (TOO_LARGE, "")


def _failure(error: str, time_is_up: bool) -> tuple[bytes, str]:
    if time_is_up and error.startswith("InternalError: interrupted"):
        return TOO_LONG, ""
    if error.startswith("InternalError: out of memory") or (error.strip() == "null" and _is_big()):
        return TOO_BIG, ""
    told = [line for line in error.splitlines() if not line.startswith("    at ")]  # places in our wrapping
    return FAILED, "\n".join(told)


def _is_big() -> bool:
    """Whether memory was used up: QuickJS then throws null, as it has none left for an error."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) > MEMORY_LIMIT / 4


if __name__ == "__main__":
    main()
