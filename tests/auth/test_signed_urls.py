"""Signed URLs without a server: keys that rotate, and what a signature covers."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import Clock
from wes_bridge.auth.signed_urls import KeyRing, SignatureError, SignedUrls, is_signed
from wes_bridge.model.data_urls import DataPath
from wes_bridge.redaction import redacted

BASE = "https://node.example.org"
PLACE = DataPath("11111111-1111-4111-8111-111111111111", "out")
DAY = 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def urls(tmp_path: Path, clock: Clock) -> SignedUrls:
    return made(tmp_path, clock)


def made(folder: Path, clock: Clock) -> SignedUrls:
    urls = SignedUrls(KeyRing(folder / "url-keys.json", DAY, 3600, clock), BASE, clock)
    urls.load()
    return urls


def scope(query: str, path: str = f"{PLACE}a", method: str = "GET") -> dict[str, Any]:
    return {
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
    }


def test_a_url_lets_its_bearer_in_as_nobody(urls: SignedUrls) -> None:
    query, _ = urls.sign(BASE, PLACE, 60)
    asked = scope(query)
    assert urls.claims(asked)
    principal = urls.check(asked, "")
    assert principal.roles == frozenset()
    assert not principal.is_admin
    assert is_signed(asked)
    assert not is_signed(scope(query))


def test_a_key_is_replaced_and_stays_as_long_as_its_urls(
    urls: SignedUrls, clock: Clock, tmp_path: Path
) -> None:
    clock.now += 10
    urls.sign(BASE, PLACE, 60)  # the first key is made
    clock.now += DAY - 1
    last, expires = urls.sign(BASE, PLACE, 3600)
    clock.now += 2
    new, _ = urls.sign(BASE, PLACE, 3600)
    assert last.partition("key=")[2][:12] != new.partition("key=")[2][:12]
    clock.now = expires - 1
    again = made(tmp_path, clock)  # as after a restart
    for query in (last, new):
        urls.check(scope(query), "")
        again.check(scope(query), "")
    clock.now += 10
    with pytest.raises(SignatureError, match="key that is not in use here"):
        urls.check(scope(last), "")


def test_the_file_of_the_keys_is_the_user_s_alone(urls: SignedUrls, tmp_path: Path) -> None:
    assert not list(tmp_path.iterdir())
    urls.sign(BASE, PLACE, 60)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_that_cannot_be_read_are_told(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "url-keys.json").write_text('{"keys": [{"id": 1}]}')
    with pytest.raises(OSError, match="remove it"):
        made(tmp_path, clock)


def test_without_its_keys_no_url_is_good(urls: SignedUrls, clock: Clock, tmp_path: Path) -> None:
    query, _ = urls.sign(BASE, PLACE, 60)
    (tmp_path / "url-keys.json").unlink()
    with pytest.raises(SignatureError, match="key that is not in use here"):
        made(tmp_path, clock).check(scope(query), "")


def test_a_key_that_another_process_makes_is_known_at_once(
    urls: SignedUrls, clock: Clock, tmp_path: Path
) -> None:
    """Also right after somebody has come with a key that there is not."""
    (tmp_path / "elsewhere").mkdir()
    strange, _ = made(tmp_path / "elsewhere", clock).sign(BASE, PLACE, 60)
    for _ in range(3):
        with pytest.raises(SignatureError, match="key that is not in use here"):
            urls.check(scope(strange), "")
    query, _ = made(tmp_path, clock).sign(BASE, PLACE, 60)
    urls.check(scope(query), "")
    clock.now += DAY + 1
    later, _ = made(tmp_path, clock).sign(BASE, PLACE, 60)
    urls.check(scope(later), "")


def test_another_server_s_url_is_not_good(urls: SignedUrls, clock: Clock, tmp_path: Path) -> None:
    """Also one that has the same keys, as a copy of its state folder would."""
    query, _ = urls.sign(BASE, PLACE, 60)
    copy = SignedUrls(KeyRing(tmp_path / "url-keys.json", DAY, 3600, clock), None, clock)
    copy.load()
    with pytest.raises(SignatureError, match=r"made for another than https://other\.example\.org"):
        copy.check(scope(query), "other.example.org")
    copy.check(scope(query), "NODE.example.org")


@given(st.binary(max_size=200))
def test_no_query_makes_it_fail(query: bytes) -> None:
    urls = SignedUrls(KeyRing(Path("/nonexistent/keys"), DAY, 3600))
    asked = scope("")
    asked["query_string"] = b"signature=" + query
    with pytest.raises(SignatureError):
        urls.check(asked, "node")


def test_logs_do_not_show_signatures(urls: SignedUrls) -> None:
    query, _ = urls.sign(BASE, PLACE, 60)
    signature = query.rpartition("signature=")[2]
    assert len(signature) == 64
    shown = redacted(f'GET "{BASE}{PLACE}a?{query}" failed')
    assert signature not in shown
    assert urlsplit(BASE).netloc in shown
