"""A node as a process: ``python -m wes_bridge.node.main --config-json '{...}'``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from wes_bridge.auth.private import guard, private_token
from wes_bridge.config import NodeConfig
from wes_bridge.node.server import NodeApp, create_app

_PR_SET_PDEATHSIG = 1
GC_THRESHOLDS = (10_000, 20, 20)
"""Looks for cycles less often than Python's default, which takes a twentieth of a busy node's time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop.

    Prints ``wes-bridge node NAME is ready at URL`` on standard output once it answers.

    Args:
        arguments: of the command line.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m wes_bridge.node.main", description=__doc__)
    parser.add_argument("--config-json", default="{}", help="NodeConfig as JSON, or @FILE")
    parser.add_argument("--state-dir", type=Path, help="instead of the configuration's state_dir")
    parser.add_argument("--end-sessions-on-exit", action="store_true", help="cancel what runs at the end")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the parent process is gone"
    )
    parser.add_argument("--log-level", default="warning")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(0.001)  # file and database threads hand over to the loop sooner
    text = options.config_json
    config = NodeConfig.model_validate_json(Path(text[1:]).read_text() if text.startswith("@") else text)
    if config.shows_all_files:
        parser.error(config.shows_all_files)
    state = options.state_dir or config.state_dir
    if state is None:
        parser.error("where should sessions be kept? give --state-dir or state_dir in the configuration")
    _keep_descriptors()
    if options.exit_with_parent:
        _exit_with_parent()
    return serve(create_app(config, state, options.end_sessions_on_exit), config, options.log_level)


def serve(app: NodeApp, config: NodeConfig, log_level: str = "warning") -> int:
    """Listen and answer until SIGTERM or SIGINT.

    Args:
        app: the node.
        config: where to listen.
        log_level: of the server.

    Returns:
        The exit code: 1 when it could not start.
    """
    try:
        listener = _listen(config.host, config.port)
    except OSError as error:
        print(f"cannot listen on {config.host}:{config.port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    server = _Server(
        uvicorn.Config(
            guard(app, private_token()),
            loop="auto",
            http="auto",
            ws="none",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            log_level=log_level,
            timeout_graceful_shutdown=10,
            timeout_keep_alive=75,
            backlog=2048,
        ),
        app,
        config.name,
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run([listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, and lets go of long polls when told to stop."""

    def __init__(self, config: uvicorn.Config, app: NodeApp, name: str) -> None:
        super().__init__(config)
        self._app = app
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the world."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"wes-bridge node {self._name} is ready at http://{shown}:{port}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and count having been told to as a good end."""
        await super().shutdown(sockets)
        self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._app.node.release_waiters)
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


def _keep_descriptors() -> None:
    """Hand on to commands nothing that was handed to us: a pipe they hold open looks as if we still lived."""
    for link in Path("/proc/self/fd").iterdir():
        if int(link.name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(link.name), False)


def _exit_with_parent() -> None:
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


if __name__ == "__main__":
    sys.exit(main())
