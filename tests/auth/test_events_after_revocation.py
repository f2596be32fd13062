"""A stream of events ends when its reader is let in no more; what others read goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from tests.auth.conftest import API
from tests.service.conftest import Starter
from tests.waiting import until
from wes_bridge.auth.api_keys import KeyFile

pytestmark = pytest.mark.slow
TOOL = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: [sleep, '100'], inputs: [], outputs: []}"


class Reader:
    """Reads events in a thread."""

    def __init__(self, url: str, key: str) -> None:
        self.heard = b""
        self.is_over = False
        self._work = threading.Thread(target=self._read, args=(url, key), daemon=True)
        self._work.start()

    def _read(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            for chunk in answer.iter_raw():
                self.heard += chunk
        self.is_over = True


def test_a_revoked_key_hears_no_more(start_service: Starter, tmp_path: Path) -> None:
    service = start_service(authentication={"keys": True, "admins": ["key:boss"]})
    keys = KeyFile(service.state)
    owner, admin = (keys.create(name, ["user"], [], None)[1] for name in ("nightly", "boss"))
    until(
        lambda: httpx.get(f"{service.url}{API}/runs", headers={"Authorization": f"Bearer {admin}"}).is_success
    )
    run = httpx.post(
        f"{service.url}{API}/runs",
        headers={"Authorization": f"Bearer {owner}"},
        data={"workflow_url": "t.cwl", "workflow_type": "CWL", "workflow_type_version": "v1.2"},
        files={"workflow_attachment": ("t.cwl", TOOL)},
    )
    assert run.is_success, run.text
    url = f"{service.url}{API}/runs/{run.json()['run_id']}"
    readers = [Reader(f"{url}/events", key) for key in (owner, admin)]
    until(lambda: all(b"event: run" in reader.heard for reader in readers))
    keys.revoke("nightly")
    until(lambda: readers[0].is_over, 30)
    assert not readers[1].is_over
    headers = {"Authorization": f"Bearer {admin}"}
    assert httpx.get(f"{url}/events", headers={"Authorization": f"Bearer {owner}"}).status_code == 401
    httpx.post(f"{url}/cancel", headers=headers)
    until(lambda: readers[1].is_over, 30)
    assert b"id: end" in readers[1].heard
