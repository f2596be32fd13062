"""What a service hands out to nodes that see no disk of its own, as somebody asks for it who should not."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from tests.apart.conftest import Sites
from wes_bridge.data.handing_out import HandingOut, signed_urls
from wes_bridge.model.manifest import EntryKind, read_manifest


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A folder with what there may be, and a canary beside it."""
    folder = tmp_path / "given"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a b#%").write_text("inside\n")
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    (tmp_path / "canary").write_text("secret\n")
    (folder / "out").symlink_to("../canary")
    (folder / "way").symlink_to("..")
    os.mkfifo(folder / "pipe")
    return folder


def given(sites: Sites, path: Path, *, directory: bool) -> str:
    handing = HandingOut(signed_urls(sites.service.state, None), lambda: sites.service.url)
    return handing.url(uuid4().hex, str(path), directory=directory)


def got(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=30)


def test_a_file_by_its_url_and_in_parts(sites: Sites, ground: Path) -> None:
    url = given(sites, ground / "deep" / "a b#%", directory=False)
    assert got(url).text == "inside\n"
    part = got(url, Range="bytes=2-4")
    assert (part.status_code, part.text) == (206, "sid")
    assert requests.head(url, timeout=30).headers["content-length"] == "7"
    assert got(given(sites, ground / "tool", directory=False)).headers["WES-Bridge-Executable"] == "true"


def test_a_folder_by_its_manifest(sites: Sites, ground: Path) -> None:
    base, _, query = given(sites, ground, directory=True).partition("?")
    entries = {entry.path: entry for entry in read_manifest([got(f"{base}?{query}").content])}
    assert {path: entry.kind for path, entry in entries.items()} == {
        "deep": EntryKind.DIRECTORY,
        "deep/a b#%": EntryKind.FILE,
        "out": EntryKind.LINK,
        "tool": EntryKind.FILE,
        "way": EntryKind.LINK,
    }
    assert entries["deep/a b#%"].size == 7
    assert got(f"{base}deep/a%20b%23%25?{query}").text == "inside\n"


@pytest.mark.parametrize("inside", ["out", "way/canary", "pipe", "deep", "nothing", "tool/x"])
def test_no_link_is_followed_and_nothing_is_waited_for(sites: Sites, ground: Path, inside: str) -> None:
    base, _, query = given(sites, ground, directory=True).partition("?")
    answer = got(f"{base}{inside}?{query}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.parametrize("way", ["../canary", "%2e%2e/canary", "..%2fcanary", "deep/../../canary", "/canary"])
def test_a_signature_is_for_its_folder_only(sites: Sites, ground: Path, way: str) -> None:
    base, _, query = given(sites, ground, directory=True).partition("?")
    request = requests.Request("GET", "http://x").prepare()
    request.url = f"{base}{way}?{query}"
    with requests.Session() as session:
        answer = session.send(request, timeout=30)
    assert answer.status_code in (400, 403, 404)
    assert "secret" not in answer.text


def test_a_signature_is_for_its_file_only(sites: Sites, ground: Path) -> None:
    url = given(sites, ground / "tool", directory=False)
    for other in (url.replace("/tool?", "/deep/?"), url.replace("/given/tool?", "/canary?")):
        answer = got(other)
        assert answer.status_code == 403
        assert "is signed for" in answer.text
    for method in ("PUT", "POST", "DELETE"):
        assert requests.request(method, url, timeout=30).status_code in (403, 405)
    assert (ground / "tool").exists()
