"""Servers of ours as processes, and requests as an attacker's program would send them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.aggregator.conftest import start_aggregator
from tests.node.conftest import start_node
from tests.service.conftest import Service, Starter, start_service

__all__ = ["start_aggregator", "start_node", "start_service"]

STRANGER = 12_345
"""A Unix user that is not ours."""
API = "/ga4gh/wes/v1"


def raw(url: str, *lines: str, method: str = "GET", path: str = "/", body: str = "") -> tuple[int, str]:
    """Send exactly these header lines; returns status and the whole answer."""
    parts = urlsplit(url)
    head = [f"{method} {path} HTTP/1.1", *lines, "Connection: close"]
    if body:
        head.append(f"Content-Length: {len(body)}")
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return int(answer.split()[1]), answer.decode(errors="replace")


_ASK = """
import json, sys, urllib.request, urllib.error
found = []
for method, url, headers, body in json.loads(sys.argv[1]):
    data = body.encode() if body is not None else None
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            found.append([answer.status, answer.read().decode(errors="replace")])
    except urllib.error.HTTPError as error:
        found.append([error.code, error.read().decode(errors="replace")])
print(json.dumps(found))
"""
Asked = tuple[str, str, dict[str, str], str | None]


def ask_as(prefix: Sequence[str], *requests: Asked) -> list[tuple[int, str]]:
    """Requests by a program of their own.

    Args:
        prefix: words before the command.
        requests: method, URL, headers and body of each.
    """
    command = [*prefix, "/usr/bin/python3", "-I", "-c", _ASK, json.dumps(requests)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    return [(status, text) for status, text in json.loads(done.stdout)]


@pytest.fixture(scope="session")
def as_stranger() -> list[str]:
    """Words before a command that make it another user's."""
    if os.getuid() != 0:
        pytest.skip("only root can start a program of another user")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("the other user needs a Python that everybody can read: /usr/bin/python3")
    return ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Iterator[Service]:
    """A service with a node and an aggregator, as a person on a laptop starts it."""
    made = start_service(aggregator={"name": "all"}, fetch={"files": ["/"]})
    yield made
    made.stop()


def urls_of(service: Service) -> dict[str, str]:
    """Where the service, its node and its aggregator answer."""
    ports = json.loads((service.state / "node-ports.json").read_text())
    ports |= json.loads((service.state / "aggregator-port.json").read_text())
    found = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    return {"service": service.url, **found}


assert sys.platform == "linux"
