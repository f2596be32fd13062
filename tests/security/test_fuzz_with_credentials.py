"""schemathesis against a service, a node and an aggregator that know their users.

Requests are made from the documents, good and bad, and sent with and without credentials. They are stateful:
by the links that a document has, and by the ids that were in earlier answers, which stand in two of three
later requests. No answer is a 5xx or tells of our program, and strangers are told nothing.
``FUZZ_SECONDS=600`` makes each of the three longer.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from tests.aggregator.conftest import AggregatorStarter, start_aggregator
from tests.node.conftest import Starter, start_node
from tests.service.conftest import Service
from wes_bridge.auth.api_keys import KeyFile
from wes_bridge.surface.app import load_document

__all__ = ["start_aggregator", "start_node"]
pytestmark = pytest.mark.slow
schemathesis = pytest.importorskip("schemathesis")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "1"))
SERVERS = ("service", "node", "aggregator")
TELLS = re.compile(r"Traceback \(most recent|File \"[^\"]+\", line \d+|site-packages|wes_bridge/\w+/\w+\.py")
"""What an answer must not have."""
IDS = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")
PUBLIC = ("/health", "/service-info")
"""What strangers may read."""
ENDLESS = r"/events$"
SETTINGS = hypothesis.settings(
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate],
)


@dataclass
class Target:
    """A server to ask.

    Attributes:
        url: where it is, with what all paths begin with.
        document: what it says of itself.
        key: of a user.
        ids: those that were in answers.
    """

    url: str
    document: dict[str, Any]
    key: str
    ids: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def targets(
    start_node: Starter, start_aggregator: AggregatorStarter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Target]]:
    folder = tmp_path_factory.mktemp("fuzz")
    access = {"authentication": {"keys": True}}
    # what is made up may ask for files to be read, written and run: it is kept in a folder
    node = start_node(data=["data:", f"{folder.as_uri()}/"], max_running=2, **access)
    (folder / "node.key").write_text(_key(node.state, "service"))
    brokers = [{"name": "n", "url": node.url, "credentials": {"file": str(folder / "node.key")}}]
    site = start_aggregator(brokers=brokers, **access)
    service = Service(folder / "state", {"nodes": [], "brokers": brokers, **access})
    broker = load_document("execution-broker.yaml")
    both = {**broker, "paths": broker["paths"] | load_document("aggregator.yaml")["paths"]}
    try:
        yield {
            "service": Target(
                f"{service.url}/ga4gh/wes/v1", load_document("wes.yaml"), _key(service.state, "user")
            ),
            "node": Target(node.url, broker, _key(node.state, "user")),
            "aggregator": Target(site.url, both, _key(site.state, "user")),
        }
    finally:
        service.stop()


def _key(state: Path, role: Any) -> str:
    return KeyFile(state).create("fuzz", [role], [], None)[1]


class Asking:
    """Asks one server, as a stranger and then as a user, and looks at what it answers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._chance = random.Random(1)
        self.known = {"Authorization": f"Bearer {target.key}"}
        self.statuses: Counter[int] = Counter()

    def ask(self, case: Any) -> None:
        """Send a request, in two of three cases with an id that is known."""
        for name in case.path_parameters or ():
            if name in ("uuid", "run_id") and self._target.ids and self._chance.random() < 2 / 3:
                case.path_parameters[name] = self._chance.choice(self._target.ids)
        own = {name: value for name, value in (case.headers or {}).items() if name != "Authorization"}
        answer = case.call(base_url=self._target.url, headers=own, timeout=60)
        self._look_at(answer, case)
        if not case.path.endswith(PUBLIC):
            assert answer.status_code >= 400, (case.method, case.path, answer.status_code)
        self.look_at(case.call(base_url=self._target.url, headers=own | self.known, timeout=60), case)

    def look_at(self, answer: Any, case: Any) -> None:
        """Check what a user is answered."""
        self._look_at(answer, case)
        self.statuses[answer.status_code] += 1
        if answer.status_code < 400:
            self._target.ids += [
                found for found in IDS.findall(answer.text)[:3] if found not in self._target.ids
            ]

    @staticmethod
    def _look_at(answer: Any, case: Any) -> None:
        text = answer.text
        assert answer.status_code < 500, (case.method, case.path, answer.status_code, text[:500])
        assert not TELLS.search(text), (case.method, case.path, text[:500])


def _sequences(schema: Any, asking: Asking, target: Target, count: int) -> None:
    """Requests one after another, as the document's links have it."""

    class Machine(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            headers = {**(case.headers or {}), **asking.known}
            return {"base_url": target.url, "headers": headers, "timeout": 60}

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            asking.look_at(response, case)

    Machine.run(settings=hypothesis.settings(SETTINGS, max_examples=count, stateful_step_count=6))


@pytest.mark.parametrize("name", SERVERS)
def test_nothing_fails_and_nothing_is_told(targets: dict[str, Target], name: str) -> None:
    target = targets[name]
    asking = Asking(target)
    schema = schemathesis.openapi.from_dict(target.document).exclude(path_regex=ENDLESS)
    operations = [found.ok() for found in schema.get_all_operations()]
    modes = list(schemathesis.GenerationMode)
    ends, turn = time.monotonic() + SECONDS, 0
    while turn == 0 or time.monotonic() < ends:
        turn += 1
        for operation in operations:
            made = strategies.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

            @hypothesis.seed(turn)
            @hypothesis.settings(SETTINGS, max_examples=1 if operation.body else 3)  # it takes a second
            @hypothesis.given(case=made)
            def ask(case: Any) -> None:
                asking.ask(case)

            ask()
    _sequences(schema, asking, target, turn)
    assert asking.statuses.total() >= len(operations)
    assert 401 not in asking.statuses
    assert any(status < 400 for status in asking.statuses)
