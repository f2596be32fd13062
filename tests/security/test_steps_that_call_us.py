"""A step asks the node that runs it for things: it runs as the same user, and is a stranger."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.node.conftest import NodeProcess, Request, need_bwrap, process, start_node
from tests.node.conftest import Starter as NodeStarter

__all__ = ["need_bwrap", "start_node"]

ASK = r"""
ask() {{
    exec 3<>/dev/tcp/127.0.0.1/{port} || {{ echo refused; return 0; }}
    printf '%s\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' "$1 HTTP/1.1" >&3
    head -n 1 <&3
}}
ask 'GET /bookings'; ask 'GET /status'; ask 'POST /admin/drain'; ask 'POST /direct'; ask 'GET /'
"""
"""bash speaks TCP by itself."""


@pytest.fixture
def node(start_node: NodeStarter) -> Iterator[NodeProcess]:
    yield start_node(sandbox="bwrap")


def test_a_step_with_the_network_gets_nothing_from_its_node(node: NodeProcess, need_bwrap: None) -> None:
    port = int(node.url.rpartition(":")[2])
    asking = process("bash", "-c", ASK.format(port=port), network={"access": True})
    session = node.run(Request(asking))
    answers = node.stream(session, "stdout").splitlines()
    assert len(answers) == 5, (answers, node.stream(session, "stderr"))
    for answer in answers:
        assert "401" in answer or answer == "refused", answers
    status = httpx.get(f"{node.url}/status").json()  # its own user still gets in
    assert status["state"] == "open" and status["sessions"]["accepted"] == 0
