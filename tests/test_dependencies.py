"""What we import is declared, what is declared is imported, and docs/dependencies.md tells of each."""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ONLY_IN_EXTRAS = {"matplotlib": "demo", "psycopg": "postgresql"}
"""Imported where they are asked for only, with words for users without them."""
NOT_IMPORTED_BY_NAME = {"psycopg": "SQLAlchemy imports it by the database's URL"}
PATCHED = ("cwltool", "cwl-utils", "schema-salad")
"""We replace parts of them: a release that was not tried may lack what is replaced."""
LOWEST = os.environ.get("WES_BRIDGE_TEST_VERSIONS") == "lowest"
"""Whether the lowest versions are installed: ``scripts/versions lowest`` says so."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None = None) -> dict[str, str]:
    """What a requirement says, by the distribution's name."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = [re.match(r"([\w.-]+)(?:\[[^]]*\])?(.*)", line) for line in lines]
    return {plain(match[1]): match[2] for match in found if match}


@functools.cache
def imported() -> dict[str, set[str]]:
    """The distributions of all modules that ours import, each with our files."""
    owners = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in (ROOT / "wes_bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for module in {name.partition(".")[0] for name in names}:
                if module not in sys.stdlib_module_names and module != "wes_bridge":
                    names_of = map(plain, owners.get(module, [module]))
                    owner = min(names_of, key=lambda name: name not in declared())
                    found.setdefault(owner, set()).add(str(path.relative_to(ROOT)))
    return found


def test_what_is_imported_is_declared() -> None:
    main = declared()
    missing = {
        name: files
        for name, files in imported().items()
        if name not in main and not (name in ONLY_IN_EXTRAS and name in declared(ONLY_IN_EXTRAS[name]))
    }
    assert missing == {}


def test_what_is_declared_is_imported() -> None:
    assert set(declared()) - set(imported()) == set()
    assert set(declared("postgresql")) <= set(imported()) | set(NOT_IMPORTED_BY_NAME)


@pytest.mark.parametrize("name", sorted(declared()))
def test_each_has_a_lowest_version_and_a_reason(name: str) -> None:
    assert re.search(r">=|==", declared()[name]), "scripts/versions tries the lowest version that is declared"
    told = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert f"`{name}`" in told.replace("ruamel.yaml", "ruamel-yaml") or f"`{name}[" in told


@pytest.mark.parametrize("name", PATCHED)
def test_the_release_that_is_tried_is_the_one_that_is_declared(name: str) -> None:
    """The highest one, in the tests; the lowest one, where the lowest versions are tried."""
    limits = dict(re.findall(r"(==|>=|<=)([\w.]+)", declared()[name]))
    lowest, highest = limits.get("==") or limits[">="], limits.get("==") or limits["<="]
    assert version(name) == (lowest if LOWEST else highest), (
        "pyproject.toml names a release that these tests do not try: install it (pip install -e .), or name"
        " the one that is installed once all tests pass with it (docs/dependencies.md)"
    )
