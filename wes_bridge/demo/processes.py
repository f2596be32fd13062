"""Processes of the demonstration: started, awaited, ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

START_TIMEOUT = 120.0
"""Seconds a process has to say that it is ready; a loaded machine takes long."""
STOP_TIMEOUT = 15.0
_LOG_LINES = 15


class ProcessError(Exception):
    """A process could not be started; the text holds its last words."""


class Process:
    """One ``wes-bridge`` command in the background.

    It is given a pipe as standard input that nobody writes to, so that it ends when we do, however we do.

    Args:
        name: for messages.
        arguments: of ``wes-bridge``.
        ready: how the line begins with which it tells its URL.
        log: file for what it has to say.
        environment: its whole environment.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], ready: str, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._ready = ready
        self._log = log
        self._url = ""
        self._told = threading.Event()
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wes_bridge.cli.main", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for us; we end it
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def url(self, timeout: float = START_TIMEOUT) -> str:
        """Its URL, once it is ready.

        Raises:
            ProcessError: it ended instead, or takes too long.
        """
        in_time = self._told.wait(timeout)
        if self._url:
            return self._url
        what = "ended" if in_time else f"is not ready after {timeout:g} s"
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise ProcessError("\n".join([f"{self.name} {what}; its last words:", *lines]))
        raise ProcessError(f"{self.name} {what}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(self._ready) and not self._url:
                self._url = line.removeprefix(self._ready).strip()
                self._told.set()
        self._told.set()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def cut_off(self) -> None:
        """End it and all that runs below it at once, as when the power fails."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            process.suspend()  # else it could start more while we count
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self._process.wait(STOP_TIMEOUT)
        self._close()

    def tell_to_end(self) -> None:
        """Ask it to end, without waiting."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def stop(self) -> None:
        """End it, politely and then by force, and wait for that."""
        self.tell_to_end()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.cut_off()
        self._close()

    def _close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._reader.join(1.0)
        if not self._reader.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()


def clean_environment() -> dict[str, str]:
    """Ours, without settings for other services: the demonstration says all that it wants."""
    return {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
