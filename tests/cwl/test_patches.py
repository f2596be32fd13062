"""What is replaced in cwltool and its relatives: all of it in one table, and only what it was written for."""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wes_bridge.cwl import definitions, patches
from wes_bridge.cwl.patches import PATCHES, Patch

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "wes_bridge"
THEIRS = {"cwltool", "schema_salad", "cwl_utils", "ruamel", "rdflib"}
MAY = {
    "cwl/patches.py": {"put"},
    "cwl/loading/schemas.py": {"SCHEMA_CACHE[name]", "schema_salad.schema.cached_metaschema"},
}
"""The table; and caches that are filled with what they would hold later: nothing is replaced."""


def ran(*arguments: str) -> str:
    """What a Python of its own says: in this one the patches may be in place already."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout + done.stderr


# ---- the releases that are installed


def test_each_is_the_one_that_its_replacement_was_written_for() -> None:
    told = ran("-m", "wes_bridge.cwl.patches")
    assert "DIFFERS" not in told, told
    assert told.count("\nsame ") == len(PATCHES)


def test_the_table_tells_all_that_is_replaced() -> None:
    script = """
    import sys
    from wes_bridge.cwl import patches

    def known():
        found = {}
        for name in [name for name in sys.modules if name.partition(".")[0] in ("cwltool", "schema_salad",
                     "cwl_utils", "ruamel", "rdflib")]:
            for key, thing in list(vars(sys.modules[name]).items()):
                found[f"{name}:{key}"] = thing
                if isinstance(thing, type) and thing.__module__ == name:
                    found |= {f"{name}:{key}.{part}": one for part, one in vars(thing).items()}
        return found

    before = known()
    patches.install()
    after = known()
    print(*sorted(name for name in after if after[name] is not before.get(name)), sep="\\n")
    """
    changed = set(ran("-c", textwrap.dedent(script)).split())
    settled = {name for name in changed if name.startswith("cwl_utils.sandboxjs:")}  # by its set_js_engine
    assert changed - settled == {place for patch in PATCHES for place in patch.places}


def test_nobody_else_assigns_into_these_packages() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        changed = set(assigned(ast.parse(path.read_text()))) - MAY.get(name, set())
        if changed:
            found[name] = changed
    assert found == {}, "put it into the table of wes_bridge/cwl/patches.py"


def assigned(tree: ast.AST) -> Iterator[str]:
    """What a file assigns to a part of something that it has imported from them."""
    theirs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            theirs |= {alias.asname or "" for alias in node.names} - {""}
            theirs |= {alias.name.partition(".")[0] for alias in node.names if not alias.asname}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in THEIRS:
            theirs |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "wes_bridge.cwl.definitions":
            yield from (alias.name for alias in node.names if alias.name == "put")
    theirs -= set(sys.stdlib_module_names)
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
            targets = [ast.Attribute(node.args[0], ast.unparse(node.args[1]))]
        for target in targets:
            root: ast.expr = target
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if root is not target and isinstance(root, ast.Name) and root.id in theirs:
                yield ast.unparse(target)


@pytest.mark.parametrize(
    "line",
    [
        "cwltool.process.uniquename = mine",
        "Builder.do_eval = mine",
        "setattr(Builder, 'do_eval', mine)",
        "del Builder.do_eval",
        "Builder.names['x'] = mine",
        "from wes_bridge.cwl.definitions import put",
    ],
)
def test_such_an_assignment_is_seen(line: str) -> None:
    text = f"import cwltool.process\nfrom cwltool.builder import Builder\n\ndef go(mine):\n    {line}\n"
    assert list(assigned(ast.parse(text)))


def test_each_says_why_and_what_it_names_is_there() -> None:
    for patch in PATCHES:
        assert patch.why, patch
        if patch.upstream.startswith("docs/"):
            assert (ROOT / patch.upstream).is_file(), patch
        for hashed in patch.source:
            assert re.fullmatch("sha256:[0-9a-f]{12}", hashed), patch


@pytest.mark.parametrize(
    "patch", [patch for patch in PATCHES if patch.source], ids=lambda one: one.written_for
)
def test_the_source_that_is_hashed_is_all_of_it(patch: Patch) -> None:
    """It is cut by lines; Python's own parser says the same."""
    module, _, name = patch.written_for.partition(":")
    text = definitions._text(module)
    node: Any = ast.parse(text)
    for part in name.split("."):
        node = next(one for one in node.body if getattr(one, "name", None) == part)
    assert definitions.source(patch.written_for) == ast.get_source_segment(text, node)


WORKFLOW = """
cwlVersion: v1.2
class: Workflow
requirements:
  ScatterFeatureRequirement: {}
  SubworkflowFeatureRequirement: {}
  InlineJavascriptRequirement: {}
  StepInputExpressionRequirement: {}
inputs:
  image: {type: File, format: "http://edamontology.org/format_3650", loadContents: true}
  sigmas: {type: "double[]", default: [0.00001, 3.0]}
outputs:
  found: {type: "int[]", outputSource: outer/y}
steps:
  outer:
    scatter: sigma
    in: {sigma: sigmas, image: image, words: {default: "$(a) text"}}
    out: [y]
    run:
      class: Workflow
      inputs: {sigma: double, image: File}
      outputs: {y: {type: int, outputSource: inner/y}}
      steps:
        inner: {in: {sigma: sigma, image: image}, out: [y], run: tool.cwl}
        again: {in: {sigma: sigma, image: image}, out: [y], run: tool.cwl}
"""
TOOL = """
cwlVersion: v1.2
class: CommandLineTool
requirements: {InlineJavascriptRequirement: {}}
baseCommand: find
arguments: [$(inputs.image.basename), "$(inputs.image.size + 1)", plain]
inputs:
  sigma: {type: double, inputBinding: {position: 1}}
  image: {type: File, format: "http://edamontology.org/format_3650", inputBinding: {position: 2}}
outputs: {y: int}
stdout: found.txt
"""


def test_what_may_be_left_may_be_left(tmp_path: Path) -> None:
    """A workflow is loaded and walked as ever where nothing of it is replaced."""
    (tmp_path / "w.cwl").write_text(WORKFLOW)
    (tmp_path / "tool.cwl").write_text(TOOL)
    script = """
    import json, pathlib, sys
    from wes_bridge.cwl import log, patches

    if sys.argv[2] == "left":
        patches.PATCHES = tuple(patch for patch in patches.PATCHES if not patch.may_be_left)
    patches.install()
    log.install()
    from tests.cwl.walking import Folder

    folder = Folder(pathlib.Path(sys.argv[1]))
    image = folder.file("image.fits") | {"format": "http://edamontology.org/format_3650"}
    walked = folder.walk("w.cwl", {"image": image}, {"y": 7})
    print(json.dumps([walked.status, walked.outputs, walked.commands, walked.told]))
    """
    told = [ran("-c", textwrap.dedent(script), str(tmp_path), how) for how in ("replaced", "left")]
    status, outputs, commands, _ = json.loads(told[0])
    assert (status, outputs, len(commands)) == ("success", {"found": [7, 7]}, 4)
    assert "0.00001" in commands["outer[0]/inner"]
    assert json.loads(told[1]) == json.loads(told[0])


# ---- releases that nobody has tried

WRITTEN = """
def slow(item, most=5):
    # all of it
    return [item] * most

def checked(
    item,
):
    return item

# about the next
class Walker:
    def walk(self):
        return 1

    def rest(self): return 2
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that things are replaced in: ``theirs``, and ``user``, which has imported from it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "theirs.py").write_text(WRITTEN)
    (tmp_path / "user.py").write_text("from theirs import slow\n")
    for name in ("theirs", "user"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    definitions.forget()
    yield tmp_path / "theirs.py"
    definitions.forget()
    for name in ("theirs", "user"):
        sys.modules.pop(name, None)


def quick(item: Any, most: int = 5) -> list[Any]:
    return [item]


def as_checked(item: Any) -> Any:
    return item


def table(theirs: Path) -> tuple[Patch, Patch, Patch]:
    """Two that must be there and one that may be left, written for what is there now."""
    made = (
        Patch(("user:slow",), quick, "speed", "item, most=", ("x",), "theirs:slow", may_be_left=True),
        Patch(("theirs:checked",), as_checked, "truth", "item", ("x",)),
        Patch(("theirs:Walker.walk",), lambda self: 3, "truth", "self", ("x",)),
    )
    hashed = tuple(replace(one, source=(definitions.source_hash(one.written_for),)) for one in made)
    assert definitions.source("theirs:Walker.rest") == "def rest(self): return 2"
    definitions.forget()
    sys.modules.pop("theirs", None)
    sys.modules.pop("user", None)
    return hashed  # type: ignore[return-value]


def installed(monkeypatch: pytest.MonkeyPatch, made: tuple[Patch, ...]) -> tuple[ModuleType, ModuleType]:
    monkeypatch.setattr(patches, "PATCHES", made)
    patches.install()
    return sys.modules["theirs"], sys.modules["user"]


def test_what_is_as_it_was_is_replaced_without_a_word(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, user = installed(monkeypatch, table(theirs))
    assert (user.slow, module.checked, module.Walker().walk()) == (quick, as_checked, 3)
    patches.install()  # again, as tests do
    assert caplog.records == []


def test_another_source_is_told_once_and_only_what_must_be_is_replaced(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = table(theirs)
    theirs.write_text(WRITTEN.replace("* most", "* (most + 1)").replace("return item", "return item + 1"))
    module, user = installed(monkeypatch, made)
    assert user.slow(1) == [1] * 6, "it is left as it is"
    assert (module.checked, module.Walker().walk()) == (as_checked, 3)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    left, put = record.getMessage().split("Left as they are")[1].split("Replaced all the same")
    assert "theirs.slow (its source is another)" in left
    assert "theirs.checked (its source is another)" in put
    assert "Walker" not in record.getMessage()


def test_other_parameters_are_told(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = table(theirs)
    theirs.write_text(WRITTEN.replace("most=5", "most=5, least=0"))
    _, user = installed(monkeypatch, made)
    assert user.slow is not quick
    (record,) = caplog.records
    assert "theirs.slow (it takes (item, most=, least=), not (item, most=))" in record.getMessage()


def test_what_is_gone_or_taken_from_elsewhere_is_told(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = table(theirs)
    theirs.write_text(WRITTEN.replace("def checked", "def tested"))
    (theirs.parent / "user.py").write_text("def slow(item, most=5): return []\n")
    module, user = installed(monkeypatch, made)
    assert user.slow is not quick
    assert module.checked is as_checked
    (record,) = caplog.records
    assert "theirs.slow (user.slow is not theirs.slow)" in record.getMessage()
    assert "theirs.checked (there is no theirs:checked)" in record.getMessage()


def test_what_to_write_into_the_table_is_told(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(theirs)
    theirs.write_text(WRITTEN.replace("* most", "* (most + 1)"))
    monkeypatch.setattr(patches, "PATCHES", made)
    told = patches.report()
    fresh = definitions.source_hash("theirs:slow")
    assert "same  theirs.checked" in told
    assert told.partition("DIFFERS  theirs.slow")[2].splitlines()[1:4] == [
        "    its source is another",
        "    takes='item, most='",
        f"    source='{fresh}'",
    ]
