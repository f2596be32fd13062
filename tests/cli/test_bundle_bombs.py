"""Documents that are short to write and have no end, or a very late one: our client refuses them in words."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wes_bridge.bundle import BundleError, make_bundle

SECONDS = 20
"""That the longest may take: without a bound they take years."""
TOOL = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: 'true'\noutputs: {}\n"


@pytest.fixture(autouse=True)
def soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that takes too long fails instead of taking all of the machine's memory."""

    def over(*_: object) -> None:
        raise RuntimeError(f"it takes longer than {SECONDS} s")

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def doubled(first: str, indent: str) -> str:
    """A list that holds 2^30 times what its first line does, in 30 lines."""
    lines = [f"- &l0 [{first}, {first}]", *(f"- &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, 30))]
    return "\n".join(indent + line for line in lines) + "\n"


def refusal(main: str, job: Any = None) -> str:
    with pytest.raises(BundleError) as caught:
        make_bundle(main, job)
    return str(caught.value)


def test_a_default_of_many_aliases() -> None:
    Path("main.cwl").write_text(
        TOOL + "inputs:\n  a:\n    type: Any\n    default:\n" + doubled("x", " " * 6), encoding="utf-8"
    )
    told = refusal("main.cwl")
    assert "main.cwl: more than 5000000 values when its aliases (*name)" in told


def test_steps_of_many_aliases() -> None:
    step = "{run: {class: CommandLineTool, inputs: {}}}"
    Path("main.cwl").write_text(
        "cwlVersion: v1.2\nclass: Workflow\ninputs: {}\noutputs: {}\nsteps:\n" + doubled(step, "  "),
        encoding="utf-8",
    )
    assert "more than 5000000 values" in refusal("main.cwl")


def test_inputs_of_many_aliases() -> None:
    Path("main.cwl").write_text(TOOL + "inputs: {a: Any}\n", encoding="utf-8")
    Path("job.yml").write_text("a:\n" + doubled("x", "  "), encoding="utf-8")
    assert "job.yml: more than 5000000 values" in refusal("main.cwl", "job.yml")


def test_inputs_that_import_each_other_twice() -> None:
    Path("main.cwl").write_text(TOOL + "inputs: {a: Any}\n", encoding="utf-8")
    for n in range(40):
        other = {"$import": f"f{n + 1}.yml"}
        Path(f"f{n}.yml").write_text(json.dumps([other, other]), encoding="utf-8")
    Path("f40.yml").write_text("x", encoding="utf-8")
    Path("job.yml").write_text("a: {$import: f0.yml}\n", encoding="utf-8")
    assert "import more than 5000 documents" in refusal("main.cwl", "job.yml")


def test_inputs_that_import_themselves() -> None:
    Path("main.cwl").write_text(TOOL + "inputs: {a: Any}\n", encoding="utf-8")
    Path("f.yml").write_text("[{$import: g.yml}]", encoding="utf-8")
    Path("g.yml").write_text("[{$import: f.yml}]", encoding="utf-8")
    Path("job.yml").write_text("a: {$import: f.yml}\n", encoding="utf-8")
    told = refusal("main.cwl", "job.yml")
    assert f"{Path.cwd()}/f.yml imports itself" in told


def test_types_that_name_each_other_twice() -> None:
    types = [
        {
            "name": f"t{n}",
            "type": "record",
            "fields": {"a": f"t{n - 1}" if n else "File", "b": f"t{n - 1}" if n else "File"},
        }
        for n in range(30)
    ]
    Path("main.cwl").write_text(
        json.dumps(
            {
                "cwlVersion": "v1.2",
                "class": "CommandLineTool",
                "requirements": [{"class": "SchemaDefRequirement", "types": types}],
                "inputs": {"a": "t29"},
                "outputs": {},
            }
        ),
        encoding="utf-8",
    )
    Path("job.json").write_text(json.dumps({"a": {"a": {}, "b": {}}}), encoding="utf-8")
    assert make_bundle("main.cwl", "job.json").params == {"a": {"a": {}, "b": {}}}
