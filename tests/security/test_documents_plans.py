"""A plan of a document that is made to stop whoever reads it is refused in words, and frees what it used."""

from __future__ import annotations

import json
import time

import pytest
import requests

from tests.security.test_documents_bombs import BOMBS
from tests.service.conftest import Service, Starter, start_service  # noqa: F401


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:  # noqa: F811
    return start_service(engine={"plan_timeout": 4, "load_memory_gib": 0.25})


@pytest.mark.parametrize("name", ["aliases", "merged", "long list", "entities", "doubled", "deep mappings"])
def test_a_bomb_is_no_plan(service: Service, name: str) -> None:
    begun = time.monotonic()
    answer = requests.post(
        f"{service.url}/ga4gh/wes/v1/runs/plan",
        data={"workflow_url": "main.cwl", "workflow_type": "CWL", "workflow_type_version": "v1.2"},
        files=[("workflow_attachment", (file, text.encode())) for file, text in BOMBS[name].items()],
        timeout=60,
    )
    assert answer.status_code == 400, answer.text
    told = json.dumps(answer.json())
    assert any(
        words in told for words in ("engine.plan_timeout", "engine.load_memory_gib", "nested", "signal")
    )
    assert time.monotonic() - begun < 30
    assert requests.get(f"{service.url}/health", timeout=10).ok
