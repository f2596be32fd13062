"""Inputs and outputs on a real WebDAV server (wsgidav), with bearer tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.node import misbehaving
from tests.node.conftest import ROOT, NodeProcess, Request, Starter, session_kinds, shell, texts
from tests.node.misbehaving import Site
from tests.stores import Dav, dav
from wes_bridge.config import NodeConfig
from wes_bridge.node.staging.allowed import Allowed
from wes_bridge.node.staging.plugins import Site as Node
from wes_bridge.node.staging.schemes import Wanted
from wes_bridge.node.staging.webdav import PLUGIN
from wes_bridge.storage.dav import ListingError, members

__all__ = ["dav"]

F = f"{ROOT}/in/f"


def node_of(start_node: Starter, dav: Dav, token: str = "good", **more: object) -> NodeProcess:
    secret = dav.folder.parent / "token"
    secret.write_text(token + "\n")
    settings = {"url": f"{dav.url}sky/", "token": {"file": str(secret)}, "write": True, **more}
    (dav.folder / "sky").mkdir(exist_ok=True)
    return start_node(webdav=[settings], fetch={"private_hosts": [], "timeout": 5})


def failed(node: NodeProcess, request: Request) -> str:
    session = node.run(request)
    assert session["phase"] == "FAILED", session["phase"]
    return texts(session)


def test_files_and_folders(start_node: Starter, dav: Dav) -> None:
    node = node_of(start_node, dav)
    odd = ["a b", "a#b", "a%20b", "ä", "a:b", "a&b<c>"]
    for name in odd:
        (dav.folder / "sky/d/e").mkdir(parents=True, exist_ok=True)
        (dav.folder / "sky/d/e" / name).write_text(f"{name}\n")
    (dav.folder / "sky/d/empty").mkdir()
    request = Request(shell(f"cat {F}; cat {ROOT}/in/d/e/*; ls {ROOT}/in/d"))
    request.data(F, f"{dav.url}sky/d/e/{quote('a#b')}")
    request.data(f"{ROOT}/in/d", f"{dav.url}sky/d", directory=True)
    lines = node.stream(node.completed(request)).splitlines()
    assert lines[0] == "a#b"
    assert sorted(lines[1:-2]) == sorted(odd)
    assert lines[-2:] == ["e", "empty"]


def test_outputs(start_node: Starter, dav: Dav) -> None:
    node = node_of(start_node, dav)
    script = "mkdir -p d/e; echo x > 'd/e/a b'; echo y > y; ln -s y link; ln -s /etc/hostname away"
    node.completed(Request(shell(script)).output(f"{dav.url}sky/runs/one/"))
    out = dav.folder / "sky/runs/one"
    assert (out / "d/e/a b").read_text() == "x\n"
    assert (out / "link").read_text() == "y\n"
    assert not (out / "away").exists()


@pytest.mark.parametrize(
    ("path", "write", "says"),
    [
        ("other/a", False, "this node takes only"),
        ("sky/../other/a", False, "this node takes only"),
        ("sky/%2e%2e/other/a", False, "this node takes only"),
        ("sky/a?b=c", False, "this node takes only"),
        ("skyscraper/a", False, "this node takes only"),
        ("sky/a", True, "this node writes to only nothing"),
    ],
)
def test_what_the_node_does_not_take_is_a_no(
    start_node: Starter, dav: Dav, path: str, write: bool, says: str
) -> None:
    node = node_of(start_node, dav, write=False)
    request = Request(shell("true"))
    location = dav.url + path
    found = node.refused(request.output(location) if write else request.data(F, location))
    assert says in found[0]["message"]
    assert dav.asked == []


def test_wrong_token_and_missing_files(start_node: Starter, dav: Dav) -> None:
    node = node_of(start_node, dav, token="forged")
    for more in ({}, {"directory": True}):
        reason = failed(node, Request(shell("true")).data(F, f"{dav.url}sky/a", **more))
        assert "takes no token of this node or user (HTTP 401)" in reason
        assert "forged" not in reason
    session = node.run(Request(shell("echo x > x")).output(f"{dav.url}sky/out"))
    assert "urn:wes-bridge:releasing-failed" in session_kinds(session)
    assert "HTTP 401" in texts(session)
    right = node_of(start_node, dav)
    for more in ({}, {"directory": True}):
        reason = failed(right, Request(shell("true")).data(F, f"{dav.url}sky/none", **more))
        assert "there is no such file or folder (HTTP 404)" in reason


def test_each_user_has_their_own_token(dav: Dav, tmp_path: Path) -> None:
    """A token belongs to the user whose name its file has, whatever the name is made of."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    (tmp_path / "outside").write_text("good")
    (folder / quote("https://iam#ada", safe="@")).write_text("good\n")
    (folder / "eve").symlink_to(tmp_path / "outside")
    settings = PLUGIN.settings.model_validate(
        {"folders": [{"url": f"{dav.url}sky", "user_tokens": str(folder)}]}
    )
    scheme = PLUGIN.make(settings, Node(NodeConfig(), Allowed([])))
    location = f"{dav.url}sky/a"

    def scope(user: str) -> str:
        return scheme.scope(Wanted(location, user=user))

    assert scope("https://iam#ada") == "https://iam#ada"
    assert [scope(user) for user in ("", "bob", "..", "../outside", "eve")] == [""] * 5
    (dav.folder / "sky").mkdir()
    (dav.folder / "sky/a").write_text("a")
    got = tmp_path / "got"
    assert scheme.fetch(Wanted(location, user="https://iam#ada"), got, threading.Event()) is not None
    assert got.read_text() == "a"
    with pytest.raises(OSError, match="there is no token of user bob"):
        scheme.fetch(Wanted(location, user="bob"), tmp_path / "no", threading.Event())


@pytest.fixture(scope="module")
def pages() -> Iterator[Site]:
    yield from misbehaving.site()


def test_a_token_goes_along_no_redirect(start_node: Starter, pages: Site, tmp_path: Path) -> None:
    other = misbehaving.Site()
    other.start()
    (tmp_path / "token").write_text("secret-token")
    pages.pages["/sky/a"] = lambda _: web.Response(status=307, headers={"Location": f"{other.url}/pool"})
    other.pages["/pool"] = lambda _: web.Response(body=b"from the pool\n")
    node = start_node(
        webdav=[
            {"url": pages.url.replace("http", "dav") + "/sky/", "token": {"file": str(tmp_path / "token")}}
        ],
        fetch={"private_hosts": ["127.0.0.1"]},
    )
    request = Request(shell(f"cat {F}")).data(F, pages.url.replace("http", "dav") + "/sky/a")
    assert node.stream(node.completed(request)) == "from the pool\n"
    assert pages.headers("/sky/a")[0]["Authorization"] == "Bearer secret-token"
    assert "Authorization" not in other.headers("/pool")[0]
    other.stop()


LISTING = '<?xml version="1.0"?>{}<D:multistatus xmlns:D="DAV:">{}</D:multistatus>'
ONE = (
    "<D:response><D:href>{}</D:href><D:propstat><D:prop><D:resourcetype>{}</D:resourcetype></D:prop>"
    "</D:propstat></D:response>"
)
BAD = {
    "above": (LISTING.format("", ONE.format("/sky/../etc/passwd", "")), "not in the folder"),
    "encoded": (LISTING.format("", ONE.format("/sky/%2e%2e", "")), "not in the folder"),
    "elsewhere": (LISTING.format("", ONE.format("/other/a", "")), "not in the folder"),
    "deeper": (LISTING.format("", ONE.format("/sky/a%2fb", "")), "not in the folder"),
    "no xml": ("{}", "no XML"),
    "cut": (LISTING.format("", ONE.format("/sky/a", ""))[:100], "no XML"),
    "entities": (
        LISTING.format('<!DOCTYPE x [<!ENTITY a "b">]>', ONE.format("/sky/&a;", "")),
        "document type",
    ),
    "long": (LISTING.format("", ONE.format("/sky/" + "a" * 20_000, "")), "too long"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_listings_that_are_none(start_node: Starter, pages: Site, name: str) -> None:
    body, says = BAD[name]
    with pytest.raises(ListingError, match=says):
        list(members([body.encode()], "/sky/"))
    base = f"/{quote(name)}/sky"
    body = body.replace("/sky/", f"{base}/").replace("/other/", f"/{quote(name)}/other/")
    pages.pages[f"/{name}/sky/"] = lambda _: web.Response(status=207, body=body.encode())
    url = pages.url.replace("http", "dav") + base
    node = start_node(webdav=[{"url": url}])
    assert says in failed(node, Request(shell("true")).data(f"{ROOT}/in/d", url, directory=True))


def test_a_listing_is_read_in_whatever_pieces_it_comes() -> None:
    body = LISTING.format("", ONE.format("/sky/", "<D:collection/>") + ONE.format("http://h/sky/a%20b", ""))
    for size in (1, 7, 1000):
        pieces = [body.encode()[at : at + size] for at in range(0, len(body), size)]
        assert [(one.path, one.is_folder) for one in members(pieces, "/sky")] == [("a b", False)]


def test_a_server_without_webdav_is_told(start_node: Starter, pages: Site) -> None:
    pages.pages["/plain/"] = lambda _: web.Response(body=b"<html>")
    url = pages.url.replace("http", "dav") + "/plain"
    node = start_node(webdav=[{"url": url}])
    reason = failed(node, Request(shell("true")).data(f"{ROOT}/in/d", url, directory=True))
    assert "no WebDAV" in reason
