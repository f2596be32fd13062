"""cwltool has one room: who else wants something of it asks there, and the room knows nobody above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "wes_bridge"
ROOM = PACKAGE / "cwl"
THEIRS = {"cwltool", "schema_salad", "cwl_utils"}
ABOVE = {"aggregator", "auth", "cli", "demo", "engine", "node", "notify", "store", "surface", "web", "wes"}


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nobody_outside_the_room_imports_cwltool() -> None:
    found = {
        str(path.relative_to(PACKAGE)): sorted(names)
        for path in PACKAGE.rglob("*.py")
        if not path.is_relative_to(ROOM)
        and (names := {name for name in imported(path) if name.partition(".")[0] in THEIRS})
    }
    assert found == {}, "import it from wes_bridge.cwl (cwl/vocabulary.py has the names others may use)"


def test_the_room_imports_nothing_of_what_stands_on_it() -> None:
    above = {
        (str(path.relative_to(PACKAGE)), name)
        for path in ROOM.rglob("*.py")
        for name in imported(path)
        if name.startswith("wes_bridge.") and name.split(".")[1] in ABOVE
    }
    assert above == set()


@pytest.mark.parametrize(
    "module", ["wes_bridge.cwl.errors", "wes_bridge.cwl.log", "wes_bridge.engine.runlog"]
)
def test_what_the_api_and_the_command_line_use_does_not_load_cwltool(module: str) -> None:
    script = f"import sys, {module}; print(sorted({THEIRS!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
