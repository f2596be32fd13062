"""What a request limits, links and names: held, or refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, Starter, kinds, process
from wes_bridge.model import execution_broker as eb

QUOTES = {
    "monetary": {"min": 2, "max": 4},
    "carbon": {"min": 10, "max": 20},
    "io_throughput": {"min": 100, "max": 200},
}
CONSTRAINT = "urn:wes-bridge:constraint-not-met"


@pytest.fixture(scope="module")
def quoting(start_node: Starter) -> NodeProcess:
    """A node that quotes a price, carbon and a throughput."""
    return start_node(sandbox="none", quotes=QUOTES)


def limited(where: str, *items: dict[str, Any], duration: str = "PT2H") -> Request:
    """A request with constraints on the whole, on compute, or on something else."""
    request = Request(process("true"))
    request.body["schedule"] = {"requested": {"duration": duration}}
    part, _, name = where.rpartition(".")
    holder = request.body[part] if part else request.body
    kind = eb.MINMAX_COST if name == "costs" else eb.MINMAX_METRIC
    holder[name] = [{"kind": kind, **item} for item in items]
    return request


@pytest.mark.parametrize(
    ("where", "items"),
    [
        ("costs", [{"type": eb.COST_MONETARY, "max": 8}]),  # two hours at 4
        ("costs", [{"type": eb.COST_MONETARY, "min": 4, "max": 8}, {"type": eb.COST_CARBON, "max": 40}]),
        ("compute.costs", [{"type": eb.COST_MONETARY, "max": 4}]),  # per hour
        ("metrics", [{"type": eb.METRIC_IO, "min": 100}]),
        ("compute.metrics", [{"type": eb.METRIC_IO, "min": 50, "max": 200}]),
        ("metrics", [{"type": "urn:whatever"}]),  # limits nothing
        ("executable.costs", [{"type": eb.COST_MONETARY}]),
    ],
)
def test_constraints_that_hold(quoting: NodeProcess, where: str, items: list[dict[str, Any]]) -> None:
    assert quoting.offer(limited(where, *items))["phase"] == "OFFERED"


@pytest.mark.parametrize(
    ("where", "items", "says"),
    [
        ("costs", [{"type": eb.COST_MONETARY, "max": 7.5}], "is up to 8 here, 7.5 is the most"),
        (
            "costs",
            [{"type": eb.COST_MONETARY, "max": 9}, {"type": eb.COST_CARBON, "max": 39}],
            "costs[1]: urn:ivoa:calycopis:cost:carbon is up to 40 here",
        ),
        ("costs", [{"type": eb.COST_ENERGY, "max": 1e9}], "is limited, this node quotes none"),
        ("costs", [{"max": 1}], "has no type"),
        ("costs", [{"type": eb.COST_MONETARY, "min": 3, "max": 1}], "from 3 to 1 is no range"),
        ("metrics", [{"type": eb.METRIC_IO, "min": 101}], "is from 100 here, 101 is the least"),
        ("compute.costs", [{"type": eb.COST_MONETARY, "max": 3}], "compute.costs[0]: "),
        ("executable.metrics", [{"type": eb.METRIC_IO, "min": 1}], "executable.metrics[0]: "),
    ],
)
def test_constraints_that_do_not(
    quoting: NodeProcess, where: str, items: list[dict[str, Any]], says: str
) -> None:
    (reason,) = quoting.refused(limited(where, *items))
    assert reason["kind"] in (CONSTRAINT, "urn:invalid-value")
    assert reason["level"] == "ERROR"
    assert says in reason["message"]


def test_the_price_is_that_of_the_time_asked_for(quoting: NodeProcess) -> None:
    item = {"type": eb.COST_MONETARY, "max": 2}
    assert quoting.offer(limited("costs", item, duration="PT30M"))
    assert kinds(quoting.refused(limited("costs", item, duration="PT31M"))) == {CONSTRAINT}


def test_volumes_have_costs_too(quoting: NodeProcess) -> None:
    request = Request(process("true")).data(f"{ROOT}/x", "data:,x")
    volume = request.body["compute"]["volumes"][0]
    volume["costs"] = [{"kind": eb.MINMAX_COST, "type": eb.COST_MONETARY, "max": 1}]
    (reason,) = quoting.refused(request)
    assert reason["message"].startswith("compute.volumes[0].costs[0]: ")


@pytest.mark.parametrize(
    ("storage", "data", "says"),
    [
        (None, "nowhere", "data[0].storage is nowhere"),
        (["d0"], "disk", None),
        (["d0", "d9"], "disk", "storage[0].data is d9"),
    ],
)
def test_data_and_storage_that_name_each_other(
    quoting: NodeProcess, storage: list[str] | None, data: str, says: str | None
) -> None:
    request = Request(process("true")).data(f"{ROOT}/x", "data:,x", storage=data)
    if storage is not None:
        request.body["storage"] = [{"kind": eb.SIMPLE_STORAGE, "meta": {"name": "disk"}, "data": storage}]
    if says is None:
        assert quoting.offer(request)["data"][0]["storage"] == "disk"
        return
    (reason,) = [item for item in quoting.refused(request) if item["level"] == "ERROR"]
    assert reason["kind"] == "uri:resource-not-found"
    assert says in reason["message"]


KINDS_OF_DATA: list[dict[str, Any]] = [
    {"kind": eb.S3_DATA, "endpoint": "https://s3", "template": "{bucket}", "bucket": "b", "object": "o"},
    {
        "kind": eb.RUCIO_DATA,
        "rucio": {"endpoint": "https://rucio", "scope": "s", "object": "o", "type": "FILE"},
    },
    {
        "kind": eb.IVOA_DATA,
        "ivoa": {
            "ivoid": "ivo://x/y",
            "obscore": {"obs_id": "1", "calib_level": 2, "access_url": "https://x"},
            "datalink": {"ID": "1", "content_length": 7, "semantics": "#this"},
        },
    },
    {
        "kind": eb.SKAO_DATA,
        "ivoa": {"ivoid": "ivo://x/y"},
        "skao": {
            "namespace": "n",
            "objectname": "o",
            "objecttype": "DATASET",
            "datasize": 12,
            "checksum": {"type": "md5", "value": "0"},
            "replicas": [{"rsename": "r", "dataurl": "https://x"}],
        },
    },
    {"kind": "urn:example:kind:data:tape", "reel": 7},
]


@pytest.mark.parametrize("data", KINDS_OF_DATA, ids=lambda data: data["kind"].rpartition("/")[2])
def test_kinds_of_data_that_a_node_cannot_stage_are_a_no(quoting: NodeProcess, data: dict[str, Any]) -> None:
    request = Request(process("true"))
    request.body["data"] = [{"meta": {"name": "d"}, **data}]
    (reason,) = [item for item in quoting.refused(request) if item["level"] == "ERROR"]
    assert reason["kind"] == "uri:unknown-type"
    assert data["kind"] in reason["message"]


def test_ports_and_platforms_are_understood(quoting: NodeProcess) -> None:
    port = {
        "access": True,
        "protocol": "HTTP",
        "path": "/x",
        "internal": {"port": 80},
        "external": {"port": 1},
    }
    (reason,) = quoting.refused(Request(process("true", network={"ports": [port]})))
    assert "does not publish ports" in reason["message"]
    platform = {"architecture": "amd64", "os": "linux"}
    assert quoting.offer(Request(process("true", image={"locations": ["x"], "platform": platform})))
