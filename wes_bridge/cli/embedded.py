"""A private service for one workflow: started in a temporary folder, gone afterwards.

Nothing beyond the standard library is imported, so that the command that uses it starts at once; the service
is its own process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from wes_bridge.auth.private import VARIABLE
from wes_bridge.private_files import private_file, private_folder

READY = "wes-bridge is ready at "
STOP_TIMEOUT = 15.0
"""Seconds the service has to end before it is killed."""
_SETTINGS = {
    "WES_BRIDGE_FETCH__FILES": "/",
    "WES_BRIDGE_FETCH__ONLY_NAMED": "true",
    "WES_BRIDGE_FETCH__PRIVATE_HOSTS": "any",
}
"""It serves only the user who started it, who can read these files anyway; what the job or the document does
not name is kept from the workflow all the same, which may be a stranger's."""
_LOG_LINES = 15
_NODE_PREFIX = "WES_BRIDGE_NODE_"


class EmbeddedError(Exception):
    """The private service could not be started; the text holds its last words."""


def overlooked() -> list[str]:
    """What to tell of environment variables that look like settings and are none of a private service."""
    return [
        f"note: {name} is a setting of 'wes-bridge node' and changes nothing here (the private service's"
        " nodes are set by --show DIR, WES_BRIDGE_NODES or the file that WES_BRIDGE_CONFIG names)"
        for name in sorted(os.environ)
        if name.startswith(_NODE_PREFIX) and not os.environ[name].startswith(("tcp://", "udp://"))
    ]


def shown(folders: Sequence[str]) -> list[str]:
    """Folders and programs that steps are to see, as absolute paths.

    Raises:
        EmbeddedError: one is not there.
    """
    paths = [os.path.abspath(os.path.expanduser(folder)) for folder in folders]  # noqa: PTH100, PTH111
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110
            raise EmbeddedError(f"--show {path}: there is no such file or folder")
    return paths


class EmbeddedService:
    """A service of one's own on a free port of this machine.

    Starting takes a while: :meth:`start` returns at once, :meth:`url` waits.

    Args:
        state: folder to keep its state in; ``None``: a temporary one that is removed.
        log_level: of what it writes to ``serve.log`` in that folder.
        shows: what steps see of this machine besides the system's programs.

    Attributes:
        token: what it wants to see (as bearer token) before it answers: it reads its user's files, and other
            users of this machine can reach its port.
    """

    def __init__(
        self, state: Path | None = None, log_level: str = "warning", shows: Sequence[str] = ()
    ) -> None:
        self._shows = shown(shows)
        self._keep = state is not None
        self._state = state
        self._log_level = log_level
        self.token = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[str] | None = None

    def __enter__(self) -> EmbeddedService:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Begin to start it."""
        if self._state is None:
            self._state = Path(tempfile.mkdtemp(prefix="wes-bridge-"))
        private_folder(self._state)
        private_file(self._state / "serve.log")
        self._log = (self._state / "serve.log").open("w+", encoding="utf-8", errors="replace")
        arguments = [
            sys.executable,
            "-m",
            "wes_bridge.cli.main",
            "serve",
            "--port",
            "0",
            "--host",
            "127.0.0.1",
        ]
        arguments += ["--state", os.fspath(self._state), "--log-level", self._log_level]
        arguments += ["--quiet", "--exit-with-parent"]
        for path in self._shows:
            arguments += ["--show", path]
        if not self._keep:
            arguments.append("--throw-away")
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**_SETTINGS, **os.environ, VARIABLE: self.token},
            start_new_session=True,  # Ctrl-C is for us: the run is cancelled first
        )

    def url(self) -> str:
        """Its URL, once it is ready.

        Raises:
            EmbeddedError: it ended instead.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
        self._process.wait()
        raise EmbeddedError(f"the private service could not be started:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines it logged."""
        if self._log is None:
            return ""
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-_LOG_LINES:])

    def stop(self) -> None:
        """End it and remove its folder."""
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._log is not None:
            self._log.close()
        if not self._keep and self._state is not None:
            shutil.rmtree(self._state, ignore_errors=True)
