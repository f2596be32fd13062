"""A fake ExecutionBroker on a real socket that behaves, and misbehaves, as it is told.

It is a fake because no real broker can be made to lie on demand;
its shapes are those of the published schema.
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wes_bridge.model.execution_broker import DOCKER_CONTAINER, OFFERSET, SCHEDULED_SESSION


class FakeBroker:
    """Attributes set by tests say how it answers; ``requests`` and ``updates`` record what it was asked.

    Attributes:
        phases: what successive polls of a session say; the last one repeats.
        exit_code: told with the final phase.
        started: whether the command is said to have been begun.
        delay: seconds before each answer to a request for offers.
        raw: when set, the answer to a request for offers: (status, body).
        raw_session: when set, the answer to each GET.
        refuse: message of a NO.
        refuse_containers: messages of a NO to requests for containers only.
        turn_away: when set, every answer is this status (401, 403).
        turn_away_after: answers that are given before.
        accept_as: phase that accepting leads to.
        gone: acceptances that come too late: the offer has become EXPIRED.
        lose_answers: acceptances that are heard but not answered: the connection breaks.
        lost_as: they are answered with this status instead.
        forget: polls of sessions are answered 404.
        start: the offers' start, ISO 8601.
        costs, metrics: of the offers: (least, most) by type; a figure may be any JSON number.
        more: further fields of offers.
        misbehave: when set, answers requests for offers in its own way, on the bare socket.
        session_url: what offers say their session's URL is.
        etag: given with every answer about a session, which is then never held.
        polls: how often the session was asked for.
        headers: of the requests for offers, as they came.
        waits: what updates said of waiting: their header ``Prefer``.
    """

    def __init__(self) -> None:
        self.phases = ["RUNNING", "COMPLETED"]
        self.exit_code: int | None = 0
        self.started = False
        self.delay = 0.0
        self.raw: tuple[int, bytes] | None = None
        self.raw_session: tuple[int, bytes] | None = None
        self.refuse: str | None = None
        self.refuse_containers: list[dict[str, Any]] = []
        self.turn_away: int | None = None
        self.turn_away_after = 0
        self.accept_as = "ACCEPTED"
        self.gone = 0
        self.lose_answers = 0
        self.lost_as: int | None = None
        self.forget = False
        self.messages: list[dict[str, Any]] = []
        self.start: str | None = None
        self.costs: dict[str, tuple[float | None, float | None]] = {}
        self.metrics: dict[str, tuple[float | None, float | None]] = {}
        self.more: dict[str, Any] = {}
        self.misbehave: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.session_url: str | None = None
        self.etag: str | None = None
        self.polls = 0
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()
        self.requests: list[dict[str, Any]] = []
        self.updates: list[str] = []
        self.waits: list[str | None] = []
        self._polls = 0
        handler = type("BoundHandler", (_Handler,), {"broker": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening, and end what misbehaves."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def turns_away(self) -> bool:
        """Whether this answer says that it does not know us."""
        if self.turn_away is None:
            return False
        self.turn_away_after -= 1
        return self.turn_away_after < 0

    def accepted(self) -> str:
        """What accepting an offer makes of it."""
        if self.gone:
            self.gone -= 1
            return "EXPIRED"
        return self.accept_as

    def offers(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        if self.refuse_containers and request["executable"]["kind"] == DOCKER_CONTAINER:
            return {"kind": OFFERSET, "meta": {"messages": self.refuse_containers}, "result": "NO"}
        if self.refuse is not None:
            messages = [{"kind": "urn:no", "level": "ERROR", "message": self.refuse}] if self.refuse else []
            return {"kind": OFFERSET, "meta": {"messages": messages}, "result": "NO"}
        return {"kind": OFFERSET, "meta": {}, "result": "YES", "offers": [self.session("OFFERED")]}

    def session(self, phase: str) -> dict[str, Any]:
        """A session in ``phase``."""
        session: dict[str, Any] = {
            "kind": SCHEDULED_SESSION,
            "meta": {"uuid": str(uuid.uuid4()), "url": f"{self.url}/sessions/1", "messages": self.messages},
            "phase": phase,
            "executable": {"kind": "urn:wes-bridge:kind:executable:process"},
        }
        if self.start:
            session["schedule"] = {"available": {"start": f"{self.start}/PT0S", "duration": "PT1H"}}
        if phase in ("COMPLETED", "FAILED") and self.exit_code is not None:
            session["executable"]["exitCode"] = self.exit_code
        if self.started:
            session["executable"]["started"] = "2026-01-01T00:00:00Z"
        for name in ("costs", "metrics"):
            figures = getattr(self, name)
            session[name] = [{"kind": "x", "type": t, "min": a, "max": b} for t, (a, b) in figures.items()]
        if self.session_url is not None:
            session["meta"]["url"] = self.session_url
        return session | self.more

    def next_phase(self) -> str:
        """What the next poll says."""
        phase = self.phases[min(self._polls, len(self.phases) - 1)]
        self._polls += 1
        return phase


class _Handler(BaseHTTPRequestHandler):
    broker: FakeBroker
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.broker.turns_away():
            self._answer(self.broker.turn_away or 401, b'{"error": "Unauthorized"}')
            return
        if self.path == "/requests":
            self.broker.requests.append(body)
            self.broker.headers.append({name.lower(): text for name, text in self.headers.items()})
            self.broker.closing.wait(self.broker.delay)
            if self.broker.misbehave:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.broker.misbehave(self)
                return
            if self.broker.raw:
                self._answer(*self.broker.raw)
                return
            self._answer(303, json.dumps(self.broker.offers(body)).encode())
            return
        self.broker.updates.append(body["value"])
        self.broker.waits.append(self.headers.get("Prefer"))
        if body["value"] == "ACCEPTED" and self.broker.lose_answers > 0:
            self.broker.lose_answers -= 1
            if self.broker.lost_as:
                self._answer(self.broker.lost_as, b"{}")
            else:
                self.close_connection = True
            return
        phase = self.broker.accepted() if body["value"] == "ACCEPTED" else body["value"]
        self._answer(200, json.dumps(self.broker.session(phase)).encode())

    def do_GET(self) -> None:
        if self.broker.closing.is_set():  # a kept connection outlives the server
            self.close_connection = True
            return
        if self.broker.turns_away():
            self._answer(self.broker.turn_away or 401, b'{"error": "Unauthorized"}')
            return
        if self.broker.raw_session:
            self._answer(*self.broker.raw_session)
            return
        if self.broker.forget:
            self._answer(404, b"")
            return
        self.broker.polls += 1
        if self.broker.etag and self.headers.get("If-None-Match") == self.broker.etag:
            self.broker.next_phase()
            if self.broker.polls < 5:
                self._answer(304, b"")
                return
        self._answer(200, json.dumps(self.broker.session(self.broker.next_phase())).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.broker.etag:
            self.send_header("ETag", self.broker.etag)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return
