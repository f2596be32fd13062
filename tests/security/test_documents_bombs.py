"""Documents that are made to stop whoever reads them: they cost their own run, and nobody else anything.

Each is small to send and has no end, or a very late one, to read. A run of one fails in words, those of
others go on in their usual time, and a cancelled one frees what it used.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.service.conftest import Service, Starter, start_service  # noqa: F401
from tests.service.test_runs import ECHO
from tests.waiting import until

LIMITS = {"load_timeout": 2, "load_memory_gib": 0.25, "load_wall": 20}
TOOL = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: 'true'\noutputs: {}\n"
SLOW = 4
"""Documents that take long and are loaded at once."""
FAILED = {"EXECUTOR_ERROR", "SYSTEM_ERROR"}


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:  # noqa: F811
    return start_service(engine=LIMITS)


def aliases(levels: int = 30) -> str:
    """A billion values, in 500 bytes."""
    lines = ["inputs:", "  a:", "    type: Any", "    default:", "      - &l0 [x, x]"]
    lines += [f"      - &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, levels)]
    return TOOL + "\n".join(lines) + "\n"


def merged(levels: int = 25) -> str:
    """Mappings that each take in the one before twice."""
    lines = ["inputs:", "  a:", "    type: Any", "    default:", "      - &l0 {a0: 0}"]
    lines += [
        f"      - &l{n} {{<<: [*l{n - 1}, *l{n - 1}], a{n}: *l{n - 1}, b{n}: *l{n - 1}}}"
        for n in range(1, levels)
    ]
    return TOOL + "\n".join(lines) + "\n"


def entities() -> str:
    """An ontology whose entities hold each other ten times."""
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return (
        f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e0 "{"x" * 1000}">{levels}]>'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:a="http://a/">'
        '<rdf:Description rdf:about="http://a/b"><a:c>&e11;</a:c></rdf:Description></rdf:RDF>'
    )


def with_schema(name: str) -> str:
    return TOOL + f"inputs: {{}}\n$namespaces: {{a: 'http://a/'}}\n$schemas: [{name}]\n"


def triples() -> str:
    return "".join(f"<http://a/{n}> <http://a/p> <http://a/{n + 1}> .\n" for n in range(200_000))


def doubled(levels: int = 40) -> dict[str, str]:
    """Workflows that each run the next one twice."""
    step = "{{run: w{n}.cwl, in: {{}}, out: []}}"
    head = "cwlVersion: v1.2\nclass: Workflow\nrequirements: {SubworkflowFeatureRequirement: {}}\n"
    files = {
        f"w{n}.cwl": head
        + "inputs: {}\noutputs: {}\nsteps:\n"
        + "".join(f"  {name}: {step.format(n=n + 1)}\n" for name in "ab")
        for n in range(levels)
    }
    return files | {f"w{levels}.cwl": TOOL + "inputs: {}\n"}


def imports(levels: int = 40) -> dict[str, str]:
    """Documents that each import the next one twice."""
    files = {f"i{n}.yml": f"[{{$import: i{n + 1}.yml}}, {{$import: i{n + 1}.yml}}]\n" for n in range(levels)}
    main = TOOL + "inputs: {a: {type: Any, default: {$import: i0.yml}}}\n"
    return {"main.cwl": main} | files | {f"i{levels}.yml": "[1]\n"}


def many_imports() -> str:
    return TOOL + "inputs:\n" + "".join(f"  a{n}: {{$import: in.yml}}\n" for n in range(100_000))


BOMBS: dict[str, dict[str, str]] = {
    "aliases": {"main.cwl": aliases()},
    "merged": {"main.cwl": merged()},
    "deep lists": {"main.cwl": TOOL + "inputs: {a: {type: Any, default: " + "[" * 50_000 + "}}"},
    "deep and closed": {
        "main.cwl": TOOL + "inputs: {a: {type: Any, default: " + "[" * 700 + "]" * 700 + "}}"
    },
    "deep mappings": {"main.cwl": "".join(f"{' ' * n}a:\n" for n in range(5000))},
    "sexagesimal": {
        "main.cwl": "%YAML 1.1\n---\n" + TOOL + "inputs: {a: {type: Any, default: " + "1:" * 200_000 + "1}}"
    },
    "giant integer": {"main.cwl": TOOL + "inputs: {a: {type: Any, default: 0x" + "f" * 5_000_000 + "}}"},
    "many digits": {"main.cwl": TOOL + "inputs: {a: {type: Any, default: " + "9" * 5_000_000 + "}}"},
    "long list": {"main.cwl": TOOL + "inputs: {a: {type: Any, default: [" + "1," * 3_000_000 + "1]}}"},
    "entities": {"main.cwl": with_schema("bomb.owl"), "bomb.owl": entities()},
    "triples": {"main.cwl": with_schema("big.ttl"), "big.ttl": triples()},
    "doubled": {"main.cwl": doubled()["w0.cwl"]} | doubled(),
    "imports": imports(),
    "many imports": {"main.cwl": many_imports(), "in.yml": "string\n"},
    "itself": {"main.cwl": TOOL + "inputs: {$import: main.cwl}\n"},
    "caret": {"main.cwl": TOOL + "inputs: {a: {type: File, secondaryFiles: ['" + "^" * 500_000 + "x']}}\n"},
    "question marks": {"main.cwl": TOOL + "inputs: {a: string" + "[]" * 100_000 + "?}\n"},
    "expression": {
        "main.cwl": TOOL + "inputs: {}\narguments: ['" + "$(" * 200_000 + "']\n",
    },
}
PARAMS: dict[str, Any] = {"caret": {"a": {"class": "File", "location": "in.txt"}}}
SAID = ("engine.load_", "too many digits", "written out", "nested", "not valid", "main.cwl", "w0.cwl")


def submit(service: Service, files: dict[str, str], params: Any = None) -> str:
    """As a hostile client does: ours would read the documents itself."""
    answer = requests.post(
        f"{service.url}/ga4gh/wes/v1/runs",
        data={
            "workflow_url": "main.cwl",
            "workflow_type": "CWL",
            "workflow_type_version": "v1.2",
            "workflow_params": json.dumps(params or {}),
        },
        files=[("workflow_attachment", (name, text.encode())) for name, text in files.items()],
        timeout=60,
    )
    assert answer.ok, answer.text
    return str(answer.json()["run_id"])


def loading(service: Service) -> list[psutil.Process]:
    """Processes that load something long."""
    (worker,) = service.children("wes_bridge.engine.worker")
    return [
        process
        for process in worker.children(recursive=True)
        if process.name() == "wes-loading" and process.ppid() != worker.pid and process.nice() == 19
    ]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_its_own_run_only(service: Service, name: str) -> None:
    (worker,) = service.children("wes_bridge.engine.worker")
    before = worker.memory_info().rss
    run_id = submit(service, BOMBS[name] | {"in.txt": "x"}, PARAMS.get(name))
    service.client.wait(run_id, timeout=60)
    run = service.client.run(run_id)
    told = "\n".join(run["run_log"]["system_logs"])
    print(name, run["state"], told[:300])
    assert run["state"] in FAILED | {"COMPLETE"}
    if run["state"] != "COMPLETE":
        assert any(word in told for word in SAID), told
        assert "internal error" not in told
    assert service.children("wes_bridge.engine.worker") == [worker]
    assert worker.memory_info().rss - before < 100 * 1024**2


def test_ten_bombs_delay_nobody(start_service: Starter, tmp_path: Path) -> None:  # noqa: F811
    """Nor does it matter to others that they are many: those that take long wait for each other."""
    service = start_service(engine={"load_timeout": 600})
    (tmp_path / "echo.cwl").write_text(ECHO)

    def echo() -> float:
        begun = time.monotonic()
        assert service.run(tmp_path / "echo.cwl", {"word": "on"})["state"] == "COMPLETE"
        return time.monotonic() - begun

    usual = max(echo() for _ in range(3))
    names = itertools.islice(itertools.cycle(("aliases", "merged", "sexagesimal")), 10)
    bombs = [submit(service, BOMBS[name]) for name in names]
    until(lambda: len(loading(service)) == SLOW)
    beside = [echo() for _ in range(3)]
    print(f"an echo takes {usual:.2f} s, and {min(beside):.2f} to {max(beside):.2f} s beside ten bombs")
    assert max(beside) < 3 * usual + 5
    assert {service.client.status(run_id) for run_id in bombs} == {"INITIALIZING"}
    assert len(loading(service)) == SLOW
    for run_id in bombs:
        service.client.cancel(run_id)
    assert {service.client.wait(run_id, timeout=30) for run_id in bombs} == {"CANCELED"}
    until(lambda: not loading(service))


def test_a_cancelled_bomb_frees_what_it_used(start_service: Starter) -> None:  # noqa: F811
    service = start_service(engine={"load_timeout": 600})
    run_id = submit(service, BOMBS["aliases"])
    until(lambda: loading(service))
    (process,) = loading(service)
    begun = time.monotonic()
    service.client.cancel(run_id)
    assert service.client.wait(run_id, timeout=20) == "CANCELED"
    until(lambda: not process.is_running())
    assert time.monotonic() - begun < 10


def test_a_worker_without_its_loader_is_replaced(start_service: Starter, tmp_path: Path) -> None:  # noqa: F811
    """And its runs are taken up by the next one."""
    service = start_service(engine={"load_timeout": 600})
    run_id = submit(service, BOMBS["aliases"])
    until(lambda: loading(service))
    (worker,) = service.children("wes_bridge.engine.worker")
    (nursery,) = [child for child in worker.children() if child.name() == "wes-loading"]
    left = nursery.children()
    nursery.kill()
    psutil.wait_procs([worker], timeout=30)
    (tmp_path / "echo.cwl").write_text(ECHO)
    assert service.run(tmp_path / "echo.cwl", {"word": "on"})["state"] == "COMPLETE"
    service.client.cancel(run_id)
    assert service.client.wait(run_id, timeout=20) == "CANCELED"
    assert psutil.wait_procs(left, timeout=20)[1] == []
