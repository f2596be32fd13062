"""Child processes of ``serve``: started, told apart in the log, started again when they crash.

A child gets a pipe as standard input that nobody writes to: it closes when this process is gone, however it
went, and the child then ends itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from wes_bridge.cli.early import Early
from wes_bridge.lasting import Lasting
from wes_bridge.start import command

_logger = logging.getLogger("wes_bridge.serve")

FIRST_DELAY, LAST_DELAY = 0.2, 30.0
"""Seconds before a crashed child is started again: the first time, and at most."""
LAST_DELAY_READY = 2.0
"""The same at most, for one that had become ready: it can be started, and work waits for it."""
STEADY = 60.0
"""Seconds a child must have lived for its earlier crashes to be forgotten."""
LAST_WORDS = 0.2
"""Seconds that what an ended child has said is still waited for."""
GRACE = 5.0
"""Seconds a child has to end after SIGTERM."""


class ChildError(Exception):
    """A child cannot be started."""


class _Pipe(Protocol):
    def close(self) -> None: ...


class _Process(Protocol):
    """What is used of ``asyncio.subprocess.Process``."""

    @property
    def stdin(self) -> _Pipe | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def send_signal(self, signal: int) -> None: ...
    def kill(self) -> None: ...


class Child:
    """One child process.

    Args:
        name: for the log.
        module: what runs in it.
        arguments: of the module.
        ready: how the line on its standard output begins that says it is ready.
        early: has begun already, and waits for its arguments.
    """

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], ready: str, early: Early | None = None
    ) -> None:
        self.name = name
        self._module = module
        self._arguments = arguments
        self._ready_line = ready
        self._early = early
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends = Lasting(_logger, f"{name} ended")
        self._stopping = False
        self._was_ready = False
        self._process: _Process | None = None
        self._task = asyncio.create_task(self._keep(), name=f"child {name}")

    async def ready(self) -> None:
        """Return when it is ready for the first time.

        Raises:
            ChildError: it ended before it ever was.
        """
        await asyncio.shield(self._ready)

    async def stop(self) -> None:
        """End it: politely, then by force; return when it is gone."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            self._task.cancel()
        else:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(GRACE):
                    await process.wait()
            except TimeoutError:
                _logger.warning("%s does not end; killed", self.name)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if not self._ready.done():
            self._ready.cancel()

    async def _keep(self) -> None:
        try:
            await self._keep_alive()
        except Exception as error:
            _logger.exception("%s: cannot be looked after", self.name)
            if not self._ready.done():
                self._ready.set_exception(ChildError(f"{self.name} cannot be started: {error}"))

    async def _keep_alive(self) -> None:
        delay = FIRST_DELAY
        while not self._stopping:
            started = time.monotonic()
            code = await self._live()
            if self._stopping:
                return
            if not self._ready.done():
                self._ready.set_exception(ChildError(f"{self.name} cannot be started (exit code {code})"))
                return
            if time.monotonic() - started > STEADY:
                delay = FIRST_DELAY
            if self._was_ready:
                delay = min(delay, LAST_DELAY_READY)
            self._ends.seen(f"exit code {code}; it is started again in {delay:.1f} s", logging.ERROR)
            await asyncio.sleep(delay)
            delay = min(LAST_DELAY, delay * 2)

    async def _live(self) -> int:
        """Start it and see it through to its end; returns its exit code."""
        self._was_ready = False
        process = self._process = await self._begin()
        if self._stopping:  # told to stop while it was being made
            process.kill()
        assert process.stdout is not None
        listening = asyncio.create_task(self._listen(process.stdout))
        try:
            return await process.wait()
        finally:  # others may hold its output open for longer than it lives
            await asyncio.wait({listening}, timeout=LAST_WORDS)
            listening.cancel()

    async def _begin(self) -> _Process:
        early, self._early = self._early, None
        if early is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended: that is found out by waiting for it
                early.tell(self._arguments)
            return await _Adopted.of(early)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *command(self._module, *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we tell the children
        )

    async def _listen(self, out: asyncio.StreamReader) -> None:
        async for line in out:
            text = line.decode(errors="replace").rstrip()
            if text.startswith(self._ready_line):
                _logger.debug("%s is ready", self.name)
                self._was_ready = True
                if not self._ready.done():
                    self._ready.set_result(None)
            elif text:
                _logger.info("%s: %s", self.name, text)


class _Adopted:
    """A process that was started before there was a loop to look after it."""

    def __init__(self, early: Early, stdout: asyncio.StreamReader) -> None:
        self._process = early.process
        self.stdin = early.process.stdin
        self.stdout = stdout

    @classmethod
    async def of(cls, early: Early) -> _Adopted:
        """Look after it."""
        stdout = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), early.process.stdout
        )
        return cls(early, stdout)

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    async def wait(self) -> int:
        return await asyncio.to_thread(self._process.wait)

    def send_signal(self, signal: int) -> None:
        self._process.send_signal(signal)

    def kill(self) -> None:
        self._process.kill()
