"""Two nodes, an object store and a service at sites of their own: no path and no user in common, only HTTP.

The sites are those of ``separation.py``. Where these cannot be made, the tests say what is missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.apart.federation import NODES, PORT, Federation, federation
from tests.apart.separation import REPOSITORY, Site, why_not
from tests.service.conftest import Starter
from tests.waiting import until
from wes_bridge import WESClient
from wes_bridge.cli.flow import reasons

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DEMO = REPOSITORY / "cwl" / "demo"
WIDTH = 6


@pytest.fixture(scope="module", autouse=True)
def need_sites() -> None:
    problem = why_not()
    if problem is None and shutil.which("versitygw") is None:
        problem = "no versitygw here (.ci/run installs it where there is Go)"
    if problem is not None:
        pytest.skip(problem)


@pytest.fixture
def sites(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Federation]:
    """A federation; what the test asks for goes out from the client's site."""
    settings = getattr(request, "param", {})
    with federation(tmp_path / "sites", **settings) as found, found.client.inside():
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(found.authority.certificate))
        yield found


@pytest.fixture
def client(sites: Federation) -> Iterator[WESClient]:
    with WESClient(sites.url, token=sites.token) as found:
        yield found


def kept_at(sites: Federation, name: str) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {sites.node_key(name)}"}
    answer = requests.get(f"{sites.nodes[name].url}/status", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["kept"]


def content(output: Any) -> Any:
    """What there is to compare of downloaded outputs: names and checksums of files, values of the rest."""
    if isinstance(output, list):
        return [content(item) for item in output]
    if not isinstance(output, dict):
        return output
    if output.get("class") == "Directory":
        top = Path(output["path"])
        return {str(path.relative_to(top)): digest(path) for path in sorted(top.rglob("*")) if path.is_file()}
    if output.get("class") == "File":
        beside = [content(item) for item in output.get("secondaryFiles", ())]
        return [output["basename"], digest(Path(output["path"])), beside]
    return {key: content(item) for key, item in output.items()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def at(site: Site, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.words(command), env=site.environment(), capture_output=True, text=True, timeout=60, check=False
    )


def test_the_sites_share_nothing(sites: Federation) -> None:
    """The harness holds what it promises, or the other tests here prove nothing."""
    places = {name: sites.nodes[name].site for name in NODES} | {"service": sites.service.site}
    assert len({site.user for site in places.values()}) == len(places)
    for name, site in places.items():
        own = at(site, "ls", "/tmp")
        assert [word for word in own.stdout.split() if word.startswith("site-")] == [f"site-{name}"]
        for other in places.values():
            if other is not site:
                assert at(site, "ls", str(other.place)).returncode != 0
                assert at(site, "ls", str(other.folder)).returncode != 0
    one, two = places["one"], places["two"]
    reach = "import socket,sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
    assert at(one, sys.executable, "-c", reach, two.address, str(PORT)).returncode == 0
    assert at(one, sys.executable, "-c", reach, "192.0.2.1", "80").returncode != 0
    assert "default" not in at(one, "ip", "route").stdout


def test_the_radio_survey(
    sites: Federation, client: WESClient, start_service: Starter, tmp_path: Path
) -> None:
    """The demonstration's workflow gives what it gives on one node with a disk; its outputs are objects."""
    for package in ("astropy", "astrodendro", "astroquery", "matplotlib"):
        pytest.importorskip(package)
    inputs = tmp_path / "inputs"
    words = [sys.executable, str(DEMO / "get_inputs.py"), str(inputs), "--columns", "3", "--rows", "2"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    run_id = client.submit(DEMO / "workflow.cwl", inputs / "job.json")
    assert client.wait(run_id, timeout=600) == "COMPLETE", list(reasons(client, client.run(run_id)))
    outputs = client.download(run_id, tmp_path / "apart")

    nodes = {task["node"] for task in client.tasks(run_id)} - {None}
    assert nodes == set(NODES)
    for name in NODES:
        kept = kept_at(sites, name)
        assert kept["served"] > 0, (name, kept)
        until(lambda at=name: kept_at(sites, at)["outputs"] == 0)
    objects = sites.objects("results") / run_id / "outputs"
    there = {path.name: digest(path) for path in objects.rglob("*") if path.is_file()}
    for name in ("picture", "table", "catalogue", "mask"):
        assert there[outputs[name]["basename"]] == digest(Path(outputs[name]["path"])), name

    here = start_service()
    run = here.run(DEMO / "workflow.cwl", json.loads((inputs / "job.json").read_text()) | image(inputs))
    assert run["state"] == "COMPLETE", list(reasons(here.client, run))
    expected = here.client.download(run["run_id"], tmp_path / "here")
    assert content(outputs) == content(expected)


def image(inputs: Path) -> dict[str, Any]:
    job = json.loads((inputs / "job.json").read_text())
    return {"image": {"class": "File", "path": str(inputs / job["image"]["location"])}}


# ---- a site that is gone ------------------------------------------------------------------------


def noted(name: str, script: str) -> str:
    """A command that first notes at its site that it runs, whatever becomes of it and of what it makes."""
    return f'for place in /tmp/site-*; do echo "{name} $1" >> $place/ran; done; {script}'


def survey() -> dict[str, Any]:
    """Three stages; the third waits at its site, so that data of the first two is there meanwhile."""

    def tool(name: str, script: str, inputs: dict[str, str]) -> dict[str, Any]:
        words = {
            word: {"type": kind, "inputBinding": {"position": place}}
            for place, (word, kind) in enumerate(inputs.items())
        }
        return {
            "class": "CommandLineTool",
            "baseCommand": ["sh", "-c", noted(name, script), "sh"],
            "inputs": words,
            "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made"}}},
        }

    make = 'i=0; while [ $i -lt 20000 ]; do echo "$1 $i"; i=$((i + 1)); done > made'
    turn = 'sort -r "$2" > made'
    wait = 'until [ -e /tmp/site-*/go ]; do sleep 0.1; done; { cksum < "$2"; echo "$1"; } > made'
    each = {"scatter": ["n", "f"], "scatterMethod": "dotproduct", "out": ["made"]}
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"n": "int[]"},
        "outputs": {"all": {"type": "File[]", "outputSource": "c/made"}},
        "steps": {
            "a": {
                "run": tool("a", make, {"n": "int"}),
                "scatter": "n",
                "in": {"n": "n"},
                "out": ["made"],
            },
            "b": {"run": tool("b", turn, {"n": "int", "f": "File"}), "in": {"n": "n", "f": "a/made"}, **each},
            "c": {"run": tool("c", wait, {"n": "int", "f": "File"}), "in": {"n": "n", "f": "b/made"}, **each},
        },
    }


def expected_of(number: int) -> str:
    lines = sorted((f"{number} {i}\n" for i in range(20000)), reverse=True)
    summed = subprocess.run(["cksum"], input="".join(lines), capture_output=True, text=True, check=True)
    return f"{summed.stdout}{number}\n"


def ran(site: Site) -> Counter[str]:
    """How often each command ran at a site."""
    path = site.folder / "ran"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


IMPATIENT = {
    "node": {"sandbox": "none", "max_running": WIDTH},
    "service": {"engine": {"lost_after": 5.0, "patience": 60.0, "offer_deadline": 5.0, "bring_at_once": 0}},
}
"""A node that is silent is given up soon, and nothing that a step has made is brought before it is needed."""


@pytest.mark.parametrize("sites", [IMPATIENT], indirect=True)
def test_a_site_is_gone_with_intermediate_data(
    sites: Federation, client: WESClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is gone, too. The run is COMPLETE, its outputs are right, and what was not lost runs once."""
    monkeypatch.setenv("LC_ALL", "C")
    (tmp_path / "w.cwl").write_text(json.dumps(survey()))
    one, two = (sites.nodes[name].site for name in NODES)
    run_id = client.submit(tmp_path / "w.cwl", {"n": list(range(WIDTH))})
    third = {f"c {number}" for number in range(WIDTH)}
    until(lambda: third <= set(ran(one)) | set(ran(two)), 120)
    lost = ran(one)
    assert any(word.startswith(("a ", "b ")) for word in lost), "nothing was made there"
    assert lost.keys() & third, "nothing runs there"

    one.die()
    (two.folder / "go").touch()
    assert client.wait(run_id, timeout=300) == "COMPLETE", list(reasons(client, client.run(run_id)))
    outputs = client.download(run_id, tmp_path / "out")
    texts = [Path(output["path"]).read_text() for output in outputs["all"]]
    assert texts == [expected_of(number) for number in range(WIDTH)]

    happened = lost + ran(two)
    assert happened.keys() == {f"{step} {number}" for step in "abc" for number in range(WIDTH)}
    again = {word for word, times in happened.items() if times > 1}
    assert max(happened.values()) == 2
    needed = needed_again(lost)
    freed = {word.replace("b", "a") for word in needed if word.startswith("b")}  # since b had read it
    assert needed <= again <= needed | freed


def needed_again(lost: Counter[str]) -> set[str]:
    """Of what has run at the lost site: the third steps, which ran when it was lost, and what they need."""
    needed: set[str] = set()
    for number in range(WIDTH):
        for step in "cba":
            if f"{step} {number}" not in lost:
                break  # it was made elsewhere
            needed.add(f"{step} {number}")
    return needed
