"""Bundles of documents that refer to each other through folders above, and of odd YAML."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from wes_bridge.bundle import BundleError, make_bundle
from wes_bridge.bundle.document import parse_document

TOOL = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: echo\ninputs: []\noutputs: []\n"
WORKFLOW = (
    "cwlVersion: v1.2\nclass: Workflow\ninputs: []\noutputs: []\nsteps:\n  s: {run: RUN, in: [], out: []}\n"
)


@pytest.mark.parametrize(
    ("run", "there", "names"),
    [
        ("../tools/b.cwl", "tools/b.cwl", ["tools/a.cwl", "tools/b.cwl"]),
        ("./../tools/sub/b.cwl", "tools/sub/b.cwl", ["tools/a.cwl", "tools/sub/b.cwl"]),
        ("../../x/tools/b.cwl", "tools/b.cwl", ["x/tools/a.cwl", "x/tools/b.cwl"]),
        ("sub/../b.cwl", "tools/b.cwl", ["a.cwl", "b.cwl"]),
        ("sub/../../tools/b.cwl", "tools/b.cwl", ["tools/a.cwl", "tools/b.cwl"]),
        ("../%74ools/b.cwl", "tools/b.cwl", ["tools/a.cwl", "tools/b.cwl"]),
        ("b.cwl", "tools/b.cwl", ["a.cwl", "b.cwl"]),
        ("../b.cwl", "b.cwl", ["b.cwl", "tools/a.cwl"]),
    ],
)
def test_the_way_to_another_document_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, there: str, names: list[str]
) -> None:
    root = tmp_path / "x"
    (root / "tools" / "sub").mkdir(parents=True)
    (root / there).write_text(TOOL)
    (root / "tools/a.cwl").write_text(WORKFLOW.replace("RUN", run))
    monkeypatch.chdir(root)
    bundle = make_bundle("tools/a.cwl")
    assert sorted(item.name for item in bundle.attachments) == names
    assert bundle.workflow_url == next(name for name in names if name.endswith("a.cwl"))


@pytest.mark.parametrize("first", ["%YAML-1.1\n", "# made by hand\n%FOO bar\n\n", "%YAML 1.2\n%ODD\n"])
def test_a_directive_that_nobody_knows_is_passed_over(first: str) -> None:
    document = parse_document(f"{first}---\na: 1\nb: [2]\n", "w.cwl")
    assert document.data == {"a": 1, "b": [2]}
    assert document.where(document.data, "b") == f"w.cwl:{first.count(chr(10)) + 3}"


def test_a_percent_sign_elsewhere_is_text() -> None:
    text = "%ODD\n---\na: |\n  %ODD\n  x\nb: '%s'\n"
    assert parse_document(text, "w.cwl").data == {"a": "%ODD\nx\n", "b": "%s"}


@pytest.mark.parametrize(
    ("text", "value"),
    [(".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf), (".5", 0.5), ("1e3", 1e3)],
)
def test_numbers_as_yaml_writes_them(text: str, value: float) -> None:
    assert parse_document(f"t: {text}", "job.yml").data == {"t": value}


def test_no_number() -> None:
    assert math.isnan(parse_document("t: .NaN", "job.yml").data["t"])


@pytest.mark.parametrize("text", ["0x_", "0o_", "9" * 5000])
def test_a_number_that_cannot_be_read_has_its_line(text: str) -> None:
    with pytest.raises(BundleError, match=r"job\.yml:2: '\w{3,40}' cannot be read as a number"):
        parse_document(f"a: 1\nt: {text}\n", "job.yml")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "[1, .inf]", "{x: .inf}"])
def test_what_json_cannot_say_is_refused_with_its_line(tmp_path: Path, text: str, shared: bool) -> None:
    (tmp_path / "t.cwl").write_text(TOOL)
    (tmp_path / "job.yml").write_text(f"a: 1\nt: {text}\n")
    with pytest.raises(BundleError, match=r"job\.yml:2: .*(inf|nan) cannot be sent, since inputs are JSON"):
        make_bundle(tmp_path / "t.cwl", tmp_path / "job.yml", shared=shared)
