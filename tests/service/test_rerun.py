"""A run that is done again: what is taken over, what is run, and what stays when the old one goes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service, Starter
from wes_bridge.client import WESError

pytestmark = pytest.mark.database

NODE = {"name": "here", "platforms": ["process"], "sandbox": "none", "cores": 4, "memory_gib": 64}
STEPS = {"each[0]": 1, "each[1]": 1, "each[2]": 1, "join": 1, "last": 1}


@pytest.fixture(scope="module")
def site(start_service: Starter, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return start_service(nodes=[NODE])


def tool(script: str, inputs: dict[str, Any], output: str, **more: Any) -> dict[str, Any]:
    return {
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", script],
        "inputs": inputs,
        "outputs": {"made": {"type": "File", "outputBinding": {"glob": output}}},
    } | more


class Case:
    """Three files are made, joined, and counted; each command notes that it ran."""

    def __init__(self, service: Service, folder: Path, last: str = "wc -c < $0 > last.txt") -> None:
        self.service = service
        self.ran, self.mark = folder / "ran", folder / "mark"
        note = f"echo $NAME >> {self.ran};"
        word = {"word": {"type": "File", "inputBinding": {}}, "tail": {"type": "string", "default": "!"}}
        files = {"files": {"type": "File[]", "inputBinding": {}}}
        one = {"file": {"type": "File", "inputBinding": {}}}

        def named(name: str) -> dict[str, Any]:
            return {"requirements": {"EnvVarRequirement": {"envDef": {"NAME": name}}}}

        document = {
            "cwlVersion": "v1.2",
            "class": "Workflow",
            "requirements": {"ScatterFeatureRequirement": {}},
            "inputs": {"words": "File[]", "title": {"type": "string", "default": "none"}},
            "outputs": {"count": {"type": "File", "outputSource": "last/made"}},
            "steps": {
                "each": {
                    "run": tool(f"{note} cat $0 > each.txt", word, "each.txt", **named("each")),
                    "scatter": "word",
                    "in": {"word": "words"},
                    "out": ["made"],
                },
                "join": {
                    "run": tool(
                        f"{note} cat $0 $1 $2 > join.txt; echo $3 >> join.txt",
                        files | {"title": {"type": "string", "inputBinding": {"position": 9}}},
                        "join.txt",
                        **named("join"),
                    ),
                    "in": {"files": "each/made", "title": "title"},
                    "out": ["made"],
                },
                "last": {
                    "run": tool(f"{note} {last}", one, "last.txt", **named("last")),
                    "in": {"file": "join/made"},
                    "out": ["made"],
                },
            },
        }
        workflow = folder / "counts.cwl"
        workflow.write_text(json.dumps(document))
        words = []
        for number in range(3):
            path = folder / f"word{number}.txt"
            path.write_text(f"word {number}\n")
            words.append({"class": "File", "location": path.name})
        job = folder / "job.json"
        job.write_text(json.dumps({"words": words}))
        self.run_id = service.client.submit(workflow, job, tags={"project": "again"})
        self.state = service.client.wait(self.run_id, timeout=60)

    def lines(self) -> Counter[str]:
        return Counter(self.ran.read_text().split()) if self.ran.exists() else Counter()

    def again(self, state: str = "COMPLETE", **options: Any) -> tuple[str, Counter[str]]:
        """Rerun it; the new run's id, and what ran."""
        before = self.lines()
        run_id = self.service.client.rerun(self.run_id, **options)
        assert self.service.client.wait(run_id, timeout=60) == state, self.service.client.run(run_id)
        return run_id, self.lines() - before

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        return {task["name"]: task for task in self.service.client.tasks(run_id)}


def content(service: Service, run_id: str) -> str:
    url = service.client.run(run_id)["outputs"]["count"]["location"]
    return requests.get(url, timeout=60).text.strip()


def test_all_is_taken_over(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    assert case.state == "COMPLETE"
    run_id, ran = case.again()
    assert not ran
    tasks = case.tasks(run_id)
    assert tasks.keys() == STEPS.keys()
    for task in tasks.values():
        assert task["state"] == "COMPLETE"
        assert task["system_logs"] == [f"taken over from run {case.run_id}"]
        assert task["placement"]["reason"] == f"taken over from run {case.run_id}, where it ran on here"
        assert task["placement"]["taken_from"]["run_id"] == case.run_id
    run = site.client.run(run_id)
    assert run["request"]["workflow_engine_parameters"]["rerun.of"] == case.run_id
    assert run["request"]["tags"] == {"project": "again"}
    assert content(site, run_id) == content(site, case.run_id)
    assert not (site.state / "workspace" / run_id / "taken").exists()


def test_a_rerun_outlives_the_run_it_was_made_of(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    second, _ = case.again()
    site.client.delete(case.run_id)
    assert not (site.state / "workspace" / case.run_id).exists()
    assert content(site, second) == "26"
    case.run_id = second
    third, ran = case.again()
    assert not ran
    assert content(site, third) == "26"


def test_from_a_step(site: Service, tmp_path: Path) -> None:
    """What comes after has the same inputs again, by content: it is taken over."""
    case = Case(site, tmp_path)
    _, ran = case.again(again="join")
    assert ran == {"join": 1}
    _, ran = case.again(again=["each[1]", "last"])
    assert ran == {"each": 1, "last": 1}
    _, ran = case.again(again="each")
    assert ran == {"each": 3}


def test_other_content_of_the_same_size(site: Service, tmp_path: Path) -> None:
    """``none`` and ``four`` have as many letters: only a checksum tells what came out apart."""
    case = Case(site, tmp_path, last="cat $0 > last.txt")
    run_id, ran = case.again(inputs={"title": "four"})
    assert ran == {"join": 1, "last": 1}
    assert content(site, run_id).endswith("four")


def test_failed_steps_are_run_again(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path, last=f"test -e {tmp_path}/mark && touch last.txt")
    assert case.state == "EXECUTOR_ERROR"
    (tmp_path / "mark").touch()
    _, ran = case.again()
    assert ran == {"last": 1}


def test_resources_of_a_step(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    run_id, ran = case.again(resources={"join": {"ram": "3GiB", "cores": 2}})
    assert ran == {"join": 1}
    parameters = site.client.run(run_id)["request"]["workflow_engine_parameters"]
    assert parameters["resources.join.ram"] == "3GiB"
    task = case.tasks(run_id)["join"]
    session = requests.get(task["session_url"], timeout=60).json()
    assert session["compute"]["memory"]["min"] == 3
    assert session["compute"]["cores"]["min"] == 2


def test_outputs_that_are_gone_are_made_again(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    (made,) = (site.state / "workspace" / case.run_id / "tasks").glob("join-*/out/join.txt")
    made.unlink()
    _, ran = case.again()
    assert ran == {"join": 1}


def test_what_is_refused(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    rerun = site.client.rerun
    with pytest.raises(WESError, match="from: there is no step 'lst'; there are: each, join, last"):
        rerun(case.run_id, again="lst")
    with pytest.raises(WESError, match="resources: there is no step 'lst'; there are: each, join, last"):
        rerun(case.run_id, resources={"lst": {"ram": "1GiB"}})
    with pytest.raises(WESError, match=r"resources.join.ram: 'much' is not a size"):
        rerun(case.run_id, resources={"join": {"ram": "much"}})
    with pytest.raises(WESError, match=r"resources.join.disk: there is no such field"):
        rerun(case.run_id, resources={"join": {"disk": 1}})
    with pytest.raises(WESError, match="there is no run"):
        rerun("0" * 32)
    url = f"{site.url}/ga4gh/wes/v1/runs/{case.run_id}/rerun"
    for body in (b"[]", b"{", b'{"form": "x"}', b'{"inputs": 1}', b"\xff"):
        answer = requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=60)
        assert answer.status_code == 400, answer.text
    assert requests.post(url, data=b"from=x", timeout=60).status_code == 400
    path = tmp_path / "counts.cwl"
    with pytest.raises(WESError, match="is written by the service"):
        site.client.submit(path, tmp_path / "job.json", engine_parameters={"rerun.of": case.run_id})


def test_a_step_of_the_workflow_that_did_not_begin(site: Service, tmp_path: Path) -> None:
    """Its resources may be changed, and a name that is wrong is told when the workflow is read."""
    case = Case(site, tmp_path, last="exit 1")
    case.again(state="EXECUTOR_ERROR", resources={"last": {"ram": "1GiB"}})
    run_id, ran = case.again(state="EXECUTOR_ERROR", resources={"lst": {"ram": "1GiB"}})
    assert not ran
    (problem,) = site.client.run(run_id)["run_log"]["system_logs"]
    assert problem == "resources of lst: there is no step 'lst'; there are: each, join, last"


def test_a_run_that_has_not_ended(site: Service, tmp_path: Path) -> None:
    path = tmp_path / "wait.cwl"
    gate = tmp_path / "gate"
    waiting = tool(f"until test -e {gate}; do sleep 0.05; done", {}, "x") | {"cwlVersion": "v1.2"}
    path.write_text(json.dumps(waiting | {"outputs": {}}))
    run_id = site.client.submit(path)
    try:
        with pytest.raises(WESError, match="wait for its end, or cancel it") as caught:
            site.client.rerun(run_id)
        assert caught.value.status_code == 409
    finally:
        gate.touch()


def test_the_command(site: Service, tmp_path: Path) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    from wes_bridge.cli.main import cli  # noqa: PLC0415

    case = Case(site, tmp_path)
    words = ["rerun", case.run_id, "--wes", site.url, "--wait", "--set-input", "title=[x", "--from", "join"]
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 2, answer.output
    words[words.index("title=[x")] = "title=other words"
    answer = CliRunner().invoke(cli, [*words, "--ram", "each=1GiB"])
    assert answer.exit_code == 0, answer.output
    run_id, state = answer.output.split()
    assert state == "COMPLETE"
    request = site.client.run(run_id)["request"]
    assert request["workflow_params"]["title"] == "other words"
    assert request["workflow_engine_parameters"]["rerun.from"] == "join"
