"""Name servers that do not answer: whoever needs them waits, nobody else does."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import Starter
from tests.service.test_taking_up import await_true

pytestmark = pytest.mark.slow
MANY = 6
"""More than a process has threads for such things by default."""
_MOUNT = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
_SLOW = b"\x04slow\x04test"
_UNKNOWN = 0x8183


class NameServer:
    """Knows no names; of those that end in ``slow.test`` it does not even say that until the gate is open.

    Attributes:
        address: where it listens, at port 53.
        asked: names that are slow.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: set[str] = set()
        self.address = f"127.77.{random.randrange(1, 250)}.{random.randrange(1, 250)}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((self.address, 53))
        except PermissionError:
            pytest.skip("a name server needs root here")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                query, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self._answer, args=(query, sender), daemon=True).start()

    def _answer(self, query: bytes, sender: tuple[str, int]) -> None:
        name, _, _ = query[12:].partition(b"\0")
        if name.endswith(_SLOW):
            self.asked.add(name[1 : 1 + name[0]].decode())
            self.gate.wait(300)
        end = 12 + len(name) + 5
        head = query[:2] + struct.pack(">5H", _UNKNOWN, 1, 0, 0, 0)
        with contextlib.suppress(OSError):  # the test is over
            self._socket.sendto(head + query[12:end], sender)

    def close(self) -> None:
        self.gate.set()
        self._socket.close()


@pytest.fixture
def names() -> Iterator[NameServer]:
    made = NameServer()
    yield made
    made.close()


def test_names_that_are_not_found_hold_up_nobody_else(
    start_service: Starter, names: NameServer, tmp_path: Path
) -> None:
    settings = tmp_path / "resolv.conf"
    settings.write_text(f"nameserver {names.address}\noptions timeout:30 attempts:5\n")
    prefix = ["unshare", "--mount", "sh", "-c", _MOUNT, str(settings)]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no name servers of one's own here (root and unshare are needed)")
    tool = tmp_path / "echo.cwl"
    tool.write_text(
        json.dumps(
            {
                "cwlVersion": "v1.2",
                "class": "CommandLineTool",
                "baseCommand": "echo",
                "inputs": {},
                "outputs": {"said": "stdout"},
            }
        )
    )
    service = start_service(
        prefix=prefix,
        nodes=[{"name": "here", "platforms": ["process"], "sandbox": "none"}],
        brokers=[{"name": f"b{n}", "url": f"http://b{n}.slow.test:8081"} for n in range(MANY)],
        engine={"offer_deadline": 10.0},
        fetch={"private_hosts": ["any"]},
    )
    submit = service.client.submit
    # of brokers, and of receivers of webhooks
    told = [submit(tool, {}, engine_parameters={"webhook": f"http://h{n}.slow.test/"}) for n in range(MANY)]
    assert [service.client.wait(run_id, timeout=120) for run_id in told] == ["COMPLETE"] * MANY
    await_true(lambda: {f"b{n}" for n in range(MANY)} | {f"h{n}" for n in range(MANY)} <= names.asked)
    # of workflows
    remote = [submit(f"http://w{n}.slow.test/echo.cwl", {}) for n in range(MANY)]
    await_true(lambda: {f"w{n}" for n in range(MANY)} <= names.asked)
    run = service.run(tool, {})
    assert run["state"] == "COMPLETE"
    assert run["task_logs_url"]
    assert {service.client.status(run_id) for run_id in remote} == {"INITIALIZING"}
    names.gate.set()
    assert [service.client.wait(run_id, timeout=120) for run_id in remote] == ["EXECUTOR_ERROR"] * MANY
    (problem, *_) = service.client.run(remote[0])["run_log"]["system_logs"]
    assert "w0.slow.test" in problem
    assert "not known" in problem
