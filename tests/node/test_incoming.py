"""One download for several sessions, and what is kept for later ones."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.node import misbehaving
from tests.node.conftest import ROOT, NodeProcess, Request, Starter, shell, texts
from tests.node.misbehaving import Site
from tests.waiting import until
from wes_bridge.model.expected import Expected
from wes_bridge.node.staging.incoming import Incoming
from wes_bridge.node.staging.schemes import Fetched, Wanted

F = f"{ROOT}/in/f"


class Shelf:
    """A scheme whose content is set by the test; it counts how often it is fetched."""

    names = ("shelf",)
    can_store = False
    places = ("shelf:",)

    def __init__(self) -> None:
        self.content = b"one"
        self.version = "v1"
        self.fetches = 0
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.problem: Exception | None = None

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        return None

    def local(self, location: str) -> Path | None:
        return None

    def scope(self, wanted: Wanted) -> str:
        return wanted.user

    def fetch(self, wanted: Wanted, target: Path, stop: threading.Event, unless: str = "") -> Fetched | None:
        self.begun.set()
        while not self.go.wait(0.01):
            if stop.is_set():
                raise InterruptedError("stopped")
        if self.problem is not None:
            raise self.problem
        if unless and unless == self.version:
            return None
        self.fetches += 1
        target.write_bytes(self.content)
        return Fetched(self.version)

    def store(self, folder: int, name: str, location: str, beside: Any) -> None:
        raise ValueError


class Getting:
    """What one session gets."""

    def __init__(self, incoming: Incoming, shelf: Shelf, wanted: Wanted) -> None:
        self.stop = threading.Event()
        self.content: bytes | None = None
        self.error: Exception | None = None
        self._work = (incoming, shelf, wanted)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        incoming, shelf, wanted = self._work
        try:
            incoming.bring(shelf, wanted, self.stop, self._place)
        except Exception as error:
            self.error = error

    def _place(self, content: Path, is_mine: bool) -> None:
        self.content = content.read_bytes()
        if is_mine:
            content.unlink()

    def end(self) -> Getting:
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self


def get(incoming: Incoming, shelf: Shelf, location: str = "shelf:a", **more: Any) -> bytes:
    found = Getting(incoming, shelf, Wanted(location, **more)).end()
    if found.error is not None:
        raise found.error
    assert found.content is not None
    return found.content


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def waiters(incoming: Incoming) -> int:
    return sum(flight.waiting for flight in incoming._flights.values())


def test_several_sessions_wait_for_one_download(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in")
    shelf.go.clear()
    all_of_them = [Getting(incoming, shelf, Wanted("shelf:a")) for _ in range(8)]
    until(lambda: waiters(incoming) == 8)
    shelf.go.set()
    assert [one.end().content for one in all_of_them] == [b"one"] * 8
    assert shelf.fetches == 1
    assert left(tmp_path / "in") == []


def test_one_that_is_cancelled_leaves_the_download_to_another(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in")
    shelf.go.clear()
    first = Getting(incoming, shelf, Wanted("shelf:a"))
    assert shelf.begun.wait(30)
    second = Getting(incoming, shelf, Wanted("shelf:a"))
    until(lambda: waiters(incoming) == 2)
    first.stop.set()
    assert isinstance(first.end().error, InterruptedError)
    shelf.go.set()
    assert second.end().content == b"one"
    assert left(tmp_path / "in") == []


def test_one_that_waits_can_be_cancelled(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in")
    shelf.go.clear()
    first = Getting(incoming, shelf, Wanted("shelf:a"))
    assert shelf.begun.wait(30)
    second = Getting(incoming, shelf, Wanted("shelf:a"))
    until(lambda: waiters(incoming) == 2)
    second.stop.set()
    assert isinstance(second.end().error, InterruptedError)
    shelf.go.set()
    assert first.end().content == b"one"
    assert left(tmp_path / "in") == []


def test_a_failure_is_told_to_all_who_wait_and_the_next_one_tries_anew(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in")
    shelf.go.clear()
    shelf.problem = OSError("the server is on fire")
    both = [Getting(incoming, shelf, Wanted("shelf:a")) for _ in range(2)]
    until(lambda: waiters(incoming) == 2)
    shelf.go.set()
    assert [str(one.end().error) for one in both] == ["the server is on fire"] * 2
    shelf.problem = None
    assert get(incoming, shelf) == b"one"
    assert left(tmp_path / "in") == []


def test_what_is_kept_is_used_as_long_as_its_version_is_the_same(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in", 1000)
    assert [get(incoming, shelf) for _ in range(3)] == [b"one"] * 3
    assert shelf.fetches == 1
    shelf.content, shelf.version = b"two", "v2"
    assert get(incoming, shelf) == b"two"
    assert shelf.fetches == 2
    assert incoming.total == 3
    assert len(left(tmp_path / "in")) == 1


def test_what_is_kept_is_found_by_the_next_process(tmp_path: Path, shelf: Shelf) -> None:
    get(Incoming(tmp_path / "in", 1000), shelf)
    (tmp_path / "in" / ".new-half").mkdir()
    (tmp_path / "in" / "strange").mkdir()
    again = Incoming(tmp_path / "in", 1000)
    assert get(again, shelf) == b"one"
    assert shelf.fetches == 1
    assert len(left(tmp_path / "in")) == 1
    off = Incoming(tmp_path / "in")
    assert get(off, shelf) == b"one"
    assert shelf.fetches == 2
    assert left(tmp_path / "in") == []


def test_those_not_used_for_longest_go_first(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in", 1000)
    shelf.content = b"x" * 400
    for name in ("a", "b", "a", "c", "a"):
        get(incoming, shelf, f"shelf:{name}")
    assert shelf.fetches == 3
    assert incoming.total == 800
    get(incoming, shelf, "shelf:a")
    assert shelf.fetches == 3
    get(incoming, shelf, "shelf:b")
    assert shelf.fetches == 4


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in", 10)
    shelf.content = b"x" * 11
    get(incoming, shelf)
    assert left(tmp_path / "in") == []


def test_nothing_of_one_user_is_given_to_another(tmp_path: Path, shelf: Shelf) -> None:
    """Neither what is kept, nor what is under way: the scheme's scope is the user here."""
    incoming = Incoming(tmp_path / "in", 1000)
    shelf.content = b"ada's"
    assert get(incoming, shelf, user="ada") == b"ada's"
    shelf.content = b"bob's"  # the same version: only the user tells them apart
    assert get(incoming, shelf, user="bob") == b"bob's"
    assert get(incoming, shelf, user="ada") == b"ada's"
    shelf.go.clear()
    both = [Getting(incoming, shelf, Wanted("shelf:new", user=user)) for user in ("ada", "bob")]
    until(lambda: len(incoming._flights) == 2)
    shelf.go.set()
    assert all(one.end().error is None for one in both)
    assert shelf.fetches == 4


def test_what_is_kept_is_checked_against_what_is_expected(tmp_path: Path, shelf: Shelf) -> None:
    incoming = Incoming(tmp_path / "in", 1000)
    get(incoming, shelf)
    right = Expected(3, ("sha1", hashlib.sha1(b"one").hexdigest()))
    assert get(incoming, shelf, expected=right) == b"one"
    with pytest.raises(OSError, match="sha1 00 was expected, and what has come has sha1 fe05bcdcdc4928"):
        get(incoming, shelf, expected=Expected(3, ("sha1", "00")))
    with pytest.raises(OSError, match="4 bytes were expected, and 3 bytes have come"):
        get(incoming, shelf, expected=Expected(4))


def test_what_is_used_is_not_taken_away(tmp_path: Path, shelf: Shelf) -> None:
    """Room is made while a session copies what is kept: it gets all of it."""
    incoming = Incoming(tmp_path / "in", 1000)
    shelf.content = b"x" * 800
    get(incoming, shelf)
    seen = []

    def place(content: Path, is_mine: bool) -> None:
        assert not is_mine
        get(incoming, shelf, "shelf:b")
        seen.append(content.read_bytes())

    incoming.bring(shelf, Wanted("shelf:a"), threading.Event(), place)
    assert seen == [b"x" * 800]


# ---- with a real node -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages() -> Iterator[Site]:
    yield from misbehaving.site()


@pytest.fixture(scope="module", params=["auto", "none"])
def keeping(start_node: Starter, request: pytest.FixtureRequest) -> NodeProcess:
    """A node with a cache; without a sandbox nothing is linked, for a command could change it."""
    return start_node(cache_gib=1, sandbox=request.param)


def page(etag: str, body: bytes) -> Any:
    def answer(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return web.Response(body=body, headers={"ETag": etag})

    return answer


def test_a_node_asks_whether_a_file_has_changed(keeping: NodeProcess, pages: Site) -> None:
    path = f"/kept-{keeping.config['sandbox']}"
    pages.pages[path] = page('"1"', b"first\n")
    request = Request(shell(f"cat {F}; ls -L {ROOT}/in")).data(F, pages.url + path)
    for _ in range(2):
        assert keeping.stream(keeping.completed(request)) == "first\nf\n"
    assert "If-None-Match" in pages.headers(path)[1]
    pages.pages[path] = page('"2"', b"second\n")
    assert keeping.stream(keeping.completed(request)) == "second\nf\n"


def test_a_command_cannot_change_what_others_get(keeping: NodeProcess, pages: Site) -> None:
    path = f"/shared-{keeping.config['sandbox']}"
    pages.pages[path] = page('"1"', b"good\n")
    evil = f"chmod u+w {F}; echo evil > {F}; rm -f {F}; echo evil > $(readlink -f {F}); true"
    for mode in ("READONLY", "READWRITE"):
        keeping.completed(Request(shell(evil)).data(F, pages.url + path, mode))
        request = Request(shell(f"cat {F}")).data(F, pages.url + path)
        assert keeping.stream(keeping.completed(request)) == "good\n"


def test_a_writable_wish_gets_a_copy(keeping: NodeProcess, pages: Site) -> None:
    path = f"/writable-{keeping.config['sandbox']}"
    pages.pages[path] = page('"1"', b"a\n")
    request = Request(shell(f"echo b >> {F}; cat {F}")).data(F, pages.url + path, "READWRITE")
    for _ in range(2):
        assert keeping.stream(keeping.completed(request)) == "a\nb\n"


def test_outputs_that_lead_to_what_was_fetched_are_files(
    keeping: NodeProcess, pages: Site, tmp_path: Path
) -> None:
    path = f"/linked-{keeping.config['sandbox']}"
    pages.pages[path] = page('"1"', b"content\n")
    script = f"ln -s {F} link; ln -s $(readlink -f {F}) real; cp {F} copy"
    request = Request(shell(script)).data(F, pages.url + path).data(f"{ROOT}/out/placed", pages.url + path)
    keeping.completed(request.output(tmp_path / "out"))
    for name in ("link", "real", "copy", "placed"):
        found = tmp_path / "out" / name
        assert found.read_text() == "content\n", name
        assert not found.is_symlink(), name


def test_sessions_of_a_node_share_a_download(node: NodeProcess, pages: Site) -> None:
    """The server answers when both sessions have asked for it, or after a while; it is asked once."""
    release = threading.Event()

    async def slow(_: web.Request) -> web.Response:
        await asyncio.to_thread(release.wait, 60)
        return web.Response(body=b"large\n")

    pages.pages["/slow"] = slow
    request = Request(shell(f"cat {F}")).data(F, f"{pages.url}/slow")
    sessions = [node.begin(request) for _ in range(4)]
    until(lambda: pages.count("/slow") == 1)
    for session in sessions:
        node.until(session, lambda now: now["phase"] == "PREPARING")
    release.set()
    ended = [node.end(session) for session in sessions]
    assert [session["phase"] for session in ended] == ["COMPLETED"] * 4, [texts(one) for one in ended]
    assert {node.stream(session) for session in ended} == {"large\n"}
    assert pages.count("/slow") <= 2, "those that ask while it is under way share it"
