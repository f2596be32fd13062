"""An ExecutionBroker's server as a process: it listens, says that it is ready, and ends when told to."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from wes_bridge.model.access import TlsConfig
from wes_bridge.one_cpu import keep_together
from wes_bridge.surface.asgi import AsgiApp
from wes_bridge.surface.patient import PatientProtocol
from wes_bridge.surface.safe_headers import SafeHeaders
from wes_bridge.surface.tls import TlsError, TlsServer, encrypt, keep_certificate

_PR_SET_PDEATHSIG = 1


def serve(
    app: AsgiApp,
    address: tuple[str, int],
    title: str,
    release_waiters: Callable[[], None],
    *,
    tls: TlsConfig | None = None,
    log_level: str = "warning",
    on_ready: Callable[[str], None] = lambda _url: None,
    one_cpu: bool = True,
) -> int:
    """Listen and answer until SIGTERM or SIGINT.

    Prints ``wes-bridge TITLE is ready at URL`` on standard output once it answers.

    Args:
        app: what answers.
        address: host and port; port 0 is any free one.
        title: what it is called, as in ``node jbo``.
        release_waiters: called on the loop when told to stop, so that held answers are given at once.
        tls: with which certificate it encrypts; None: it does not.
        log_level: of the server.
        on_ready: called with the URL at which it answers on this machine, before it says so.
        one_cpu: whether its threads are kept on one CPU while it is busy.

    Returns:
        The exit code: 1 when it could not start.
    """
    try:
        listener = _listen(*address)
    except OSError as error:
        where, why = f"{address[0]} port {address[1]}", error.strerror or error
        next_time = "choose another with --port (0: any free one)"
        print(f"error: cannot listen on {where}: {why}; {next_time}", file=sys.stderr)  # noqa: T201
        return 1
    config = uvicorn.Config(
        SafeHeaders(app),
        loop="auto",
        http=PatientProtocol,
        ws="none",
        lifespan="on",  # else what fails to start is taken for an application without a life, and served
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level=log_level,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,
        backlog=2048,
    )
    if tls is not None:
        try:
            encrypt(config, tls)
        except TlsError as error:
            print(f"error: tls: {error}", file=sys.stderr)  # noqa: T201
            return 1
    server = _Server(config, title, release_waiters, on_ready, one_cpu)
    server.tls = tls
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listener])
    return 0 if server.started else 1


class _Server(TlsServer):
    """uvicorn that says when it is ready, and lets go of long polls when told to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        title: str,
        release_waiters: Callable[[], None],
        on_ready: Callable[[str], None],
        one_cpu: bool,
    ) -> None:
        super().__init__(config)
        self._title = title
        self._on_ready = on_ready
        self._release_waiters = release_waiters
        self._one_cpu = one_cpu
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.tls: TlsConfig | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the world."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and sockets:
            scheme = "https" if self.config.is_ssl else "http"
            if self._one_cpu:
                self._tasks.append(asyncio.create_task(keep_together()))
            if self.tls is not None and self.config.ssl is not None:
                self._tasks.append(asyncio.create_task(keep_certificate(self.config.ssl, self.tls)))
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, shown)  # noqa: S104
            self._on_ready(f"{scheme}://{near}:{port}")
            print(f"wes-bridge {self._title} is ready at {scheme}://{shown}:{port}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and count having been told to as a good end."""
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)
        self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._release_waiters)
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def keep_descriptors() -> None:
    """Hand on to commands nothing that was handed to us: a pipe they hold open looks as if we still lived."""
    for link in Path("/proc/self/fd").iterdir():
        if int(link.name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(link.name), False)


def exit_with_parent() -> None:
    """Stop (SIGTERM) when the parent is gone: when the pipe on standard input ends, else by prctl.

    The pipe is surer: the kernel's signal comes when the *thread* ends that started this process.
    """
    kind = os.fstat(0).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        threading.Thread(target=_await_end_of_input, daemon=True).start()
        return
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _await_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
