"""A folder with a link to something else of the output it is in, for a step where the disk is shared."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.apart.conftest import ONLY_WEB, Sites
from tests.apart.test_runs import submitted, text_of
from tests.apart.workflows import at, found, sh, workflow
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Starter
from wes_bridge.cli.flow import reasons


def test_what_a_link_leads_to_is_there_and_no_hole(
    start_service: Starter, start_node: NodeStarter, tmp_path: Path
) -> None:
    far, near = start_node(name="far", **ONLY_WEB), start_node(name="near", sandbox="none")
    brokers = [
        {"name": "far", "url": far.url, "shares_files": False},
        {"name": "near", "url": near.url},
    ]
    service = start_service(nodes=[], brokers=brokers, engine={"bring_at_once": 1000})
    make = sh(
        "mkdir -p o/d o/e; yes a | head -c 300000 > o/f; ln -s ../e/g o/d/up; ln -s ../f o/e/g",
        {},
        {"o": found("o/d", "Directory")},
    )
    look = sh('sha1sum < "$1"/up', {"d": "Directory"}, {"r": "stdout"}, stdout="r.txt")
    steps = {"a": at("far", make, {}), "b": at("near", look, {"d": "a/o"})}
    document = workflow({}, {"r": "File b/r"}, steps)
    run = submitted(Sites(service, (far, near)), tmp_path, document, {})
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert text_of(run["outputs"]["r"]).split()[0] == hashlib.sha1(b"a\n" * 150_000).hexdigest()
