"""Outputs that stay at the node that made them until somebody needs them."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.apart.conftest import ONLY_WEB
from tests.apart.sharing import Here, Pool
from tests.apart.workflows import FOLDER, at, found, sh, workflow
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter
from tests.waiting import until
from wes_bridge.cli.flow import reasons

SIZE = 3_000_000
MAKE = sh(f"head -c {SIZE} /dev/zero | tr '\\0' a > big", {}, {"o": found("big")})
COUNT = sh('wc -c < "$1"', {"f": "File"}, {"o": "stdout"}, stdout="n.txt")
COPY = sh('cp "$1" copy', {"f": "File"}, {"o": found("copy")})


@pytest.fixture(scope="module")
def pool(start_service: Starter, start_node: NodeStarter, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return Pool(start_service, start_node, lambda: tmp_path_factory.mktemp("node"))


@pytest.fixture
def here(pool: Pool) -> Iterator[Callable[..., Here]]:
    """Makes sites, or gives those that tests share."""
    given: list[Here] = []

    def give(**settings: Any) -> Here:
        given.append(pool.give(**settings))
        return given[-1]

    yield give
    for sites in given:
        pool.take_back(sites)


TWO_SITES = workflow(
    {},
    {"n": "File b/o"},
    {"a": at("one", MAKE, {}), "b": at("two", COUNT, {"f": "a/o"})},
)


def test_what_another_node_needs_goes_there_directly(here: Callable[..., Here], tmp_path: Path) -> None:
    sites = here()
    run = sites.complete(tmp_path, TWO_SITES)
    assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    assert sites.kept("two")["fetched"] == SIZE
    assert sites.kept("one")["served"] == SIZE  # to the other node, and not to the service
    assert sites.task(run, "b")["placement"]["notes"] == ["inputs come from one directly"]


def test_an_output_of_the_run_is_brought_once(here: Callable[..., Here], tmp_path: Path) -> None:
    sites = here()
    steps = {"a": at("one", MAKE, {}), "b": at("one", COPY, {"f": "a/o"})}
    run = sites.complete(tmp_path, workflow({}, {"copy": "File b/o"}, steps))
    output = run["outputs"]["copy"]
    assert sites.text(output) == "a" * SIZE
    assert output["checksum"] == f"sha1${hashlib.sha1(b'a' * SIZE).hexdigest()}"
    assert output["size"] == SIZE
    assert (sites.kept("one")["served"], sites.kept("one")["linked"]) == (SIZE, SIZE)
    until(lambda: sites.kept("one")["outputs"] == 0)


@pytest.mark.parametrize("end", ["one", "two"])
def test_nodes_that_must_not_fetch_from_one_another(
    here: Callable[..., Here], tmp_path: Path, end: str
) -> None:
    sites = here(brokers={end: {"direct": False}})
    run = sites.complete(tmp_path, TWO_SITES)
    assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    assert sites.task(run, "b")["placement"]["notes"] == ["inputs come from one by way of the workspace"]


def test_a_node_that_may_not_read_from_the_other_gets_it_from_the_service(
    here: Callable[..., Here], start_service: Starter, start_node: NodeStarter, tmp_path: Path
) -> None:
    """It says NO; once that is known it is not asked so again."""
    one = start_node(name="one", **ONLY_WEB)
    two = start_node(name="two", **ONLY_WEB)
    sites = Here(start_service, {"one": one, "two": two})
    two.stop()
    allowed = {"data": [f"{sites.service.url}/", "data:"]}
    two = start_node(name="two", port=int(two.url.rpartition(":")[2]), **allowed)
    sites.nodes["two"] = two
    for _ in range(2):
        run = sites.complete(tmp_path, TWO_SITES)
        assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)
        notes = sites.task(run, "b")["placement"]["notes"]
        assert notes == ["inputs come from one by way of the workspace"]


@pytest.mark.parametrize(("keep", "left"), [(False, 1), (True, 7)])
def test_what_no_step_needs_is_freed(
    here: Callable[..., Here], tmp_path: Path, keep: bool, left: int
) -> None:
    """Also what a scatter and a sub-workflow have made, once they have ended; not what is needed still."""
    gate = sh(f'until [ -e {tmp_path}/go ]; do sleep 0.1; done; wc -c < "$1"', {"f": "File"}, {"o": "stdout"},
              stdout="n")  # fmt: skip
    join = sh('cat "$@" > all', {"f": "File[]"}, {"o": found("all")})
    inner = workflow(
        {"f": "File"},
        {"o": "File second/o"},
        {"first": at("one", COPY, {"f": "f"}), "second": at("one", COPY, {"f": "first/o"})},
    )
    steps = {
        "make": at("one", MAKE, {}),
        "many": at("one", COPY | {"inputs": COPY["inputs"] | {"n": "int"}}, {"f": "make/o", "n": "n"},
                   scatter="n"),
        "join": at("one", join, {"f": "many/o"}),
        "sub": {"run": inner, "in": {"f": "join/o"}, "out": ["o"]},
        "gate": at("one", gate, {"f": "sub/o"}),
    }  # fmt: skip
    sites = here(engine={"keep_intermediates": True}) if keep else here()
    document = workflow({"n": {"type": "int[]", "default": [1, 2, 3]}}, {"n": "File gate/o"}, steps)
    document["requirements"]["SubworkflowFeatureRequirement"] = {}
    running = Running(sites, tmp_path, document)
    running.until_done("sub/second")
    until(lambda: [one["state"] for one in running.tasks() if one["name"] == "gate"] == ["RUNNING"])
    until(lambda: sites.kept("one")["outputs"] == left)
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert sites.text(run["outputs"]["n"]).strip() == str(3 * SIZE)


@pytest.mark.parametrize("policy", ["earliest", "local"])
def test_a_chain_stays_where_its_data_is(here: Callable[..., Here], tmp_path: Path, policy: str) -> None:
    """Offers count what would have to move, and not what is there."""
    sites = here(engine={"transfer_rate": 0.1, "policy": policy})
    steps: dict[str, Any] = {"s0": {"run": MAKE, "in": {}, "out": ["o"]}}
    for number in range(1, 5):
        steps[f"s{number}"] = {"run": COPY, "in": {"f": f"s{number - 1}/o"}, "out": ["o"]}
    document = workflow(
        {}, {"n": "File n/o"}, {**steps, "n": {"run": COUNT, "in": {"f": "s4/o"}, "out": ["o"]}}
    )
    run = sites.complete(tmp_path, document)
    assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    assert sum(sites.moved("served").values()) < SIZE / 2
    assert sum(sites.moved("linked").values()) == 5 * SIZE


def test_outputs_that_stay_are_listed_where_they_are(here: Callable[..., Here], tmp_path: Path) -> None:
    sites = here()
    folder = sh(f"mkdir d; head -c {SIZE} /dev/zero > d/big", {}, {"o": found("d", "Directory")})
    steps = {
        "a": at("one", MAKE, {}),
        "d": at("two", folder, {}),
        "n": at("one", COUNT, {"f": "a/o"}),
    }
    document = workflow({}, {"big": "File a/o", "d": "Directory d/o", "n": "File n/o"}, steps)
    run = sites.run(tmp_path, document, engine_parameters={"outputs": "stay"})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    big, d = run["outputs"]["big"], run["outputs"]["d"]
    assert big["location"].startswith(sites.nodes["one"].url)
    assert d["location"].startswith(sites.nodes["two"].url)
    assert sum(sites.moved("served").values()) < 1000
    assert sites.text(big) == "a" * SIZE
    assert sites.text({"location": f"{d['location']}big"}) == "\0" * SIZE
    assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)  # what is small is brought
    place = big["location"].replace("/data/", "/leases/").rpartition("/")[0]
    expires = requests.get(place, timeout=30).json()["expires"]
    assert datetime.fromisoformat(expires) > datetime.now(UTC) + timedelta(days=6)


def test_a_redirected_stream_is_read_where_it_is(here: Callable[..., Here], tmp_path: Path) -> None:
    """While the run goes on, the service passes on what the node keeps; later there is nothing any more."""
    make = sh(f"head -c {SIZE} /dev/zero | tr '\\0' a", {}, {"o": "stdout"}, stdout="the text #1.txt")
    wait = sh(f'until [ -e {tmp_path}/go ]; do sleep 0.1; done; wc -c < "$1"', {"f": "File"},
              {"o": "stdout"}, stdout="n")  # fmt: skip
    sites = here()
    steps = {"make": at("one", make, {}), "wait": at("one", wait, {"f": "make/o"})}
    running = Running(sites, tmp_path, workflow({}, {"n": "File wait/o"}, steps))
    running.until_done("make")
    task = sites.task(sites.service.client.run(running.run_id), "make")
    stream = task["stdout"]
    answer = requests.get(stream, timeout=30)
    assert (answer.status_code, answer.text) == (200, "a" * SIZE)
    assert answer.headers["Content-Type"].startswith("text/plain")
    part = requests.get(stream, headers={"Range": "bytes=5-7"}, timeout=30)
    assert (part.status_code, part.text) == (206, "aaa")
    assert part.headers["Content-Range"] == f"bytes 5-7/{SIZE}"
    beyond = requests.get(stream, headers={"Range": f"bytes={SIZE}-"}, timeout=30)
    assert beyond.status_code == 416
    base = f"{sites.service.url}/ga4gh/wes/v1/runs/{running.run_id}/files/tasks"
    file = f"{base}/{quote(task['id'])}/out/the%20text%20%231.txt"
    assert requests.get(file, timeout=30).text == answer.text
    head = requests.head(stream, timeout=30)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(SIZE))
    assert running.ended()["state"] == "COMPLETE"
    gone = requests.get(stream, timeout=30)
    assert gone.status_code == 404
    assert "does not keep it any more" in gone.json()["msg"]


def test_expressions_see_what_is_elsewhere(here: Callable[..., Here], tmp_path: Path) -> None:
    """Contents, sizes, names and listings; only what is read comes."""
    folder = sh(
        f"mkdir -p d/deep; printf told > d/deep/small; head -c {SIZE} /dev/zero > d/big;"
        " ln -s deep/small d/l",
        {},
        {"o": found("d", "Directory"), "text": {"type": "string", "outputBinding": {
            "glob": "d/deep/small", "loadContents": True, "outputEval": "$(self[0].contents)"}}},
    )  # fmt: skip
    ask = {
        "class": "ExpressionTool",
        "cwlVersion": "v1.2",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {"d": {"type": "Directory", "loadListing": "deep_listing"}},
        "outputs": {"names": "string[]", "sizes": "int[]"},
        "expression": "$({names: inputs.d.listing.map(function(f){return f.basename}).sort(),"
        " sizes: inputs.d.listing.map(function(f){return f.size || 0}).sort()})",
    }
    steps = {
        "a": at("one", folder, {}),
        "b": {"run": ask, "in": {"d": "a/o"}, "out": ["names", "sizes"]},
    }
    outputs = {"names": "string[] b/names", "text": "string a/text"}
    run = here().complete(tmp_path, workflow({}, outputs, steps))
    assert run["outputs"] == {"names": ["big", "deep", "l"], "text": "told"}


def test_a_step_that_reads_the_first_bytes_only(here: Callable[..., Here], tmp_path: Path) -> None:
    """CWL v1.0 reads 64 KiB of a larger file: no more than these come."""
    tool = sh(f"head -c {SIZE} /dev/zero | tr '\\0' a > big", {}, {"o": {
        "type": "string", "outputBinding": {
            "glob": "big", "loadContents": True, "outputEval": "$(self[0].contents.length + ' read')"}}},
        requirements={"InlineJavascriptRequirement": {}}) | {"cwlVersion": "v1.0"}  # fmt: skip
    sites = here()
    run = sites.complete(tmp_path, tool)
    assert run["outputs"]["o"] == "65536 read"
    assert sum(sites.moved("served").values()) < SIZE / 2


def marked(script: str, notes: Path, name: str) -> str:
    return f"echo {name} >> {notes}; {script}"


class Running:
    """A run that waits for a file before its last step."""

    def __init__(self, sites: Here, folder: Path, document: dict[str, Any]) -> None:
        self.sites = sites
        self.gate = folder / "go"
        (folder / "w.cwl").write_text(json.dumps(document))
        self.run_id = sites.service.client.submit(folder / "w.cwl", {})

    def until_done(self, *names: str) -> None:
        until(lambda: set(names) <= {one["name"] for one in self.tasks() if one["state"] == "COMPLETE"})

    def tasks(self) -> list[dict[str, Any]]:
        return list(self.sites.service.client.tasks(self.run_id))

    def node(self, name: str) -> str:
        (node,) = [one["node"] for one in self.tasks() if one["name"] == name]
        return str(node)

    def ended(self) -> dict[str, Any]:
        self.gate.touch()
        self.sites.service.client.wait(self.run_id, timeout=120)
        run: dict[str, Any] = self.sites.service.client.run(self.run_id)
        return run


def losing(folder: Path) -> dict[str, Any]:
    """``make`` and ``copy`` leave something large; ``count`` needs the copy, when ``wait`` lets it."""
    notes = folder / "notes"
    make = sh(marked(f"head -c {SIZE} /dev/zero > big", notes, "make"), {}, {"o": found("big")})
    copy = sh(marked('cp "$1" copy', notes, "copy"), {"f": "File"}, {"o": found("copy")})
    gate = f"until [ -e {folder}/go ]; do sleep 0.1; done"
    wait = sh(gate, {}, {"o": "stdout"}, stdout="w")
    count = sh(
        marked('wc -c < "$1"', notes, "count"), {"f": "File", "w": "File"}, {"o": "stdout"}, stdout="n"
    )
    near = {"hints": {"wb:Placement": {"policy": "local"}}}
    steps = {
        "make": {"run": make, "in": {}, "out": ["o"], **near},
        "copy": {"run": copy, "in": {"f": "make/o"}, "out": ["o"], **near},
        "wait": {"run": wait, "in": {}, "out": ["o"]},
        "count": {"run": count, "in": {"f": "copy/o", "w": "wait/o"}, "out": ["o"], **near},
    }
    return workflow({}, {"n": "File count/o"}, steps)


def test_what_is_lost_with_its_node_is_made_again(here: Callable[..., Here], tmp_path: Path) -> None:
    """Only the steps whose outputs are lost and needed run again, elsewhere; the run says so."""
    running = Running(here(), tmp_path, losing(tmp_path))
    running.until_done("copy")
    assert running.node("make") == running.node("copy")  # what is there already need not be moved
    running.sites.nodes[running.node("copy")].kill()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    assert running.sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    told = (tmp_path / "notes").read_text().split()
    assert sorted(told) == ["copy", "copy", "count", "make", "make"]
    for name in ("make", "copy"):
        assert f"{name}: its output at" in "\n".join(run["run_log"]["system_logs"])


def test_what_is_lost_and_not_needed_is_not_made_again(here: Callable[..., Here], tmp_path: Path) -> None:
    document = losing(tmp_path)
    document["steps"]["count"]["in"]["f"] = "small/o"
    document["steps"]["small"] = {
        "run": sh("echo hi", {}, {"o": "stdout"}, stdout="s"),
        "in": {},
        "out": ["o"],
    }
    running = Running(here(), tmp_path, document)
    running.until_done("copy", "small")
    running.sites.nodes[running.node("copy")].kill()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    assert sorted((tmp_path / "notes").read_text().split()) == ["copy", "count", "make"]


def test_an_output_of_the_run_that_is_lost_is_made_again(here: Callable[..., Here], tmp_path: Path) -> None:
    document = losing(tmp_path)
    document["outputs"] = {
        "copy": {"type": "File", "outputSource": "copy/o"},
        "w": {"type": "File", "outputSource": "wait/o"},
    }
    del document["steps"]["count"]
    running = Running(here(), tmp_path, document)
    running.until_done("copy")
    running.sites.nodes[running.node("copy")].kill()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    assert running.sites.text(run["outputs"]["copy"]) == "\0" * SIZE


def test_another_content_the_second_time_is_told(here: Callable[..., Here], tmp_path: Path) -> None:
    """A tool that never makes the same twice: the output is what was made last, and says so."""
    document = losing(tmp_path)
    notes = tmp_path / "notes"
    script = f"(cat {notes} | wc -l; head -c {SIZE} /dev/zero) > big"
    document["steps"]["make"]["run"] = sh(marked(script, notes, "make"), {}, {"o": found("big")})
    document["outputs"] = {"o": {"type": "File", "outputSource": "make/o"}, **document["outputs"]}
    running = Running(here(), tmp_path, document)
    running.until_done("copy")
    running.sites.nodes[running.node("copy")].kill()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    text, output = running.sites.text(run["outputs"]["o"]), run["outputs"]["o"]
    assert output["checksum"] == f"sha1${hashlib.sha1(text.encode()).hexdigest()}"
    assert int(text.partition("\n")[0]) > 1
    assert "the step has made a different big when it ran again" in "\n".join(run["run_log"]["system_logs"])


def test_what_cannot_be_made_again_ends_the_run_with_the_reason(
    here: Callable[..., Here], tmp_path: Path
) -> None:
    document = losing(tmp_path)
    for name in ("make", "copy"):
        document["steps"][name]["hints"] = {"wb:Placement": {"only": "one"}}
    document["steps"]["wait"]["hints"] = document["steps"]["count"]["hints"] = {
        "wb:Placement": {"only": "two"}
    }
    running = Running(here(engine={"patience": 1}), tmp_path, document)
    running.until_done("copy")
    running.sites.nodes["one"].kill()
    run = running.ended()
    assert run["state"] == "SYSTEM_ERROR"
    told = "\n".join(run["run_log"]["system_logs"])
    assert "copy: its output is lost" in told, told
    assert "the step cannot run again: no node can run this step" in told, told


def test_the_output_at_a_node_was_removed(here: Callable[..., Here], tmp_path: Path) -> None:
    """The node is there, and does not know the output any more: somebody has freed it."""
    running = Running(here(), tmp_path, losing(tmp_path))
    running.until_done("copy")
    node = running.sites.nodes[running.node("copy")]
    for booking in running.sites.bookings(running.node("copy")):
        if "kept" not in booking:
            continue
        place = f"{node.url}/data/{booking['session']}/{booking['kept']}"
        assert requests.delete(place, timeout=30).status_code == 204
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    assert running.sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    assert sorted((tmp_path / "notes").read_text().split()) == ["copy", "copy", "count", "make", "make"]


def test_a_signature_that_is_good_no_more_is_renewed(here: Callable[..., Here], tmp_path: Path) -> None:
    """A node's keys were removed meanwhile: the output is fetched all the same, and nothing runs again."""
    document = losing(tmp_path)
    document["steps"]["make"]["hints"] = {"wb:Placement": {"only": "one"}}
    document["outputs"] = {
        "o": {"type": "File", "outputSource": "make/o"},
        "w": {"type": "File", "outputSource": "wait/o"},
    }
    document["steps"]["wait"]["hints"] = {"wb:Placement": {"only": "two"}}
    for name in ("copy", "count"):
        del document["steps"][name]
    running = Running(here(), tmp_path, document)
    running.until_done("make")
    node = running.sites.nodes["one"]
    node.config["port"] = int(node.url.rpartition(":")[2])
    node.kill(signal.SIGTERM)
    (node.state / "url-keys.json").unlink()
    node.start()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    assert running.sites.text(run["outputs"]["o"]) == "\0" * SIZE
    assert (tmp_path / "notes").read_text().split() == ["make"]


def test_a_service_that_was_killed_knows_what_is_where(here: Callable[..., Here], tmp_path: Path) -> None:
    running = Running(here(), tmp_path, losing(tmp_path))
    running.until_done("copy")
    service = running.sites.service
    settings = json.loads((service.state.parent / f"{service.state.name}.yaml").read_text())
    service.die()
    running.sites.service = Service(service.state, settings)
    try:
        run = running.ended()
        assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
        assert running.sites.text(run["outputs"]["n"]).strip() == str(SIZE)
        assert sorted((tmp_path / "notes").read_text().split()) == ["copy", "count", "make"]
        assert sum(running.sites.moved("served").values()) < SIZE / 2  # count has run where the copy is
    finally:
        running.sites.service.stop()


@pytest.mark.parametrize("cancelled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_service_that_dies_while_a_lost_output_is_made_again(
    here: Callable[..., Here], tmp_path: Path, cancelled: bool
) -> None:
    """The next one follows the session in which it is made, or releases it: nothing runs a third time."""
    document, notes = losing(tmp_path), tmp_path / "notes"
    hold = f"[ $(grep -c make {notes}) = 1 ] || until [ -e {tmp_path}/again ]; do sleep 0.1; done"
    script = marked(f"{hold}; head -c {SIZE} /dev/zero > big", notes, "make")
    document["steps"]["make"]["run"] = sh(script, {}, {"o": found("big")})
    running = Running(here(), tmp_path, document)
    sites = running.sites
    running.until_done("copy")
    lost = running.node("copy")
    sites.nodes[lost].kill()
    (other,) = [name for name in sites.nodes if name != lost]
    running.gate.touch()
    until(lambda: notes.read_text().split().count("make") == 2)  # it is being made again
    service = sites.service
    settings = json.loads((service.state.parent / f"{service.state.name}.yaml").read_text())
    service.die()
    sites.service = Service(service.state, settings)
    if cancelled:
        sites.service.client.cancel(running.run_id)
        sites.service.client.wait(running.run_id, timeout=120)
        assert [one for one in sites.bookings(other) if "kept" not in one] == []  # its session is gone
        assert notes.read_text().split().count("make") == 2
        return
    (tmp_path / "again").touch()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    assert sorted(notes.read_text().split()) == ["copy", "copy", "count", "make", "make"]


@pytest.mark.slow
def test_a_node_that_hangs_holds_up_no_other_run(here: Callable[..., Here], tmp_path: Path) -> None:
    """Expressions of six runs read files at the node; a run that needs nothing of it goes on meanwhile."""
    make = sh("head -c 5000 /dev/zero | tr '\\0' a > f", {}, {"o": found("f")})
    wait = sh(f"until [ -e {tmp_path}/go ]; do sleep 0.1; done", {}, {"o": "stdout"}, stdout="w")
    show = {
        "class": "ExpressionTool",
        "cwlVersion": "v1.2",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {"f": {"type": "File", "loadContents": True}, "w": "File"},
        "outputs": {"n": "int"},
        "expression": "$({n: inputs.f.contents.length})",
    }
    steps = {
        "make": at("one", make, {}),
        "wait": at("two", wait, {}),
        "show": {"run": show, "in": {"f": "make/o", "w": "wait/o"}, "out": ["n"]},
    }
    sites = here()
    (tmp_path / "w.cwl").write_text(json.dumps(workflow({}, {"n": "int show/n"}, steps)))
    client = sites.service.client
    runs = [client.submit(tmp_path / "w.cwl", {}) for _ in range(6)]
    for run in runs:
        until(
            lambda run=run: ("make", "COMPLETE") in {(one["name"], one["state"]) for one in client.tasks(run)}
        )  # type: ignore[misc]
    process = sites.nodes["one"].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        (tmp_path / "go").touch()
        for run in runs:
            until(
                lambda run=run: (
                    ("wait", "COMPLETE") in {(one["name"], one["state"]) for one in client.tasks(run)}
                )
            )  # type: ignore[misc]
        other = workflow(
            {}, {"n": "File n/o"}, {"n": at("two", sh("echo hi", {}, {"o": "stdout"}, stdout="n"), {})}
        )
        (tmp_path / "other.cwl").write_text(json.dumps(other))
        quick = client.submit(tmp_path / "other.cwl", {})
        until(lambda: client.run(quick)["state"] == "COMPLETE", 15)
        assert all(client.run(run)["state"] == "RUNNING" for run in runs)
    finally:
        process.send_signal(signal.SIGCONT)
    for run in runs:
        client.wait(run, timeout=120)
        assert client.run(run)["outputs"] == {"n": 5000}


def test_short_leases_are_renewed(here: Callable[..., Here], tmp_path: Path) -> None:
    kept = {name: {"sandbox": "none", "kept": {"max_lease": "PT4S"}} for name in ("one", "two")}
    running = Running(here(nodes=kept), tmp_path, losing(tmp_path))
    running.until_done("copy")
    node = running.sites.nodes[running.node("copy")]
    (booking,) = [one for one in requests.get(f"{node.url}/bookings", timeout=30).json() if "kept" in one]
    lease = f"{node.url}/leases/{booking['session']}/{booking['kept']}"
    first = requests.get(lease, timeout=30).json()["expires"]
    until(lambda: requests.get(lease, timeout=30).json()["expires"] > first)
    until(lambda: datetime.now(UTC) > datetime.fromisoformat(first) + timedelta(seconds=2))
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(running.sites.service.client, run))
    assert sorted((tmp_path / "notes").read_text().split()) == ["copy", "count", "make"]


def test_a_rerun_of_what_failed_uses_what_is_at_nodes(here: Callable[..., Here], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    make = sh(marked(f"head -c {SIZE} /dev/zero > big", notes, "make"), {}, {"o": found("big")})
    count = sh(f'[ -e {tmp_path}/good ] || exit 3; wc -c < "$1"', {"f": "File"}, {"o": "stdout"}, stdout="n")
    steps = {"make": at("one", make, {}), "count": at("one", count, {"f": "make/o"})}
    sites = here()
    failed = sites.run(tmp_path, workflow({}, {"n": "File count/o"}, steps))
    assert failed["state"] == "EXECUTOR_ERROR"
    (tmp_path / "good").touch()
    again = sites.service.client.rerun(failed["run_id"])
    sites.service.client.wait(again, timeout=120)
    run = sites.service.client.run(again)
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert sites.text(run["outputs"]["n"]).strip() == str(SIZE)
    assert notes.read_text().split() == ["make"]
    assert sites.kept("one")["served"] < SIZE / 2


def test_a_file_that_only_looks_like_a_stand_in_is_a_file(here: Callable[..., Here], tmp_path: Path) -> None:
    """A command can make such a file by itself, where a disk is shared and where not: it is handed out."""
    script = f"truncate -s {SIZE} big; touch -d @0.000000001 big"
    run = here().complete(tmp_path, sh(script, {}, {"o": found("big")}))
    assert requests.get(run["outputs"]["o"]["location"], timeout=30).content == bytes(SIZE)


def test_it_is_one_where_a_disk_is_shared(start_service: Starter, tmp_path: Path) -> None:
    script = f"truncate -s {SIZE} big; touch -d @0.000000001 big"
    steps = {"a": {"run": sh(script, {}, {"o": found("big")}), "in": {}, "out": ["o"]},
             "n": {"run": COUNT, "in": {"f": "a/o"}, "out": ["o"]}}  # fmt: skip
    document = workflow({}, {"o": "File a/o", "n": "File n/o"}, steps)
    (tmp_path / "w.cwl").write_text(json.dumps(document))
    service = start_service()
    run = service.run(tmp_path / "w.cwl", {})
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert requests.get(run["outputs"]["o"]["location"], timeout=30).content == bytes(SIZE)
    assert run["outputs"]["o"]["checksum"] == f"sha1${hashlib.sha1(bytes(SIZE)).hexdigest()}"
    assert requests.get(run["outputs"]["n"]["location"], timeout=30).text.strip() == str(SIZE)


@pytest.mark.slow
def test_an_output_of_a_hundred_thousand_files(here: Callable[..., Here], tmp_path: Path) -> None:
    """None of them moves, and the worker's memory stays what it is."""
    count = 100_000
    script = (
        f"mkdir d && cd d && seq -w {count} | split -a 5 -l 1 - f && : > empty && mkdir deep && : > deep/none"
    )
    steps = {
        "many": at("one", sh(script, {}, {"o": found("d", "Directory")}), {}),
        "n": at("one", sh('find "$1/" -type f | wc -l', {"d": "Directory"}, {"o": "stdout"}, stdout="n"),
                {"d": "many/o"}),
    }  # fmt: skip
    sites = here()
    worker = sites.service.children("wes_bridge.engine.worker")[0]
    before = worker.memory_info().rss
    run = sites.complete(tmp_path, workflow({}, {"n": "File n/o"}, steps))
    assert sites.text(run["outputs"]["n"]).strip() == str(count + 2)
    assert sites.kept("one")["served"] < 1000
    assert worker.memory_info().rss - before < 120 * 1024**2


def test_a_folder_with_links_comes_whole(here: Callable[..., Here], tmp_path: Path) -> None:
    script = (
        f"mkdir -p d/x; head -c {SIZE} /dev/zero > d/x/big; ln -s x/big d/link; chmod 755 d/x/big; : > d/none"
    )
    document = sh(script, {}, {"o": {**FOLDER, "outputBinding": {"glob": "d"}}})
    sites = here()
    run = sites.complete(tmp_path, document)
    listing = {item["basename"]: item for item in run["outputs"]["o"]["listing"]}
    assert len(sites.text(listing["link"])) == SIZE
    inner = listing["x"]["listing"][0]
    answer = requests.get(inner["location"], timeout=30)
    assert (len(answer.content), answer.headers["WES-Bridge-Executable"]) == (SIZE, "true")
    assert sites.text(listing["none"]) == ""
