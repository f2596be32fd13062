"""Runs at nodes that see no disk of the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from tests.apart.conftest import Sites
from tests.apart.workflows import FOLDER, at, sh, workflow
from tests.node.conftest import NodeProcess
from tests.waiting import until
from wes_bridge.cli.flow import reasons


def submitted(sites: Sites, folder: Path, document: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    (folder / "w.cwl").write_text(json.dumps(document))
    return sites.service.run(folder / "w.cwl", job)


def text_of(output: dict[str, Any]) -> str:
    return fetched(output).text


def fetched(output: dict[str, Any]) -> requests.Response:
    answer = requests.get(output["location"], timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def uploads(sites: Sites, folder: Path) -> dict[str, Any]:
    (folder / "in.txt").write_text("hello\n")
    (folder / "d").mkdir()
    (folder / "d" / "a b").write_text("1")
    (folder / "d" / "deep").mkdir()
    (folder / "d" / "deep" / "c#%.txt").write_text("2")
    return {
        "f": {"class": "File", "path": str(folder / "in.txt")},
        "d": {"class": "Directory", "path": str(folder / "d")},
    }


def test_a_chain_of_files_and_folders(sites: Sites, tmp_path: Path) -> None:
    first = sh(
        'cat "$1"; cd "$2"; find . -type f | LC_ALL=C sort; echo told >&2',
        {"f": "File", "d": "Directory"},
        {"o": "stdout"},
        stdout="first.txt",
    )
    second = sh('cat "$1"; echo $2', {"f": "File", "n": "int"}, {"o": "stdout"}, stdout="second.txt")
    third = sh(
        'mkdir -p out/x; cp "$1" out/x/f; chmod 755 out/x/f; ln -s x/f out/l',
        {"f": "File"},
        {"o": {"type": "Directory", "outputBinding": {"glob": "out"}}},
    )
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"f": "File", "d": "Directory", "n": "int[]"},
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
    run = submitted(sites, tmp_path, document, uploads(sites, tmp_path) | {"n": [1, 2, 3]})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    texts = sorted(text_of(output) for output in run["outputs"]["all"])
    before = "hello\n./a b\n./deep/c#%.txt\n"
    assert texts == [f"{before}{number}\n" for number in (1, 2, 3)]
    link, inner = sorted(run["outputs"]["dir"]["listing"], key=lambda item: item["basename"])
    assert text_of(link) == before
    assert fetched(inner["listing"][0]).headers["WES-Bridge-Executable"] == "true"
    tasks = {task["name"]: task for task in sites.service.client.tasks(run["run_id"])}
    assert requests.get(tasks["a"]["stderr"], timeout=30).text == "told\n"


def moved(node: NodeProcess) -> dict[str, int]:
    found: dict[str, int] = requests.get(f"{node.url}/status", timeout=30).json()["kept"]
    return found


def kept_at(node: NodeProcess) -> set[str]:
    """Sessions of which a node keeps outputs: other tests may have left some, whose runs failed."""
    bookings = requests.get(f"{node.url}/bookings", timeout=30).json()
    return {one["session"] for one in bookings if "kept" in one}


def test_nodes_keep_nothing_of_a_run_that_has_ended(sites: Sites, tmp_path: Path) -> None:
    others = {node.url: kept_at(node) for node in sites.nodes}
    document = sh("echo one; echo two > other", {}, {"o": "stdout"}, stdout="o.txt")
    run = submitted(sites, tmp_path, document, {})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    for node in sites.nodes:
        until(lambda node=node: kept_at(node) <= others[node.url])  # type: ignore[misc]


def test_a_chain_at_one_node_fetches_nothing_again(sites: Sites, tmp_path: Path) -> None:
    """What is large stays there, and the next step links it; only the output of the run leaves the node."""
    node, service = sites.nodes[0], sites.service
    before, others = moved(node), kept_at(node)
    size = 3_000_000
    make = sh(
        f"mkdir d; head -c {size} /dev/zero > d/big", {}, {"o": {**FOLDER, "outputBinding": {"glob": "d"}}}
    )
    same = sh('cp -r "$1" e', {"d": "Directory"}, {"o": {**FOLDER, "outputBinding": {"glob": "e"}}})
    count = sh('cat "$1"/big | wc -c', {"d": "Directory"}, {"o": "stdout"}, stdout="n.txt")
    steps = {
        "a": at("one", make, {}),
        "b": at("one", same, {"d": "a/o"}),
        "c": at("one", count, {"d": "b/o"}),
    }
    (tmp_path / "w.cwl").write_text(json.dumps(workflow({}, {"n": "File c/o"}, steps)))
    run = service.run(tmp_path / "w.cwl")
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert text_of(run["outputs"]["n"]).strip() == str(size)
    now = {what: number - before[what] for what, number in moved(node).items()}
    assert (now["fetched"], now["linked"]) == (0, 2 * size)
    assert now["served"] < 100
    until(lambda: kept_at(node) <= others)


def test_a_command_that_fails_is_told_with_its_words(sites: Sites, tmp_path: Path) -> None:
    document = sh("echo what went wrong >&2; exit 3", {}, {})
    run = submitted(sites, tmp_path, document, {})
    assert run["state"] == "EXECUTOR_ERROR"
    (task,) = sites.service.client.tasks(run["run_id"])
    assert task["exit_code"] == 3
    assert requests.get(task["stderr"], timeout=30).text == "what went wrong\n"


def test_a_plan_knows_that_such_nodes_can_run_it(sites: Sites, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hello\n")
    document = sh('cat "$1"', {"f": "File"}, {"o": "stdout"}, stdout="o.txt")
    (tmp_path / "w.cwl").write_text(json.dumps(document))
    job = {"f": {"class": "File", "path": str(tmp_path / "in.txt")}}
    plan = sites.service.client.plan(tmp_path / "w.cwl", job)
    (step,) = plan["steps"]
    assert not step.get("problem"), step
    assert step["chosen"]["node"] in ("one", "two"), step


def test_an_update_in_place_is_the_output(sites: Sites, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("old\n")
    document = sh(
        "echo new >> in.txt",
        {},
        {"o": {"type": "File", "outputBinding": {"glob": "in.txt"}}},
        requirements={
            "InitialWorkDirRequirement": {"listing": [{"entry": "$(inputs.f)", "writable": True}]},
            "InplaceUpdateRequirement": {"inplaceUpdate": True},
        },
    )
    document["inputs"]["f"] = "File"
    run = submitted(sites, tmp_path, document, {"f": {"class": "File", "path": str(tmp_path / "in.txt")}})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert text_of(run["outputs"]["o"]) == "old\nnew\n"
    assert (tmp_path / "in.txt").read_text() == "old\n"


def test_what_the_command_writes_of_paths_is_understood(sites: Sites, tmp_path: Path) -> None:
    """``cwl.output.json`` has paths of the session, which mean nothing here."""
    document = sh(
        """echo hi > x.txt; printf '{"o": {"class": "File", "path": "%s/x.txt"}}' "$PWD" > cwl.output.json""",
        {},
        {"o": "File"},
    )
    run = submitted(sites, tmp_path, document, {})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    assert text_of(run["outputs"]["o"]) == "hi\n"


def test_files_of_the_service_are_read_with_a_signature_only(sites: Sites) -> None:
    place = "/data/7c45c924-fbf8-43ab-9bb9-0f81e5310c84/files/etc/hostname"
    assert requests.get(f"{sites.service.url}{place}", timeout=30).status_code == 404
    made_up = "?expires=99999999999&key=000000000000&scope=/&signature=00"
    answer = requests.get(f"{sites.service.url}{place}{made_up}", timeout=30)
    assert answer.status_code == 403
    assert "key that is not in use" in answer.text
