"""Parts of the aggregator by themselves: what can be said of all inputs, and corners."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect
from starlette.requests import Request

from wes_bridge.aggregator.filling import fill_in
from wes_bridge.aggregator.hops import Way
from wes_bridge.aggregator.ranking import order
from wes_bridge.aggregator.rewriting import Rewriter, local_url
from wes_bridge.config import AggregatorConfig
from wes_bridge.model.execution_broker import COST_MONETARY, MINMAX_COST, ExecutionRequest, Session
from wes_bridge.model.units import format_instant
from wes_bridge.store.aggregator import AGGREGATOR, metadata
from wes_bridge.store.database import Database, migrate
from wes_bridge.surface.forwarded import Proxies

REAL, OURS = "http://node.internal:8082/eb", "https://site.example.org/agg"
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
THEIRS = "0b6c8f0e-8a44-4a1c-9d5a-0e4f0e2e8d11"

# ---- rewriting ---------------------------------------------------------------------------------------

urls = st.builds(
    "{}{}".format,
    st.sampled_from([REAL, "http://public.example.org"]),
    st.sampled_from(
        ["", "/", f"/sessions/{THEIRS}", f"/streams/{THEIRS}/stdout", "/x/y?z=1#f", "/sessions/a/b"]
    ),
)
texts = st.one_of(st.text(max_size=8), urls, st.builds("see {}, or {}.".format, urls, urls))
names = st.sampled_from(["meta", "url", "messages", "message", "values", "novel", "streams", "description"])
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(anything)
def test_no_address_of_the_broker_is_left(value: Any) -> None:
    told = f"http://public.example.org/sessions/{THEIRS}"
    body = {"meta": {"url": told, "uuid": THEIRS}, "other": value}
    before = copy.deepcopy(body)
    rewriter = Rewriter((REAL, f"{REAL}/sessions/{THEIRS}"), told, OURS, UUID)
    session = rewriter.session(body, "jbo")
    assert body == before
    for text in json.dumps(session["meta"]), *_whole_strings(session["other"]):
        assert not text.startswith((REAL + "/", "http://public.example.org/"))
    assert session["meta"] == {"url": f"{OURS}/sessions/{UUID}", "uuid": UUID, "broker": "jbo"}
    assert all(url.startswith(REAL) for url in rewriter.links.values())  # never fetched from elsewhere
    if REAL not in json.dumps(value) and "public.example.org" not in json.dumps(value):
        assert session["other"] == value


def _whole_strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _whole_strings(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _whole_strings(item)]
    return []


def test_only_whole_hosts_are_rewritten() -> None:
    rewriter = Rewriter(("http://n:1", f"http://n:1/sessions/{THEIRS}"), None, OURS, UUID)
    text = "http://n:10/x http://n:1.example.org http://n:1. (http://n:1/help) xhttp://n:1"
    told = rewriter.text(text)
    assert told.startswith("http://n:10/x http://n:1.example.org " + OURS + ". (" + OURS + "/links/")
    assert list(rewriter.links.values()) == ["http://n:1/help"]


@pytest.mark.parametrize(
    ("told", "uuid", "url"),
    [
        (f"{REAL}/sessions/{THEIRS}", None, f"{REAL}/sessions/{THEIRS}"),
        (f"https://elsewhere.example.org/sessions/{THEIRS}", None, f"{REAL}/sessions/{THEIRS}"),
        ("http://169.254.169.254/secret", THEIRS, f"{REAL}/sessions/{THEIRS}"),
        ("http://169.254.169.254/secret", None, None),
        (None, THEIRS, f"{REAL}/sessions/{THEIRS}"),
        (REAL, None, None),
        (f"{REAL}X/sessions/1", None, f"{REAL}/sessions/1"),
        (None, None, None),
    ],
)
def test_sessions_are_only_looked_for_at_the_configured_broker(
    told: str | None, uuid: str | None, url: str | None
) -> None:
    assert local_url(told, uuid, REAL) == url


# ---- filling in --------------------------------------------------------------------------------------

CONFIG = AggregatorConfig.model_validate(
    {
        "images": {"py:3": {"digest": "sha256:1"}, "r:4": {"locations": ["a/r:4", "b/r:4"]}},
        "data": [
            {"prefix": "skao:", "replicas": [{"url": "https://far/"}]},
            {
                "prefix": "skao:near/",
                "replicas": [{"url": "file:///near/", "brokers": ["n1"]}, {"url": "https://mid/"}],
            },
        ],
        "defaults": {"cores": 2, "memory_gib": 4, "duration": "PT1H"},
    }
)
sizes = st.fixed_dictionaries(
    {}, optional={name: st.one_of(st.none(), st.integers(0, 9)) for name in ("min", "max", "minBytes")}
)
wishes = st.fixed_dictionaries(
    {},
    optional={
        "executable": st.fixed_dictionaries(
            {"kind": st.just("urn:x")},
            optional={
                "image": st.fixed_dictionaries(
                    {},
                    optional={
                        "digest": st.sampled_from([None, "", "sha256:9"]),
                        "locations": st.lists(st.sampled_from(["py:3", "r:4", "other"]), max_size=2),
                    },
                )
            },
        ),
        "compute": st.fixed_dictionaries(
            {"kind": st.just("urn:x")}, optional={"cores": sizes, "memory": sizes}
        ),
        "data": st.lists(
            st.fixed_dictionaries(
                {
                    "kind": st.just("urn:x"),
                    "location": st.sampled_from(["skao:a", "skao:near/b", "http://x/c"]),
                },
                optional={"access": st.sampled_from(["READ", "WRITE"])},
            ),
            max_size=3,
        ),
        "schedule": st.fixed_dictionaries(
            {}, optional={"requested": st.fixed_dictionaries({}, optional={"duration": st.just("PT5M")})}
        ),
        "novel": st.integers(),
    },
)


@settings(max_examples=300, deadline=None)
@given(wishes)
def test_what_a_request_says_stays(request: dict[str, Any]) -> None:
    before = copy.deepcopy(request)
    filled, notes = fill_in(request, "n1", CONFIG)
    assert request == before
    ExecutionRequest.model_validate(filled)
    assert filled.get("novel") == request.get("novel")
    image = (request.get("executable") or {}).get("image") or {}
    if image.get("digest"):
        assert filled["executable"]["image"]["digest"] == image["digest"]
    for name in ("cores", "memory"):
        size = (request.get("compute") or {}).get(name) or {}
        if any(value is not None for value in size.values()):
            assert filled["compute"][name] == size
        else:
            assert filled["compute"][name] == {"min": {"cores": 2, "memory": 4}[name]}
    asked = ((request.get("schedule") or {}).get("requested") or {}).get("duration")
    assert filled["schedule"]["requested"]["duration"] == (asked or "PT1H")
    for old, new in zip(request.get("data", []), filled.get("data", []), strict=True):
        if old.get("access") == "WRITE" or old["location"].startswith("http"):
            assert new == old
    assert fill_in(filled, "n1", CONFIG) == (filled, []) or image  # nothing is left to fill in
    assert (filled != request) == bool(notes)


def test_a_copy_of_the_data_for_each_broker() -> None:
    request = {"data": [{"location": "skao:near/b"}, {"location": "skao:a"}]}
    found = [
        [item["location"] for item in fill_in(request, name, CONFIG)[0]["data"]] for name in ("n1", "n2")
    ]
    assert found == [["file:///near/b", "https://far/a"], ["https://mid/b", "https://far/a"]]


# ---- ranking -----------------------------------------------------------------------------------------


def offer(seconds: float, price: float | None, now: datetime) -> Session:
    start = format_instant(now + timedelta(seconds=seconds))
    costs = [{"kind": MINMAX_COST, "type": COST_MONETARY, "max": price}] if price is not None else []
    return Session.model_validate({"schedule": {"available": {"start": f"{start}/PT0S"}}, "costs": costs})


def test_the_earliest_first_then_the_cheapest() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    offers = [
        offer(600, 1, now),
        offer(0.2, 9, now),
        offer(0.7, 3, now),
        offer(0.1, None, now),
        offer(-99, 4, now),
    ]
    assert order(offers, now) == [2, 4, 1, 3, 0]
    assert order([Session.model_validate({"schedule": {"available": {"start": "never"}}})], now) == [0]


# ---- the way a request has come ----------------------------------------------------------------------


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_via_header_can_be_read(headers: list[str]) -> None:
    way = Way.read(headers)
    assert way.problem("ab12", 8) is None
    onward = Way.read([way.onward("ab12", "site")])
    assert "wes-bridge-ab12" in onward.ids
    assert "been here before" in str(onward.problem("ab12", 8))


def test_other_proxies_on_the_way() -> None:
    way = Way.read(["1.0 fred, HTTP/1.1 wes-bridge-0a (one)", "1.1 nginx (Ubuntu), 1.1 wes-bridge-0b (two)"])
    assert way.names == ("one", "two")
    assert way.onward("0c", "three").endswith(
        "1.1 nginx (Ubuntu), 1.1 wes-bridge-0b (two), 1.1 wes-bridge-0c (three)"
    )
    assert way.problem("0c", 3) is None
    assert "come through 2 aggregators (one -> two); 2 are allowed" in str(way.problem("0c", 2))


# ---- behind proxies ----------------------------------------------------------------------------------


def base(headers: dict[str, str], peer: str = "10.0.0.1", public: str | None = None) -> str:
    scope = {
        "type": "http",
        "scheme": "http",
        "client": (peer, 1234),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    return Proxies(public, ["10.0.0.0/8", "::1"]).base(Request(scope))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "h:1"}, "http://h:1"),
        ({"host": "h", "forwarded": "proto=https;host=site.org"}, "https://site.org"),
        ({"host": "h", "forwarded": 'for="[2001:db8::1]:99";host="site.org:8443"'}, "http://site.org:8443"),
        # what stands before the entry of the outermost trusted proxy, the client made up
        ({"host": "h", "forwarded": "host=evil.org, for=192.0.2.1;host=site.org"}, "http://site.org"),
        (
            {"host": "h", "forwarded": "host=evil.org, for=192.0.2.1;host=a.org, for=10.0.0.2;host=b"},
            "http://a.org",
        ),
        ({"host": "h", "forwarded": "nonsense"}, "http://h"),
        ({"host": "h", "forwarded": 'host="<script>"'}, "http://h"),
        ({"host": "h", "x-forwarded-host": "site.org", "x-forwarded-proto": "https"}, "https://site.org"),
        ({"host": "h", "x-forwarded-host": "site.org", "x-forwarded-port": "8443"}, "http://site.org:8443"),
        (
            {"host": "h", "x-forwarded-proto": "https", "x-forwarded-host": "s", "x-forwarded-port": "443"},
            "https://s",
        ),
        ({"host": "h", "x-forwarded-host": "evil.org, site.org"}, "http://site.org"),
        (
            {"host": "h", "x-forwarded-host": "evil, site, inner", "x-forwarded-for": "1.1.1.1, 10.0.0.2"},
            "http://site",
        ),
        ({"host": "h", "x-forwarded-prefix": "/a/b/"}, "http://h/a/b"),
        ({"host": "h", "x-forwarded-prefix": "//evil.org"}, "http://h"),
        ({"host": "h", "x-forwarded-proto": "javascript"}, "http://h"),
    ],
)
def test_what_proxies_say(headers: dict[str, str], expected: str) -> None:
    assert base(headers) == expected
    assert base(headers, peer="192.0.2.9") == f"http://{headers['host']}"
    assert base(headers, public="https://public.org/x/") == "https://public.org/x"


def test_a_peer_by_ipv6() -> None:
    assert base({"host": "h", "x-forwarded-host": "s"}, peer="::ffff:10.1.1.1") == "http://s"
    assert base({"host": "h", "x-forwarded-host": "s"}, peer="::1") == "http://s"
    assert base({"host": "h", "x-forwarded-host": "s"}, peer="::2") == "http://h"


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60))
def test_no_header_breaks_it(text: str) -> None:
    for name in (
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-prefix",
        "x-forwarded-for",
    ):
        assert base({"host": "h", name: text}).startswith(("http://", "https://"))


# ---- the database ------------------------------------------------------------------------------------


def test_the_migration_makes_the_tables(tmp_path: Path) -> None:
    made = Database(f"sqlite:///{tmp_path / 'made.db'}", AGGREGATOR)
    other = Database(f"sqlite:///{tmp_path / 'migrated.db'}", AGGREGATOR)
    metadata.drop_all(other.engine)
    with other.write() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    migrate(other.engine, AGGREGATOR.migrations)
    for table in metadata.tables:
        for look in ("get_columns", "get_indexes"):
            first, second = (getattr(inspect(database.engine), look)(table) for database in (made, other))
            assert str(first) == str(second)
    made.close()
    other.close()
