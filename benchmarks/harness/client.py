"""A WES client as quick as it can be made, the same for all servers: one kept connection, no library."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from harness.documents import VERSION, Work

POLL_SECONDS = 0.005
ENDED = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"})


class CallFailed(Exception):
    """A server answered with something else than success, or a run ended otherwise than hoped."""


class Client:
    """Talks to one WES.

    Args:
        url: of the API, with its path.
        fields: what to submit with every run beside the standard's fields.
    """

    def __init__(self, url: str, fields: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._path = parts.path.rstrip("/")
        self._fields = fields or {}
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def __enter__(self) -> Client:
        """Nothing to do: the connection is made when it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Any:
        """One request; the answer's JSON.

        Raises:
            CallFailed: the answer is an error.
        """
        self._connection.request(method, self._path + path, body, {"Content-Type": kind} if kind else {})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise CallFailed(f"{method} {path}: {answer.status} {text[:300].decode(errors='replace')}")
        return json.loads(text)

    def submit(self, work: Work) -> str:
        """Submit a run with its workflow attached; its id."""
        body, kind = multipart(
            {
                "workflow_params": json.dumps(work.params),
                "workflow_type": "CWL",
                "workflow_type_version": VERSION,
                "workflow_url": work.workflow.name,
                **self._fields,
            },
            {work.workflow.name: work.workflow.read_bytes()},
        )
        return str(self.call("POST", "/runs", body, kind)["run_id"])

    def state(self, run_id: str) -> str:
        """The state of a run."""
        return str(self.call("GET", f"/runs/{run_id}/status")["state"])

    def cancel(self, run_id: str) -> None:
        """Ask for a run's end."""
        self.call("POST", f"/runs/{run_id}/cancel")

    def run(self, work: Work, timeout: float = 120.0) -> float:
        """Submit a run and ask for its state until it is COMPLETE; the seconds all that took.

        Raises:
            CallFailed: it ended otherwise, or not in time.
        """
        start = time.perf_counter()
        run_id = self.submit(work)
        while (state := self.state(run_id)) not in ENDED:
            if time.perf_counter() - start > timeout:
                raise CallFailed(f"run {run_id} is still {state} after {timeout:.0f} s")
            time.sleep(POLL_SECONDS)
        if state != "COMPLETE":
            raise CallFailed(f"run {run_id} is {state}")
        return time.perf_counter() - start


def multipart(fields: dict[str, str], files: dict[str, bytes]) -> tuple[bytes, str]:
    """A multipart/form-data body with ``files`` as workflow attachments, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="workflow_attachment"; filename="{name}"', data) for name, data in files.items()]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
