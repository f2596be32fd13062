"""Runs at a broker of the reference dialect that shares nothing with the service.

The broker is the tests' fake of the Java one: its containers are plain processes in folders of their own, and
it is told no ``file:`` URL. Which programs an image has is its ``PATH``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.apart.test_runs import fetched, sh, text_of, uploads
from tests.federation.fake_calycopis import FakeCalycopis
from tests.service.conftest import Service, Starter
from tests.waiting import until
from wes_bridge.cli.flow import reasons

BASE = ["sh", "mkdir", "cat", "rm", "sleep", "ln", "cp", "mv", "wc", "chmod", "readlink", "echo", "true"]
"""What nearly every image has, and nothing that could send."""


class Site:
    """A service and its one broker."""

    def __init__(self, service: Service, broker: FakeCalycopis, folder: Path) -> None:
        self.service = service
        self.broker = broker
        self._folder = folder

    def run(self, document: dict[str, Any], job: dict[str, Any] | None = None) -> dict[str, Any]:
        (self._folder / "w.cwl").write_text(json.dumps(document))
        return self.service.run(self._folder / "w.cwl", job)

    def done(self, document: dict[str, Any], job: dict[str, Any] | None = None) -> dict[str, Any]:
        run = self.run(document, job)
        assert run["state"] == "COMPLETE", (list(reasons(self.service.client, run)), self.broker.said[-3:])
        return run

    def told(self, document: dict[str, Any]) -> str:
        run = self.run(document)
        assert run["state"] != "COMPLETE"
        return " ".join(reasons(self.service.client, run))

    def only(self, *programs: str) -> None:
        """What images have beside the usual."""
        folder = self._folder / "bin"
        folder.mkdir()
        for name in (*BASE, *programs):
            found = shutil.which(name)
            if found is None:
                pytest.skip(f"{name} is not installed here")
            (folder / name).symlink_to(os.path.realpath(found) if name != "python3" else found)
        self.broker.path = str(folder)

    def locations(self) -> list[str]:
        return [item["location"] for request in self.broker.requests for item in request["data"]]


@pytest.fixture(scope="module")
def apart(start_service: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("java")
    broker = FakeCalycopis(folder / "volumes", tick=0.2)
    told = {"name": "java", "url": broker.url, "dialect": "reference", "shares_files": False}
    service = start_service(
        nodes=[], brokers=[told], engine={"default_image": "alpine", "offer_deadline": 20}
    )
    yield Site(service, broker, folder)
    broker.close()


@pytest.fixture
def site(apart: Site, tmp_path: Path) -> Iterator[Site]:
    apart.broker.requests.clear()
    yield Site(apart.service, apart.broker, tmp_path)
    apart.broker.path = apart.broker.kill_after = None
    apart.broker.as_files = False


def chain() -> dict[str, Any]:
    first = sh(
        'cat "$1" "$1".idx; cd "$2"; find . -type f | LC_ALL=C sort; echo told >&2',
        {"f": "File", "d": "Directory"},
        {"o": "stdout"},
        stdout="first.txt",
    )
    first["inputs"]["f"]["secondaryFiles"] = [".idx"]
    second = sh('cat "$1"; echo $2', {"f": "File", "n": "int"}, {"o": "stdout"}, stdout="second.txt")
    third = sh(
        'mkdir -p out/x out/empty; cp "$1" out/x/f; chmod 755 out/x/f; ln -s x/f out/l; ln -s "$1" out/given',
        {"f": "File"},
        {"o": {"type": "Directory", "outputBinding": {"glob": "out"}}},
    )
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"f": {"type": "File", "secondaryFiles": [".idx"]}, "d": "Directory", "n": "int[]"},
        "outputs": {
            "all": {"type": "File[]", "outputSource": "b/o"},
            "dir": {"type": "Directory", "outputSource": "c/o"},
        },
        "steps": {
            "a": {"run": first, "in": {"f": "f", "d": "d"}, "out": ["o"]},
            "b": {"run": second, "scatter": "n", "in": {"f": "a/o", "n": "n"}, "out": ["o"]},
            "c": {"run": third, "in": {"f": "a/o"}, "out": ["o"]},
        },
    }


@pytest.mark.parametrize("as_files", [False, True])
def test_a_chain_of_files_and_folders(site: Site, tmp_path: Path, as_files: bool) -> None:
    site.broker.as_files = as_files
    job = uploads(site, tmp_path)  # type: ignore[arg-type]
    (tmp_path / "in.txt.idx").write_text("index\n")
    job["f"]["secondaryFiles"] = [{"class": "File", "path": str(tmp_path / "in.txt.idx")}]
    run = site.done(chain(), job | {"n": [1, 2]})
    before = "hello\nindex\n./a b\n./deep/c#%.txt\n"
    assert sorted(map(text_of, run["outputs"]["all"])) == [f"{before}{number}\n" for number in (1, 2)]
    given, link, inner, empty = [
        next(item for item in run["outputs"]["dir"]["listing"] if item["basename"] == name)
        for name in ("given", "l", "x", "empty")
    ]
    assert text_of(link) == text_of(given) == before
    assert empty["listing"] == []
    assert fetched(inner["listing"][0]).headers["WES-Bridge-Executable"] == "true"
    tasks = {task["name"]: task for task in site.service.client.tasks(run["run_id"])}
    assert requests.get(tasks["a"]["stderr"], timeout=30).text == "told\n"
    assert tasks["a"]["exit_code"] == 0
    assert all(location.startswith("http://") and len(location) <= 255 for location in site.locations())
    until(lambda: not list((site.service.state / "parcels").iterdir()))


ODD = r"""
mkdir -p 'd/a b' d/empty 'd/new
line'
printf one > 'd/a b/#%:;.txt'; printf two > 'd/new
line/x'; printf '#!/bin/sh\n' > d/-run; chmod 755 d/-run; printf bytes > "$(printf 'caf\351')"
ln -s '../a b/#%:;.txt' 'd/new
line/link'; head -c 100000 /dev/zero > d/zeros; printf hidden > d/.hidden
"""
WAYS = [
    ("curl", ["curl", "tar"]),
    ("wget", ["wget", "tar"]),
    ("python3", ["python3"]),
    ("nc", ["busybox", "tar", "sha256sum"]),
    ("bash", ["bash", "tar"]),
    ("curl, no tar", ["curl"]),
]


@pytest.mark.parametrize("programs", [programs for _, programs in WAYS], ids=[name for name, _ in WAYS])
def test_each_way_to_send_brings_all_names_and_kinds(site: Site, programs: list[str]) -> None:
    site.only(*programs, "head", "printf")
    out = {"o": {"type": "Directory", "outputBinding": {"glob": "d"}}}
    run = site.done(sh(ODD, {}, out))
    (found,) = site.service.state.glob(f"**/{run['run_id']}/tasks/*/out")
    assert (found / "caf\udce9").exists()
    folder = found / "d"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {
        "-run", ".hidden", "a b", "a b/#%:;.txt", "empty", "new\nline", "new\nline/link", "new\nline/x", "zeros",
    }  # fmt: skip
    modes = {name: (folder / name).stat().st_mode & 0o111 for name in ("-run", "zeros")}
    assert (modes["-run"], modes["zeros"]) == (0o111, 0)
    assert str((folder / "new\nline/link").readlink()) == "../a b/#%:;.txt"
    assert (folder / "zeros").stat().st_size == 100000


def test_an_image_that_can_send_nothing_is_a_reason_and_runs_nothing(site: Site, tmp_path: Path) -> None:
    site.only()
    told = site.told(sh(f"echo ran > {tmp_path}/canary", {}, {}))
    assert "has nothing that could send its output" in told
    assert "curl, GNU wget, python3" in told
    assert not (tmp_path / "canary").exists()


def test_a_command_that_fails_is_told_with_its_words(site: Site) -> None:
    document = sh("echo half > o.txt; echo what went wrong >&2; exit 3", {}, {})
    document["outputs"] = {"o": {"type": "File?", "outputBinding": {"glob": "o.txt"}}}
    run = site.run(document)
    assert run["state"] == "EXECUTOR_ERROR"
    (task,) = site.service.client.tasks(run["run_id"])
    assert task["exit_code"] == 3
    assert requests.get(task["stderr"], timeout=30).text == "what went wrong\n"
    assert text_of(run["outputs"]["o"]) == "half\n"
