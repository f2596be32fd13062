"""Something else is placed in a folder that a node has to fetch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apart.conftest import Sites
from tests.apart.test_runs import submitted, text_of
from tests.apart.workflows import at, found, sh, workflow
from wes_bridge.cli.flow import reasons

MAKE = sh(
    "mkdir -p o/d; seq 1 300000 > o/big; seq 1 5 > o/d/x; ln -s big o/l; echo old > o/d/y; seq 1 9 > g",
    {},
    {"o": found("o", "Directory"), "g": found("g")},
)


@pytest.mark.parametrize("node", ["one", "two"])
def test_a_file_is_placed_in_a_folder(sites: Sites, tmp_path: Path, node: str) -> None:
    """At the node that made the folder, and at another one."""
    entries = [
        {"entry": "$(inputs.d)", "entryname": "work"},
        {"entry": "$(inputs.f)", "entryname": "work/d/extra"},
        {"entry": "new", "entryname": "work/d/y"},
    ]
    take = sh(
        "cd work; find . ! -type d | LC_ALL=C sort; cat d/extra | tail -1; cat d/y; tail -1 big; tail -1 l",
        {"d": "Directory", "f": "File"},
        {"r": "stdout"},
        stdout="r.txt",
        requirements={"InitialWorkDirRequirement": {"listing": entries}},
    )
    steps = {"a": at("one", MAKE, {}), "b": at(node, take, {"d": "a/o", "f": "a/g"})}
    run = submitted(sites, tmp_path, workflow({}, {"r": "File b/r"}, steps), {})
    assert run["state"] == "COMPLETE", list(reasons(sites.service.client, run))
    names = ["./big", "./d/extra", "./d/x", "./d/y", "./l"]
    assert text_of(run["outputs"]["r"]).split() == [*names, "9", "new300000", "300000"]
