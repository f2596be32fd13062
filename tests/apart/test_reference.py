"""Runs at a broker of the reference dialect that shares nothing with the service.

The broker is the tests' fake of the Java one: its containers are plain processes in folders of their own, and
it is told no ``file:`` URL. Which programs an image has is its ``PATH``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.aggregator.conftest import AggregatorStarter, start_aggregator
from tests.apart.conftest import ONLY_WEB
from tests.apart.test_runs import fetched, sh, text_of, uploads
from tests.federation.fake_calycopis import FakeCalycopis
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter
from tests.waiting import until
from wes_bridge.cli.flow import reasons

__all__ = ["start_aggregator"]
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

    def output_of(self, run: dict[str, Any]) -> Path:
        """The output directory of the one task of a run."""
        (found,) = (self.service.state / "workspace" / run["run_id"] / "tasks").glob("*/out*")
        return found

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
    apart.broker.as_files = apart.broker.root_is_closed = False


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
    found = site.output_of(run)
    assert (found / "caf\udce9").exists()
    folder = found / "d"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert names == {
        "-run", ".hidden", "a b", "a b/#%:;.txt", "empty", "new\nline", "new\nline/link", "new\nline/x",
        "zeros",
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


def test_many_files_and_folders_go_together(site: Site, tmp_path: Path) -> None:
    """The broker makes a container for each download, by one thread."""
    files = []
    for number in range(12):
        path = tmp_path / f"part {number:02}.txt"
        path.write_text(f"{number}\n")
        files.append({"class": "File", "path": str(path)})
    (tmp_path / "run.sh").write_text('#!/bin/sh\ncat "$@"\n')
    (tmp_path / "run.sh").chmod(0o755)
    document = sh('"$0" "$@"', {"f": "File[]"}, {"o": "stdout"}, stdout="o.txt")
    document["baseCommand"] = []
    document["inputs"]["s"] = {"type": "File", "inputBinding": {"position": -1}}
    run = site.done(document, {"f": files, "s": {"class": "File", "path": str(tmp_path / "run.sh")}})
    assert text_of(run["outputs"]["o"]) == "".join(f"{number}\n" for number in range(12))
    assert [location.split("/")[-1].partition("?")[0] for location in site.locations()] == ["script", "all"]


def test_an_image_that_can_unpack_nothing_is_a_reason(site: Site, tmp_path: Path) -> None:
    site.only("curl")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").touch()
    document = sh('ls "$1"', {"d": "Directory"}, {})
    run = site.run(document, {"d": {"class": "Directory", "path": str(tmp_path / "d")}})
    assert "neither tar nor python3, to unpack its inputs" in " ".join(reasons(site.service.client, run))


def test_a_time_limit_is_kept_and_half_an_output_comes(site: Site) -> None:
    run = site.run(sh("echo half > o; sleep 60", {}, {}, requirements={"ToolTimeLimit": {"timelimit": 1}}))
    assert run["state"] == "EXECUTOR_ERROR"
    assert "time limit of 1 s" in " ".join(reasons(site.service.client, run))
    found = site.output_of(run)
    assert (found / "o").read_text() == "half\n"


def test_a_container_that_is_killed_is_told(site: Site) -> None:
    site.broker.kill_after = 1.5
    told = site.told(sh("sleep 60", {}, {}))
    assert "ended without a word from the command: killed, out of memory" in told


def test_a_cancelled_run_ends_its_command_and_takes_nothing_any_more(site: Site, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    (tmp_path / "w.cwl").write_text(json.dumps(sh(script, {}, {})))
    client = site.service.client
    run_id = client.submit(tmp_path / "w.cwl", None)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    parcels = (site.service.state / "parcels").iterdir()
    (link,) = [one for one in parcels if (one / "began").exists()]  # another may have come too late
    text = (link / "script").read_text()
    client.cancel(run_id)
    client.wait(run_id, timeout=60)
    assert client.run(run_id)["state"] == "CANCELED"
    until(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))
    until(lambda: not os.path.lexists(link))
    before, after = re.findall("wb_(?:before|after)='?([^';]*)'?;", text)[:2]
    answer = requests.put(f"{before}out.tar{after}", data=b"late", timeout=30)
    assert answer.status_code == 410
    assert requests.put(f"{before}alive{after}", data=b"", timeout=30).text == "stop\n"


def test_pipes_and_sockets_and_links_out_of_the_output(site: Site, tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("secret\n")
    script = f"mkfifo pipe; ln -s {tmp_path}/canary out; ln -s ../../../.. up; ln -s / root; echo fine > o"
    document = sh(script, {}, {"o": {"type": "File", "outputBinding": {"glob": "o"}}})
    run = site.done(document)
    found = site.output_of(run)
    assert sorted(path.name for path in found.iterdir()) == ["o", "pipe"]
    document["outputs"]["o"]["outputBinding"]["glob"] = "pipe"
    assert "named pipe" in site.told(document)


@pytest.mark.parametrize("root_is_closed", [False, True])
def test_what_is_written_of_paths_is_understood(
    site: Site, root_is_closed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image whose user may not write at ``/`` has all of it elsewhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    site.broker.root_is_closed = root_is_closed
    said = '{"o": {"class": "File", "path": "%s/x.txt"}}'
    text = 'it\'s $(inputs.f.path) "quoted" `not run` \\\\ *\n'
    document = sh(
        f'cat "$1" given.txt > x.txt; printf \'{said}\' "$HOME" > cwl.output.json',
        {"f": "File"},
        {"o": "File"},
        requirements={
            "InitialWorkDirRequirement": {"listing": [{"entryname": "given.txt", "entry": text}]},
        },
    )
    (tmp_path / "in.txt").write_text("hello\n")
    run = site.done(document, {"f": {"class": "File", "path": str(tmp_path / "in.txt")}})
    lines = text_of(run["outputs"]["o"]).splitlines()
    assert lines[0] == "hello"
    assert lines[1].startswith("it's /")
    assert lines[1].endswith(' "quoted" `not run` \\ *')
    assert str(tmp_path / "tmp").rpartition("/")[0] in lines[1] if root_is_closed else "/wb-" in lines[1]


@pytest.mark.parametrize("shell", ["bash", "busybox"])
def test_each_shell_runs_the_script(site: Site, shell: str) -> None:
    site.only("curl", "tar", "head", "printf", "env")
    place = Path(str(site.broker.path)) / "sh"
    place.unlink()
    place.symlink_to(shutil.which(shell) or pytest.skip(f"{shell} is not installed here"))
    out = {"o": {"type": "Directory", "outputBinding": {"glob": "d"}}, "s": "stdout"}
    run = site.done(sh(ODD + 'echo "it\'s $HOME"', {}, out, stdout="s.txt"))
    assert text_of(run["outputs"]["s"]).startswith("it's /")
    assert len(run["outputs"]["o"]["listing"]) == 6


def test_nothing_is_sent_again_to_an_engine_that_takes_the_run_up(
    start_service: Starter, tmp_path: Path
) -> None:
    """The service is killed while the command runs; the output comes to the one that follows."""
    broker = FakeCalycopis(tmp_path / "volumes", tick=0.2)
    told = {"name": "java", "url": broker.url, "dialect": "reference", "shares_files": False}
    settings = {"nodes": [], "brokers": [told], "engine": {"default_image": "alpine", "offer_deadline": 20}}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = Service(tmp_path / "state", settings, port=port)
    try:
        script = f"touch {tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo done"
        (tmp_path / "w.cwl").write_text(json.dumps(sh(script, {}, {"o": "stdout"}, stdout="o.txt")))
        run_id = service.client.submit(tmp_path / "w.cwl", None)
        until((tmp_path / "runs").exists)
        service.die()
        (tmp_path / "go").touch()
        service = Service(tmp_path / "state", settings, port=port)
        service.client.wait(run_id, timeout=120)
        run = service.client.run(run_id)
        assert run["state"] == "COMPLETE", list(reasons(service.client, run))
        assert text_of(run["outputs"]["o"]) == "done\n"
        assert [code for _, code in broker.containers].count(0) == 1  # one may start too early
    finally:
        service.stop()
        broker.close()


def test_one_aggregator_before_both_kinds_of_broker(
    start_service: Starter, start_node: NodeStarter, start_aggregator: AggregatorStarter, tmp_path: Path
) -> None:
    """Each gets only requests in its own dialect: a Java broker ignores what it does not know of another. The
    outer aggregator finds out what is behind it: an aggregator, which is told what its brokers speak."""
    broker = FakeCalycopis(tmp_path / "volumes", tick=0.2)
    node = start_node(name="native", **ONLY_WEB)
    behind = [
        {"name": "native", "url": node.url},
        {"name": "java", "url": broker.url, "dialect": "reference"},
    ]
    inner = start_aggregator(brokers=behind, name="inner")
    aggregator = start_aggregator(brokers=[{"name": "inner", "url": inner.url, "dialect": "auto"}])
    told = [
        {
            "name": "site",
            "url": aggregator.url,
            "shares_files": False,
            "hosts": [node.url.partition("://")[2]],
        },
        {"name": "site-java", "url": aggregator.url, "shares_files": False, "dialect": "reference"},
    ]
    service = start_service(
        nodes=[],
        brokers=told,
        engine={"default_image": "alpine", "offer_deadline": 20},
        fetch={"private_hosts": ["127.0.0.0/8"]},
    )
    site = Site(service, broker, tmp_path)
    job = uploads(site, tmp_path)  # type: ignore[arg-type]
    document = sh('cat "$1"; ls "$2"', {"f": "File", "d": "Directory"}, {"o": "stdout"}, stdout="o.txt")
    for where in ("site", "site-java"):
        (tmp_path / "w.cwl").write_text(json.dumps(document))
        run = service.run(tmp_path / "w.cwl", job, engine_parameters={"policy.only": where})
        assert run["state"] == "COMPLETE", list(reasons(service.client, run))
        assert text_of(run["outputs"]["o"]) == "hello\na b\ndeep\n"
    assert [code for _, code in broker.containers].count(0) == 1
    assert all(item["location"].startswith("http") for one in broker.requests for item in one["data"])
    assert {one["executable"]["command"][0] for one in broker.requests} == {"sh"}
    broker.close()
