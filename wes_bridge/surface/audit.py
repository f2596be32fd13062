"""The audit log: who changed what, who was refused what, and when; one JSON object a line.

Lines are made on the loop and written by one thread, so no request waits for the disk. A value can hold
anything: JSON keeps it in its line, and what is not printable ASCII is escaped. Query, headers and bodies are
never written, since secrets may be in them. It must not know what the servers do.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from wes_bridge.auth.identity import found_principal
from wes_bridge.lasting import LastingOfEach
from wes_bridge.model.audit import AuditConfig
from wes_bridge.one_cpu import give_way

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = "audit.log"
_FAILED = LastingOfEach(logging.getLogger(__name__), "the audit log cannot be written")
_MADE = "wes_bridge.made"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = frozenset({401, 403, 404, 421, 429})
_LONGEST = 300
_PAUSE = 0.05
"""Seconds in which further lines come, to be written with the first: a thread that is woken for each of them
holds the loop up."""
_WAITING = 100_000
"""Lines that wait for the disk at most; of those beyond it only the number is told."""


class AuditLog:
    """Writes lines.

    Args:
        config: where, and how much.
        state: the server's folder.
    """

    def __init__(self, config: AuditConfig, state: Path) -> None:
        self.path = config.path or state / NAME
        self._most = config.max_bytes
        self._files = config.files
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._left_out = 0
        self._closing = threading.Event()

    def write(self, line: str) -> None:
        """Have a line written, soon."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
                    self._thread.start()
        if self._lines.qsize() >= _WAITING:
            self._left_out += 1
            return
        self._lines.put(line)

    def close(self) -> None:
        """Write what there is, and end."""
        if self._thread is not None:
            self._closing.set()
            self._lines.put(None)
            self._thread.join(timeout=10)
            self._thread = None
            self._closing.clear()

    def _work(self) -> None:
        give_way()
        while True:
            lines, ends = self._gathered()
            if lines:
                try:
                    self._store(lines)
                except OSError as error:
                    _FAILED.seen(error.strerror or "", error, logging.ERROR)
                    time.sleep(0.5)
            if ends:
                return

    def _gathered(self) -> tuple[list[str], bool]:
        """All lines that wait, at least one; and whether there will be no more."""
        line = self._lines.get()
        if line is not None:
            self._closing.wait(_PAUSE)
        found: list[str] = []
        while line is not None:
            found.append(line)
            if self._lines.empty():
                break
            line = self._lines.get()
        if self._left_out:
            count, self._left_out = self._left_out, 0
            found.append(json.dumps({"time": _now(), "left_out": count}))
        return found, line is None

    def _store(self, lines: Iterable[str]) -> None:
        content = "".join(f"{line}\n" for line in lines).encode()
        self._rotate(len(content))
        file = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            while content:
                content = content[os.write(file, content) :]
        finally:
            os.close(file)

    def _rotate(self, more: int) -> None:
        """``audit.log`` becomes ``audit.log.1``, and so on, before it gets too long."""
        try:
            size = self.path.lstat().st_size
        except FileNotFoundError:
            return
        if not size or size + more <= self._most:
            return
        for number in range(self._files - 1, 0, -1):
            old = self._numbered(number)
            if old.exists():
                old.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class Audited:
    """An ASGI application whose changes and refusals are written down; it is in front of the guard.

    Args:
        app: what answers.
        log: where.
        server: what it is called in the log: ``wes``, ``node n1``.
    """

    def __init__(self, app: ASGIApp, log: AuditLog, server: str) -> None:
        self._app = app
        self._log = log
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            if scope["type"] == "lifespan":
                self._log.close()
            return
        status = 0
        location = b""
        made: dict[str, str] = {}
        scope[_MADE] = made

        async def seen(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 303:
                    location = next((v for k, v in message["headers"] if k.lower() == b"location"), b"")
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            if status in _REFUSED or scope["method"] not in _SAFE:
                self._log.write(self._line(scope, status, made.get("id") or _last_part(location)))

    def _line(self, scope: Scope, status: int, made: str) -> str:
        principal = found_principal(scope)
        client = scope.get("client") or ("",)
        entry: dict[str, object] = {
            "time": _now(),
            "server": self._server,
            "who": principal.name[:_LONGEST] if principal else None,
            "address": client[0],
            "method": scope["method"][:20],
            "path": _shown(scope["path"]),
            "status": status,
        }
        if principal is not None and principal.on_behalf_of:
            entry["for"] = principal.on_behalf_of[:_LONGEST]
        if made:
            entry["made"] = _shown(made)
        return json.dumps(entry)


def note_made(scope: Scope, name: str) -> None:
    """Say what a request has made, where its answer's ``Location`` does not."""
    made = scope.get(_MADE)
    if isinstance(made, dict):
        made["id"] = name


def _last_part(location: bytes) -> str:
    return location.decode("latin-1").rpartition("/")[2]


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def audited(app: ASGIApp, config: AuditConfig, state: Path, server: str) -> ASGIApp:
    """``app``, with an audit log unless the configuration has none."""
    return Audited(app, AuditLog(config, state), server) if config.on else app
