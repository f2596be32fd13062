"""Processes for work on untrusted data: each is forked for one piece of it, limited, and can be killed.

The process that wants work done starts a *nursery* before it has threads; the nursery holds all that was
imported by then, so that a child begins in milliseconds. A child is limited by the system in processor time
and memory, and is asked again only if it has remained small and quick. Work that is not done after a moment
goes on among few others of its kind and with the lowest priority, so that quick work never waits for it. This
module must not know what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

_ORDER = struct.Struct("<cxxxIQ")
"""From us: what to do, the number of a child, its bytes of memory or its niceness."""
_NEWS = struct.Struct("<I?i")
"""From the nursery: a child's number, and its process id; or, when it has ended, how
(``os.waitstatus_to_exitcode``)."""
_BEGIN, _KILL, _LOWER = b"b", b"k", b"l"
_QUESTION = struct.Struct("<IQ")
"""Before a question: its seconds of processor time, its bytes."""
_ANSWER = struct.Struct("<?Q")
"""Before an answer: whether the child can be asked again, its bytes."""
_OUT_OF_MEMORY = 77
"""Exit code of a child."""
_PR_SET_PDEATHSIG = 1
_CHUNK = 1 << 20
_QUICK_ONES = 12
"""Children at once of which nobody knows yet how long they take."""
_QUICK = 0.5
"""Seconds of processor time after which a child is a slow one: the clock says nothing on a busy machine."""
_VERY_QUICK = 0.1
"""Seconds of processor time after which those that have used less go first."""
_QUICK_WALL = 5.0
"""Seconds by the clock after which it is one all the same: it may be waiting for the network."""
_LOOK = 0.1
"""Seconds between looks at the processor time of a child."""
_KEPT = 2
"""Free children kept: the next question costs a tenth of what it costs a new one."""
_QUESTIONS = 200
"""That one child is asked at most, so that nothing piles up in it."""
_SPENT = 64 * 1024**2
"""Bytes that a child may have grown by and be asked again."""
_SLOW_ONES = 4
"""Slow children at once; others begin anew when it is their turn."""

Work = Callable[[bytes], bytes]
Preparation = Callable[[], float | None]


class LimitError(Exception):
    """A piece of work went beyond a limit; its subclasses say beyond which."""


class TimeError(LimitError):
    """Processor time."""


class WallTimeError(LimitError):
    """Time by the clock."""


class MemoryLimitError(LimitError):
    """Memory."""


class AnswerSizeError(LimitError):
    """The size of what came of it."""


class CrashError(Exception):
    """The child ended without an answer; the text says how."""


class NurseryGoneError(Exception):
    """The nursery itself has ended: no more work can be done."""


@dataclass(frozen=True)
class Limits:
    """What one piece of work may use.

    Attributes:
        processor: seconds of processor time.
        wall: seconds by the clock, once it has its turn.
        memory: bytes, beside what the nursery has.
        answer: bytes of the answer.
    """

    processor: float
    wall: float
    memory: int
    answer: int


class Nursery:
    """Starts the nursery's process, and has work done by its children.

    Must be made before this process has other threads.

    Args:
        work: makes an answer of a question, in a child.
        prepare: called by the nursery when it has nothing else to do; says after how many seconds to call it
            again, None when nothing is left.
        name: of its processes, where the system shows one.
    """

    def __init__(self, work: Work, prepare: Preparation, name: str) -> None:
        self._control, other = socket.socketpair()
        self._numbers = 0
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._quick = asyncio.Semaphore(_QUICK_ONES)
        self._slow = asyncio.Semaphore(_SLOW_ONES)
        self._free: list[_Child] = []
        self.pids: dict[int, int] = {}
        self._news = bytearray()
        self._gone: asyncio.Future[None] | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._control.close()
            _nursery(other, work, prepare, name)
        other.close()
        self._control.setblocking(False)

    async def open(self) -> None:
        """Begin to listen to it, in the running loop."""
        loop = asyncio.get_running_loop()
        self._gone = loop.create_future()
        loop.add_reader(self._control, self._on_news)

    async def gone(self) -> None:
        """Return when the nursery has ended, which it should not."""
        assert self._gone is not None
        await asyncio.shield(self._gone)

    def close(self) -> None:
        """End it, and with it all its children."""
        if self._gone is not None:
            asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()

    async def do(self, question: bytes, limits: Limits) -> bytes:
        """The answer to a question. To cancel it ends the child, and all that it uses, at once.

        Raises:
            LimitError: see its subclasses.
            CrashError: see there.
            NurseryGoneError: see there.
        """
        await self._quick.acquire()
        with contextlib.ExitStack() as turn:
            turn.callback(self._quick.release)
            with self._child(limits) as child:
                answering = asyncio.ensure_future(child.answer(question, limits))
                try:
                    if await _is_quick(child, answering):
                        return answering.result()
                    if not self._slow.locked():
                        async with self._slow:
                            turn.close()  # somebody else is quick meanwhile
                            return await _slowly(child, answering, limits.wall)
                finally:
                    await _end(answering)
        async with self._slow:
            with self._child(limits) as child:
                answering = asyncio.ensure_future(child.answer(question, limits))
                try:
                    return await _slowly(child, answering, limits.wall)
                finally:
                    await _end(answering)

    @contextlib.contextmanager
    def _child(self, limits: Limits) -> Iterator[_Child]:
        """A child that nobody else asks; one that can be asked again is kept."""
        while self._free:
            child = self._free.pop()
            if child.is_alive() and child.memory == limits.memory:
                break
            child.close()
        else:
            self._numbers += 1
            child = _Child(self, self._numbers, limits.memory)
        try:
            yield child
        finally:
            if child.is_free and child.is_alive() and len(self._free) < _KEPT:
                self._free.append(child)
            else:
                child.close()

    def tell(self, what: bytes, number: int, amount: int = 0, file: int | None = None) -> None:
        """Tell the nursery something about a child."""
        order = _ORDER.pack(what, number, amount)
        try:
            socket.send_fds(self._control, [order], [] if file is None else [file])
        except OSError as error:
            raise NurseryGoneError(f"the process that starts others is gone ({error})") from error

    def expect(self, number: int) -> asyncio.Future[int]:
        """How a child will have ended."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ends[number] = future
        return future

    def _on_news(self) -> None:
        try:
            some = self._control.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            some = b""
        if not some:
            self._on_gone()
            return
        self._news += some
        while len(self._news) >= _NEWS.size:
            number, is_end, code = _NEWS.unpack_from(self._news)
            del self._news[: _NEWS.size]
            if not is_end:
                self.pids[number] = code
                continue
            self.pids.pop(number, None)
            future = self._ends.pop(number, None)
            if future is not None and not future.done():
                future.set_result(code)

    def _on_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        ends, self._ends = self._ends, {}
        for future in ends.values():
            if not future.done():
                future.set_exception(NurseryGoneError("the process that starts others has ended"))
                future.exception()  # nobody may be there to look
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)


async def _is_quick(child: _Child, answering: asyncio.Future[bytes]) -> bool:
    """Whether it has answered before it is a slow one."""
    begun, used = time.monotonic(), child.used()
    while time.monotonic() - begun < _QUICK_WALL:
        done, _ = await asyncio.wait({answering}, timeout=_LOOK)
        if done:
            return True
        more = child.used() - used
        if more >= _QUICK:
            return False
        if more >= _VERY_QUICK:
            child.lower(10)
    return False


async def _slowly(child: _Child, answering: asyncio.Future[bytes], seconds: float) -> bytes:
    child.lower(19)
    done, _ = await asyncio.wait({answering}, timeout=max(seconds, 0))
    if not done:
        raise WallTimeError
    return answering.result()


async def _end(task: asyncio.Future[bytes]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


class _Child:
    """One child, from here.

    Attributes:
        memory: bytes it may use.
        is_free: whether it can be asked.
    """

    def __init__(self, nursery: Nursery, number: int, memory: int) -> None:
        self._nursery, self._number, self.memory = nursery, number, memory
        self._pipe, other = socket.socketpair()
        self._pipe.setblocking(False)
        self._end = nursery.expect(number)
        self.is_free = True
        self._nice = 0
        with other:
            nursery.tell(_BEGIN, number, memory, other.fileno())

    def is_alive(self) -> bool:
        return not self._end.done()

    def used(self) -> float:
        """Seconds of processor time that it has used; 0 while that is not known."""
        pid = self._nursery.pids.get(self._number)
        if pid is None:
            return 0.0
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def close(self) -> None:
        """End it, and free all that it uses."""
        self._pipe.close()
        if self.is_alive():
            with contextlib.suppress(NurseryGoneError):
                self._nursery.tell(_KILL, self._number)

    def lower(self, nice: int) -> None:
        """Let others go first, from now on."""
        if nice > self._nice:
            self._nice = nice
            self._nursery.tell(_LOWER, self._number, nice)

    async def answer(self, question: bytes, limits: Limits) -> bytes:
        """What it answers."""
        loop = asyncio.get_running_loop()
        self.is_free = False
        head = _QUESTION.pack(math.ceil(limits.processor), len(question))
        try:
            await loop.sock_sendall(self._pipe, head + question)
            again, size = _ANSWER.unpack(await self._read(_ANSWER.size))
            if size > limits.answer:
                raise AnswerSizeError
            answer = await self._read(size)
        except (EOFError, ConnectionError):
            raise _explained(await self._end) from None
        self.is_free = again and not self._nice
        return answer

    async def _read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < size:
            some = await loop.sock_recv(self._pipe, min(size - len(data), _CHUNK))
            if not some:
                raise EOFError
            data += some
        return bytes(data)


def _explained(code: int) -> Exception:
    if code == -signal.SIGXCPU:
        return TimeError()
    if code == _OUT_OF_MEMORY:
        return MemoryLimitError()
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return CrashError(how)


# ---- in the nursery --------------------------------------------------------------------------------


def _nursery(control: socket.socket, work: Work, prepare: Preparation, name: str) -> NoReturn:
    """Its whole life: it ends when who started it does."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who started it decides
        _forget_streams()
        _call(name)
        gc.collect()
        gc.freeze()
        _Parent(control, work, prepare).live()
    except BaseException:  # it must never return into the program that it is a copy of
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _forget_streams() -> None:
    """Standard input and output belong to the process that it is a copy of."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _call(name: str) -> None:
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/comm").write_text(name)


class _Parent:
    """Forks when told to, and tells how the children end."""

    def __init__(self, control: socket.socket, work: Work, prepare: Preparation) -> None:
        self._control, self._work, self._prepare = control, work, prepare
        self._children: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._awake, other = socket.socketpair()
        self._awake.setblocking(False)
        other.setblocking(False)
        self._other = other
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(other.fileno(), warn_on_full_buffer=False)

    def live(self) -> None:
        """Until the other end of the control socket is closed."""
        pause: float | None = 0.0
        while True:
            ready, _, _ = select.select([self._control, self._awake], [], [], pause)
            if self._control in ready:
                order, files, _, _ = socket.recv_fds(self._control, _ORDER.size, 1)
                if len(order) < _ORDER.size:
                    break
                self._obey(order, files)
            elif self._awake in ready:
                with contextlib.suppress(BlockingIOError):
                    self._awake.recv(4096)
                pause = 0.0 if pause is None else pause  # a child may have found out what is for all
            else:
                pause = self._prepared()
            self._reap()
        for child in self._children.values():
            os.kill(child, signal.SIGKILL)

    def _prepared(self) -> float | None:
        try:
            return self._prepare()
        except Exception:  # children do it themselves then, or fail with more to say
            sys.excepthook(*sys.exc_info())
            return None
        finally:
            gc.collect()
            gc.freeze()

    def _obey(self, order: bytes, files: list[int]) -> None:
        what, number, amount = _ORDER.unpack(order)
        child = self._children.get(number)
        if what == _BEGIN:
            self._begin(number, amount, files[0])
        elif child is not None and what == _KILL:
            os.kill(child, signal.SIGKILL)
        elif child is not None and what == _LOWER:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, child, amount)

    def _begin(self, number: int, memory: int, pipe: int) -> None:
        parent = os.getpid()
        try:
            child = os.fork()
        except OSError:
            os.close(pipe)
            self._control.sendall(_NEWS.pack(number, True, 1))
            return
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for file in (self._control, self._awake, self._other):
                file.close()
            _child(pipe, self._work, memory, parent)
        os.close(pipe)
        self._children[number], self._numbers[child] = child, number
        self._control.sendall(_NEWS.pack(number, False, child))

    def _reap(self) -> None:
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            number = self._numbers.pop(child)
            del self._children[number]
            self._control.sendall(_NEWS.pack(number, True, os.waitstatus_to_exitcode(status)))


# ---- in a child ------------------------------------------------------------------------------------


def _child(pipe: int, work: Work, memory: int, parent: int) -> NoReturn:
    """A child's whole life."""
    code = 1
    try:
        _end_with(parent)
        _limit(memory)
        begun = _resident()
        for number in range(_QUESTIONS):
            seconds, size = _QUESTION.unpack(_read(pipe, _QUESTION.size))
            _limit_time(seconds)
            answer = work(_read(pipe, size))
            again = number + 1 < _QUESTIONS and _resident() - begun < _SPENT
            _write(pipe, _ANSWER.pack(again, len(answer)))
            _write(pipe, answer)
            del answer
        code = 0
    except MemoryError:
        code = _OUT_OF_MEMORY
    except (EOFError, BrokenPipeError):  # nobody wants to know any more
        pass
    except BaseException:  # it must never return into the program that it is a copy of
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def _end_with(parent: int) -> None:
    """Let the system end this process with its parent, however that ends."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(more: int) -> None:
    """Let this process have so many bytes more than it has, and leave no core when it crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # macOS does not limit it
        here = _address_space() + more
        resource.setrlimit(resource.RLIMIT_AS, (here, here))


def _limit(memory: int) -> None:
    limit_memory(memory)
    with contextlib.suppress(OSError):  # where memory runs out all the same, it is the one to go
        Path("/proc/self/oom_score_adj").write_text("500")


def _limit_time(seconds: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, most))


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux
        return 0


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _read(file: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        some = os.read(file, min(size - len(data), _CHUNK))
        if not some:
            raise EOFError
        data += some
    return bytes(data)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left[:_CHUNK]) :]
