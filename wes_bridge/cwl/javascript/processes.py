"""The processes that evaluate JavaScript, each one expression at a time; they can be stopped from outside.

A process takes 20 ms to start and about 10 MB, so those that are free are kept. A process that was stopped or
whose expression went beyond a limit is never asked again. This module must not know CWL.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from wes_bridge.cwl.javascript import evaluator
from wes_bridge.cwl.javascript.evaluator import (
    ANSWER,
    FAILED,
    QUESTION,
    READY,
    TOO_BIG,
    TOO_LONG,
    UNDEFINED,
    VALUE,
)
from wes_bridge.one_cpu import anywhere

_KEPT = 4
"""Free processes kept: as many as a worker has threads that ask."""
_START = 60.0
"""Seconds a process may take to start, on a machine that is busy."""
_GRACE = 0.25
"""Seconds that a process gets beyond its expression's time, to say itself that it is up."""
_WALL = 20.0
"""Of an expression's time: how long it may take on a machine that is busy with others."""
_ENV = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What Python may need of our environment to start; the rest, where secrets are, is not for expressions."""


class EvaluationError(Exception):
    """An expression has no value; the message is for the user."""


class StoppedError(EvaluationError):
    """It was stopped from outside."""


class Stopper:
    """Stops expressions from outside: those that are being evaluated for it, and all that come later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[_Process] = set()
        self._stopped = False

    def stop(self) -> None:
        """End them."""
        with self._lock:  # held meanwhile: a process that is given back may be somebody else's next
            self._stopped = True
            for process in self._busy:
                process.stop()

    def _begin(self, process: _Process) -> None:
        with self._lock:
            if self._stopped:
                raise StoppedError("it was stopped, since its run was")
            self._busy.add(process)

    def _end(self, process: _Process) -> None:
        with self._lock:
            self._busy.discard(process)


class Evaluators:
    """Evaluates, in as many processes as there are threads that ask at the same time."""

    def __init__(self) -> None:
        self._free: list[_Process] = []
        self._lock = threading.Lock()

    def evaluate(self, first: str, second: str, seconds: float, stopper: Stopper | None = None) -> str | None:
        """The value of JavaScript code as a text; ``None`` for undefined.

        Args:
            first: is evaluated before.
            second: is evaluated for its value.
            seconds: of processor time, for both.
            stopper: may end it.

        Raises:
            EvaluationError: it failed, went beyond a limit, or was stopped.
        """
        process = self._take()
        reusable = False
        try:
            if stopper is not None:
                stopper._begin(process)
            kind, text = process.ask(first, second, seconds)
            reusable = kind in (VALUE, UNDEFINED, FAILED)
        finally:
            if stopper is not None:
                stopper._end(process)
            self._give(process, reusable)
        if kind == VALUE:
            return text
        if kind == UNDEFINED:
            return None
        raise EvaluationError(_explained(kind, text, seconds))

    def close(self) -> None:
        """End the free processes."""
        with self._lock:
            free, self._free = self._free, []
        for process in free:
            process.close()

    def _take(self) -> _Process:
        while True:
            with self._lock:
                if not self._free:
                    break
                process = self._free.pop()
            if process.is_alive():
                return process
            process.close()
        return _Process()

    def _give(self, process: _Process, reusable: bool) -> None:
        with self._lock:
            keep = reusable and process.is_alive() and len(self._free) < _KEPT
            if keep:
                self._free.append(process)
        if not keep:
            process.close()


def _explained(kind: bytes, text: str, seconds: float) -> str:
    if kind == TOO_LONG:
        return f"it took longer than {seconds:g} s and was stopped"
    if kind == TOO_BIG:
        return f"it used more than {evaluator.MEMORY_LIMIT // 1024**2} MiB and was stopped"
    if kind == evaluator.TOO_LARGE:
        return f"its value is larger than {evaluator.VALUE_LIMIT // 1024**2} MiB"
    return text or "it failed without a message"


class _Process:
    """One process."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("_quickjs")
        folder = Path(found.origin).parent if found and found.origin else Path("/nonexistent")
        command = [sys.executable, "-I", "-S", evaluator.__file__, str(folder)]
        env = {name: os.environ[name] for name in _ENV if name in os.environ}
        its_life, self._life = os.pipe()  # it ends when ours is closed, also by our death
        try:
            with anywhere():
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=its_life,
                    env=env,
                    cwd="/",
                )
        except OSError:
            os.close(self._life)
            raise
        finally:
            os.close(its_life)
        assert self._process.stdin and self._process.stdout
        self._questions, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._questions, False)
        os.set_blocking(self._answers, False)
        self._ready = self._stopped = False
        self._used = 0.0

    def is_alive(self) -> bool:
        return not self._stopped and self._process.poll() is None

    def stop(self) -> None:
        """End it now; whoever waits for its answer is told so. Any thread may say it."""
        self._stopped = True
        self._process.kill()

    def close(self) -> None:
        """End it, and keep nothing of it."""
        self._process.kill()
        self._process.wait()
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def ask(self, first: str, second: str, seconds: float) -> tuple[bytes, str]:
        """How it went, and the text with it; see ``evaluator``."""
        self._start()
        parts = first.encode(errors="replace"), second.encode(errors="replace")
        head = QUESTION.pack(seconds, *map(len, parts))
        patience = _Patience(_START + _WALL * seconds, self._process.pid, self._used + seconds + _GRACE)
        try:
            self._send(b"".join((head, *parts)), patience)
            return self._answer(patience)
        except _OutOfTimeError:
            return TOO_LONG, ""

    def _start(self) -> None:
        if self._ready:
            return
        try:
            kind, text = self._answer(_Patience(_START))
        except _OutOfTimeError:
            raise EvaluationError(f"the JavaScript process did not start within {_START:g} s") from None
        if kind != READY:
            raise EvaluationError(text)
        self._ready = True

    def _send(self, data: bytes, patience: _Patience) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._questions, left) :]
            except BlockingIOError:
                patience.wait(self._questions, select.POLLOUT)
            except BrokenPipeError:
                raise self._ended() from None

    def _answer(self, patience: _Patience) -> tuple[bytes, str]:
        data = bytearray()
        size = ANSWER.size
        while len(data) < size:
            patience.wait(self._answers, select.POLLIN)
            some = os.read(self._answers, 1 << 20)
            if not some:
                raise self._ended()
            data += some
            if size == ANSWER.size <= len(data):
                size += ANSWER.unpack_from(data)[2]
        kind, self._used, _ = ANSWER.unpack_from(data)
        return kind, data[ANSWER.size :].decode(errors="replace")

    def _ended(self) -> Exception:
        code = self._process.wait()
        if self._stopped:
            return StoppedError("it was stopped, since its run was")
        if code == -signal.SIGXCPU:
            return _OutOfTimeError()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return EvaluationError(f"its process ended ({how}); it may have used too much memory")


class _OutOfTimeError(Exception):
    """The time is up."""


class _Patience:
    """How long an answer is waited for: by a clock, and by the processor time of the process that answers.

    Args:
        wall: seconds at most.
        pid: of the process.
        processor: seconds that it may have used; its processor time is not asked for before that can be.
    """

    def __init__(self, wall: float, pid: int = 0, processor: float = math.inf) -> None:
        now = time.monotonic()
        self._until = now + wall
        self._pid, self._processor = pid, processor
        self._next_look = min(self._until, now + processor)

    def wait(self, pipe: int, event: int) -> None:
        """Return when the pipe can be read, or written to.

        Raises:
            _OutOfTimeError: the time is up.
        """
        poll = select.poll()
        poll.register(pipe, event)
        while not poll.poll(1000 * max(self._next_look - time.monotonic(), 0.01)):
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        with contextlib.suppress(psutil.Error):  # it has ended: the pipe tells
            times = psutil.Process(self._pid).cpu_times()
            left = self._processor - times.user - times.system
            if left <= 0:
                raise _OutOfTimeError
            self._next_look = min(self._until, now + left)
        if now >= self._until:
            raise _OutOfTimeError
