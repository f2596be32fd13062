"""URLs are read in one way, as the libraries read them; what programs disagree about is refused."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import requests
import yarl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wes_bridge.cli.checks import check_service
from wes_bridge.config import ServiceConfig
from wes_bridge.fetching.addresses import PrivateHosts, is_public
from wes_bridge.fetching.errors import RefusedError, UrlError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.loops import yarl_url
from wes_bridge.fetching.urls import is_below, parse_url

TWO_WAYS = [
    "http://127.0.0.1:80\\@1.1.1.1/",
    "http://127.0.0.1:P\\@1.1.1.1/",
    "http://1.1.1.1\\@127.0.0.1/",
    "http://1.1.1.1\\.example.org/",
    "http://a@b@127.0.0.1/",
    "http://1.1.1.1 &@127.0.0.1/",
    "http://1.1.1.1\t@127.0.0.1/",
    "http://127.0.0.1\n.example.org/",
    "http://exa\tmple.org/",
    "\thttp://example.org/",
    "http://example.org/ ",
    "http://example.org/a\r\nHost: internal",
    "http://example.org\x00.internal/",
    "http:example.org/",
    "http:/example.org/",
    "http:///example.org/",
    "//example.org/",
    "http://",
    "http://:80/",
    "http://.../",
    "http://exa%6dple.org/",
    "http://127.0.0.1%2f@example.org%2f.internal/",
    "http://exa mple.org/",
    "http://example.org:/80:81/".replace("/80", "80"),
    "http://example.org:8 0/",
    "http://example.org:+80/",
    "http://example.org:٨٠/",
    "http://example.org:0/",
    "http://example.org:65536/",
    "http://example.org:17700000001/",
    "http://example.org:80:80/",
    "http://[::1%25lo]/",
    "http://[fe80::1%eth0]/",
    "http://[::1/",
    "http://::1/",
    "http://[1.2.3.4]/",
    "http://[::1]x/",
    "http://x[::1]/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://127.0.0.01/",
    "http://1.1.1.256/",
    "http://example.0x10/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://-/",
    "http://a..b/",
    "http://<script>/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "gopher://127.0.0.1:6379/_x",
    "http://us er:pw@example.org/",
    "http://" + "a" * 300 + ".org/",
    "http://example.org/" + "a" * 20_000,
    "http://\ud800.org/",
    "http://example.org/\ud800",
]


@pytest.mark.parametrize("url", TWO_WAYS)
def test_what_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(UrlError):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("http://example.org", "example.org", 80, "/"),
        ("HTTPS://Example.ORG/A%20b?c=d#e", "example.org", 443, "/A%20b?c=d"),
        ("http://example.org?x", "example.org", 80, "/?x"),
        ("http://example.org./x", "example.org", 80, "/x"),
        ("http://example.org:8080/ä b", "example.org", 8080, "/%C3%A4%20b"),
        ("http://bücher.example/", "xn--bcher-kva.example", 80, "/"),
        ("http://[2001:DB8::1]:81/x", "2001:db8::1", 81, "/x"),
        ("http://a:b@example.org/", "example.org", 80, "/"),
        ("http://my_service:9000/x", "my_service", 9000, "/x"),
    ],
)
def test_usual_urls_are_read(url: str, host: str, port: int, target: str) -> None:
    read = parse_url(url)
    assert (read.host, read.port, read.target) == (host, port, target)


def same(host: str) -> str:
    """A host as we write it."""
    host = host.strip("[]").rstrip(".")
    return str(ipaddress.ip_address(host)) if ":" in host else host


def _read_by_httpx(*texts: str) -> Iterator[httpx.URL]:
    for text in texts:
        with contextlib.suppress(httpx.InvalidURL):  # it is stricter in places
            yield httpx.URL(text)


PARTS = st.sampled_from(
    [
        *"/\\@:?#[]%.;&= \t\r\n\x00",
        "http", "https", "HTTP", "://", "//", "127.0.0.1", "1.1.1.1", "example.org", "localhost", "::1",
        "[::1]", "[::ffff:127.0.0.1]", "%2e", "%40", "%5c", "0x7f", "017700000001", "2130706433", "user",
        "pass", "80", "8080", "xn--", "ß", "。", "①", "\u200d", "\u202e", "@evil", "..", "a", "-", "_",
    ]
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.lists(PARTS, max_size=10).map("".join), st.text(max_size=40)))
@example("127.0.0.1:80\\@1.1.1.1/")
@example("[::1]@1.1.1.1/")
def test_no_library_reads_what_we_take_otherwise(rest: str) -> None:
    """Whatever is taken has one host and port, for the libraries, too; all else is a UrlError."""
    for text in (rest, f"http://{rest}"):
        try:
            ours = parse_url(text)
        except UrlError:
            continue
        again = str(ours)
        assert parse_url(again).origin == ours.origin
        assert yarl_url(ours).raw_host == ours.host
        for read in _read_by_httpx(again, text):
            assert same(read.raw_host.decode()) == ours.host
            assert (read.port or ours.port) == ours.port
        sent = requests.Request("GET", again).prepare().url or ""
        assert same(urlsplit(sent).hostname or "") == ours.host
        assert yarl.URL(again).raw_host == ours.host


PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1",
    "ff02::1", "ff0e::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_the_internets_are_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(RefusedError, match=r"fetch\.private_hosts"):
        Guard(PrivateHosts([])).check_url(f"http://{host}/x")
    with pytest.raises(RefusedError, match=r"fetch\.private_hosts"):
        Guard(PrivateHosts([])).check_addresses("rebinding.example", 80, ["1.1.1.1", address])


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_public_addresses_are_not(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    Guard(PrivateHosts([])).check_url(f"http://{host}/x")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_in_ipv6(address: ipaddress.IPv4Address) -> None:
    hosts = PrivateHosts([])
    for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert hosts.allows(ipaddress.IPv6Address(form)) == is_public(address)


def test_a_site_allows_by_name_port_address_and_network() -> None:
    guard = Guard(
        PrivateHosts(["10.1.0.0/16", "archive.local", "store.local:9000", "[fd00::1]:81", "10.2.0.1"])
    )
    for url in (
        "http://10.1.2.3/",
        "http://[::ffff:10.1.2.3]/",
        "http://[fd00::1]:81/",
        "http://10.2.0.1:9/",
    ):
        guard.check_url(url)
    guard.check_addresses("archive.local", 80, ["192.168.0.1"])
    guard.check_addresses("store.local", 9000, ["192.168.0.1"])
    for host, port in (("store.local", 9001), ("archive.local.evil", 80), ("other", 80)):
        with pytest.raises(RefusedError):
            guard.check_addresses(host, port, ["192.168.0.1"])
    for url in ("http://10.3.0.1/", "http://[fd00::1]/", "http://10.2.0.2/"):
        with pytest.raises(RefusedError):
            guard.check_url(url)


@pytest.mark.parametrize(
    ("url", "prefix", "below"),
    [
        ("https://h.org/sky/a", "https://h.org/sky/", True),
        ("https://H.org:443/sky/a", "https://h.org/sky/", True),
        ("https://h.org/x", "https://h.org", True),
        ("https://h.org/a/../b", "https://h.org", True),
        ("https://h.org.evil/sky/a", "https://h.org", False),
        ("https://h.org@evil/sky/a", "https://h.org", False),
        ("https://h.org:444/sky/a", "https://h.org", False),
        ("http://h.org/sky/a", "https://h.org", False),
        ("https://h.org/sky/../private", "https://h.org/sky/", False),
        ("https://h.org/sky/%2e%2e/private", "https://h.org/sky/", False),
        ("https://h.org/sky/..%2fprivate", "https://h.org/sky/", False),
        ("https://h.org/skyline", "https://h.org/sky/", False),
        ("https://h.org/?/sky/", "https://h.org/sky/", False),
    ],
)
def test_a_prefix_ends_where_a_host_does(url: str, prefix: str, below: bool) -> None:
    assert is_below(parse_url(url), parse_url(prefix)) == below


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.0/8", "any", "store.local", "store.local:9000", "10.0.0.1:80", "[fd00::1]:80", "fd00::/8"],
)
def test_what_may_be_allowed_is_found_right_at_start(entry: str, tmp_path: Path) -> None:
    fetch = {"private_hosts": [entry]}
    config = ServiceConfig.model_validate(
        {"state_dir": tmp_path, "fetch": fetch, "nodes": [{"fetch": fetch}]}
    )
    assert list(check_service(config)) == []


def test_what_is_wrong_with_fetch_is_found_at_start(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    fetch = {"private_hosts": ["a b", "x:y:z"], "ca_file": str(tmp_path / "no.pem")}
    config = ServiceConfig.model_validate(
        {"state_dir": tmp_path, "nodes": [{"fetch": fetch}], "fetch": fetch}
    )
    found = [text for _, text in check_service(config)]
    for where in ("", "nodes[0]."):
        for what in ("fetch.private_hosts[0]", "fetch.private_hosts[1]", "fetch.ca_file"):
            assert any(text.startswith(where + what) for text in found), found
