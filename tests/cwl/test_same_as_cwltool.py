"""Workflows of random shape have the outputs that cwltool gives them, whatever their steps share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading.load import load
from wes_bridge.cwl.tools.jobs import BridgeJob
from wes_bridge.cwl.walking.walk import Finished, Walk
from wes_bridge.data.workspace import file_url
from wes_bridge.engine.plan.main import prepare
from wes_bridge.model.step_plan import StepOutcome

CWLTOOL = """
import io, json, sys
from cwltool.main import main
for line in sys.stdin:
    said, words = io.StringIO(), io.StringIO()
    main(["--quiet", *json.loads(line)], stdout=said, stderr=words)
    print(json.dumps([said.getvalue(), words.getvalue()]), flush=True)
"""
"""cwltool as it comes, one command a line: starting it anew for each would take most of the time."""
Document = dict[str, Any]
Cwltool = Callable[[Path, Path], Document]
WORDS = ["null", "string", {"type": "array", "items": ["null", "string"]}]
OVERRIDES = "http://commonwl.org/cwltool#overrides"


@pytest.fixture(autouse=True, scope="module")
def cwltool_as_ours() -> None:
    prepare("v1.2")


@pytest.fixture(scope="module")
def cwltool() -> Iterator[Cwltool]:
    """The outputs that cwltool gives a workflow with a job."""
    command = [sys.executable, "-c", CWLTOOL]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(workflow: Path, job: Path) -> Document:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(["--outdir", str(job.parent), str(workflow), str(job)]) + "\n")
            process.stdin.flush()
            said, words = json.loads(process.stdout.readline())
            assert said, words
            found: Document = json.loads(said)
            return found

        yield run
        process.stdin.close()


def ours(workflow: Path, job: Path) -> Document:
    """The outputs that the engine gives it, with the commands run here, one after the other."""
    folder = workflow.parent
    policy = Policy(FetchConfig(), [folder])
    files, base = fs_access(policy), file_url(folder) + "/"
    loaded = load(workflow.as_uri(), json.loads(job.read_text()), base, policy, files(base))
    walk = Walk("run1", loaded, files, {"eval_timeout": 20.0})
    finished: list[Finished] = []
    running: list[BridgeJob] = []
    while walk.status is None:
        pulled = walk.advance(finished, 3)
        running += pulled.jobs
        assert running or not pulled.stuck or walk.status is not None
        finished = [_ended(running.pop(), folder)] if running else []
    assert walk.status == "success"
    assert walk.outputs is not None
    return walk.outputs


def _ended(job: BridgeJob, folder: Path) -> Finished:
    out = folder / f"{zlib.crc32(job.key.encode()):x}"
    out.mkdir()
    plan = job.plan(file_url(out))
    assert plan.stdout is not None
    with (out / plan.stdout).open("w") as stdout:
        environment = plan.environment | {"PATH": os.environ["PATH"]}
        done = subprocess.run(plan.argv, check=False, stdout=stdout, cwd=out, env=environment)
    collected = job.collect(StepOutcome(exit_code=done.returncode, output_dir=file_url(out)))
    return Finished(job, collected.outputs, collected.status)


def say(name: str, mark: str | None) -> Document:
    """A tool whose output tells what it was given, and what was handed down: a variable, and memory."""
    more = {"hints": {"EnvVarRequirement": {"envDef": {"MARK": mark}}}} if mark else {}
    return {
        "class": "CommandLineTool",
        "id": name,
        "baseCommand": ["sh", "-c", 'echo "$0 $MARK $*" | cksum | cut -d " " -f 1'],
        "arguments": [name, "$(runtime.ram)"],
        "inputs": {
            "words": {"type": WORDS, "inputBinding": {"position": 1}},
            "tag": {"type": "string?", "inputBinding": {"position": 2}},
        },
        "outputs": {
            "text": {
                "type": "string",
                "outputBinding": {"glob": "o.txt", "loadContents": True, "outputEval": "$(self[0].contents)"},
            }
        },
        "stdout": "o.txt",
        **more,
    }


def _handed(draw: st.DrawFn) -> Document:
    """What a step or workflow hands down: nothing, or requirements and hints that may be those of others."""
    mark = {"EnvVarRequirement": {"envDef": {"MARK": draw(st.sampled_from("xyz"))}}}
    memory = {"ResourceRequirement": {"ramMin": draw(st.sampled_from([64, 96]))}}
    return draw(
        st.sampled_from(
            [
                {},
                {},
                {"requirements": mark},
                {"hints": mark},
                {"requirements": memory},
                {"hints": memory | mark},
            ]
        )
    )


def _steps(draw: st.DrawFn, runs: list[Any], most: int) -> tuple[Document, dict[str, bool]]:
    """Steps that take what steps before them have made; and of each, whether its output is a list."""
    steps: Document = {}
    lists: dict[str, bool] = {"words": True}
    for number in range(draw(st.integers(2, most))):
        sources = draw(st.lists(st.sampled_from(sorted(lists)), max_size=3, unique=True))
        words: Document = {"default": f"word{number}"}
        if len(sources) == 1:
            words = {"source": sources[0]}
        elif sources:
            words = {"source": sources, "linkMerge": "merge_flattened", "pickValue": "all_non_null"}
        step = {"run": draw(st.sampled_from(runs)), "in": {"words": words}, "out": ["text"]} | _handed(draw)
        kind = draw(st.sampled_from(["plain", "plain", "scatter", "when"]))
        if kind == "scatter":
            step["scatter"] = "tag"
            step["in"]["tag"] = {"default": draw(st.lists(st.sampled_from("abc"), max_size=3))}
        elif kind == "when":
            step["when"] = "$(inputs.flag)"
            step["in"]["flag"] = {"default": draw(st.booleans())}
        steps[f"s{number}"] = step
        lists[f"s{number}/text"] = kind == "scatter"
    return steps, lists


def _workflow(draw: st.DrawFn, runs: list[Any], most: int, **more: Any) -> Document:
    steps, lists = _steps(draw, runs, most)
    last = f"s{len(steps) - 1}/text"
    everything = sorted(name for name in lists if "/" in name)
    texts: Document = {"type": "Any", "outputSource": everything, "linkMerge": "merge_nested"}
    alone = {"type": "Any" if lists[last] else "string?", "outputSource": last}
    needed = ("MultipleInputFeature", "ScatterFeature", "SubworkflowFeature")
    handed = _handed(draw)
    requirements = {f"{name}Requirement": {} for name in needed} | handed.pop("requirements", {})
    return {
        "class": "Workflow",
        "requirements": requirements,
        "inputs": {"words": WORDS, "tag": "string?"},
        "outputs": {"text": alone, "texts": texts},
        "steps": steps,
        **handed,
        **more,
    }


def _inner(draw: st.DrawFn, runs: list[Any], **more: Any) -> Document:
    """A workflow whose output is one text, so that it can stand where a tool does."""
    found = _workflow(draw, runs, 3, **more)
    end = {"run": runs[0], "in": {"words": {"source": "s0/text"}, "tag": "tag"}, "out": ["text"]}
    found["steps"]["end"] = end | _handed(draw)
    found["outputs"] = {"text": {"type": "string", "outputSource": "end/text"}}
    return found


@st.composite
def works(draw: st.DrawFn) -> tuple[Document, Document]:
    """A packed document, and a job, which may override what its steps ask for."""
    tools = [say("one", None), say("other", "t")]
    runs: list[Any] = ["#one", "#other"]
    inner = _inner(draw, runs, id="inner")
    embedded = {key: value for key, value in say("embedded", "e").items() if key != "id"}
    whole = _workflow(draw, [*runs, "#one", "#inner", embedded, _inner(draw, runs)], 6, id="main")
    job: Document = {"words": draw(st.sampled_from([None, "w", ["v", "w"]]))}
    overridden = draw(st.lists(st.sampled_from(["one", "main/s0", "main/s1", "inner/end"]), max_size=2))
    mark = {"requirements": {"EnvVarRequirement": {"envDef": {"MARK": "overridden"}}}}
    if overridden:
        job[OVERRIDES] = {f"#{name}": mark for name in overridden}
    return {"cwlVersion": "v1.2", "$graph": [*tools, inner, whole]}, job


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(work=works())
def test_outputs_are_those_of_cwltool(
    tmp_path_factory: pytest.TempPathFactory, cwltool: Cwltool, work: tuple[Document, Document]
) -> None:
    folder = tmp_path_factory.mktemp("work")
    workflow, job = folder / "w.cwl", folder / "job.json"
    workflow.write_text(json.dumps(work[0]))
    given_job = dict(work[1])
    if OVERRIDES in given_job:
        given_job[OVERRIDES] = {f"{workflow.as_uri()}{name}": it for name, it in given_job[OVERRIDES].items()}
    job.write_text(json.dumps(given_job))
    assert ours(workflow, job) == cwltool(workflow, job)
