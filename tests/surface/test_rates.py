"""How often, and how much: by user, by group, by address; and nothing of it where nothing is configured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Service
from wes_bridge.auth.buckets import Buckets
from wes_bridge.auth.identity import identify
from wes_bridge.auth.principal import Principal
from wes_bridge.auth.rates import Rates
from wes_bridge.model.limits import LimitsConfig
from wes_bridge.surface.strangers import Strangers, network

API = "/ga4gh/wes/v1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_empties_and_fills_up() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    assert [buckets.take("a", 2, 4) for _ in range(4)] == [0, 0, 0, 0]
    assert buckets.take("a", 2, 4) == pytest.approx(0.5)
    assert buckets.take("b", 2, 4) == 0
    clock.now += 0.5
    assert buckets.take("a", 2, 4) == 0
    assert buckets.take("a", 2, 4) > 0
    clock.now += 1e6
    assert [buckets.take("a", 2, 4) > 0 for _ in range(5)] == [False] * 4 + [True]


def test_names_without_end_cost_nothing() -> None:
    buckets = Buckets(most=100)
    for number in range(100_000):
        buckets.take(f"name {number}", 1, 1)
    assert len(buckets) == 100


def scope_of(name: str, *groups: str, service: bool = False) -> dict[str, object]:
    scope: dict[str, object] = {"type": "http"}
    roles = frozenset({"service" if service else "user"})
    identify(scope, Principal(name=name, groups=frozenset(groups), roles=roles))
    return scope


def test_a_users_own_limit_comes_before_groups_and_default() -> None:
    config = LimitsConfig.model_validate(
        {
            "default": {"requests": 1, "burst": 1},
            "groups": {"ska": {"requests": 5, "burst": 3}, "few": {"requests": 2, "burst": 2}},
            "users": {"robot": {"requests": 1, "burst": 6}},
        }
    )
    rates = Rates(config, Clock())

    def taken(scope: dict[str, object]) -> int:
        return next(number for number in range(100) if rates.refusal(scope) is not None)

    assert taken(scope_of("ann")) == 1
    assert taken(scope_of("bob", "few", "ska")) == 3
    assert taken(scope_of("robot", "ska")) == 6
    service = scope_of("service", service=True)
    assert all(rates.refusal(service) is None for _ in range(1000))
    wait, text = rates.refusal(scope_of("bob", "few", "ska")) or (0, "")
    assert 0 < wait <= 1
    assert "5 requests a second (limits.groups.ska.requests)" in text


def test_counting_takes_no_time() -> None:
    """Under 20 µs; a busy machine may be slow now and then, not always."""
    rates = Rates(LimitsConfig.model_validate({"default": {"requests": 1e9}}))
    scope = scope_of("ann", "ska", "others")
    best = 1.0
    for _ in range(20):
        begun = time.perf_counter()
        for _ in range(500):
            rates.refusal(scope)
        best = min(best, (time.perf_counter() - begun) / 500)
    assert best < 20e-6, f"{best * 1e6:.1f} µs"


def test_strangers_are_told_to_wait_by_address() -> None:
    clock = Clock()
    strangers = Strangers(clock)
    for _ in range(200):
        strangers.refused("192.0.2.1", [])
    assert strangers.wait("192.0.2.1", []) > 0
    assert strangers.wait("192.0.2.2", []) == 0
    clock.now += 5
    assert strangers.wait("192.0.2.1", []) == 0


def test_a_stranger_behind_a_proxy_does_not_shut_others_out() -> None:
    strangers = Strangers(Clock())
    bad, good = ([(b"x-forwarded-for", address)] for address in (b"203.0.113.9", b"203.0.113.1"))
    for _ in range(200):
        strangers.refused("192.0.2.1", bad)
    assert strangers.wait("192.0.2.1", bad) > 0
    assert strangers.wait("192.0.2.1", good) == 0


def test_a_header_that_changes_each_time_helps_only_for_a_while() -> None:
    strangers = Strangers(Clock())
    for number in range(4000):
        strangers.refused("192.0.2.1", [(b"x-forwarded-for", str(number).encode())])
    assert strangers.wait("192.0.2.1", [(b"x-forwarded-for", b"new")]) > 0


def test_an_ipv6_network_is_one_caller() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff")
    assert network("2001:db8::1") != network("2001:db8:0:1::1")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("limited")
    limits = {"default": {"requests": 0.5, "burst": 60, "submissions": 0.5}}
    service = Service(folder / "service", {"nodes": [], "engine": {"workers": 0}, "limits": limits})
    yield service
    service.stop()


def told(answer: httpx.Response, *words: str) -> None:
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["status_code"] == 429
    for word in words:
        assert word in answer.json()["msg"]


def test_a_service_tells_which_limit_it_is(limited: Service) -> None:
    runs = f"{limited.url}{API}/runs"
    fields = {
        "workflow_type": "CWL",
        "workflow_type_version": "v1.2",
        "workflow_url": "w.cwl",
    }
    files = [("workflow_attachment", ("w.cwl", b"cwlVersion: v1.2\n" + b"#" * 900))]
    first = httpx.post(runs, data=fields, files=files)
    assert first.status_code == 200, first.text
    told(httpx.post(runs, data=fields, files=files), "0.5 submissions a minute", "limits.default.submissions")
    codes = [httpx.get(f"{limited.url}{API}/service-info").status_code for _ in range(80)]
    assert codes[0] == 200
    assert codes[-1] == 429
    told(httpx.get(f"{limited.url}{API}/runs"), "0.5 requests a second", "limits.default.requests")


def test_runs_and_attachments_are_counted(tmp_path: Path) -> None:
    limits = {"default": {"runs": 2}, "users": {"nobody-else": {"runs": 100}}}
    service = Service(tmp_path / "service", {"nodes": [], "engine": {"workers": 0}, "limits": limits})
    try:
        runs = f"{service.url}{API}/runs"
        fields = {
            "workflow_type": "CWL",
            "workflow_type_version": "v1.2",
            "workflow_url": "https://example.org/w.cwl",
        }
        ids = [httpx.post(runs, json=fields).json()["run_id"] for _ in range(2)]
        told(httpx.post(runs, json=fields), "2 runs that have not ended", "limits.default.runs")
        assert httpx.post(f"{runs}/{ids[0]}/cancel").status_code == 200
        assert httpx.post(runs, json=fields).status_code == 200
    finally:
        service.stop()


def test_attachments_are_counted_until_runs_are_deleted(tmp_path: Path) -> None:
    limits = {"default": {"attachments_gib": 3e-5}}
    service = Service(tmp_path / "service", {"nodes": [], "engine": {"workers": 0}, "limits": limits})
    try:
        runs = f"{service.url}{API}/runs"
        fields = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "w.cwl"}

        def submit(size: int) -> httpx.Response:
            files = [("workflow_attachment", ("w.cwl", b"#" * size))]
            return httpx.post(runs, data=fields, files=files)

        assert submit(20_000).status_code == 200
        told(submit(20_000), "attachments may have 3e-05 GiB", "limits.default.attachments_gib")
        assert submit(5_000).status_code == 200
    finally:
        service.stop()
