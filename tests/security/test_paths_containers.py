"""Links that lead out, where containers are: no mount follows one, and the host's files are not touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, start_node, texts
from tests.node.test_container import boxes, image, sh
from tests.security.paths import CANARY
from tests.security.test_paths_links import Secret, copied, linked, literal, opened_directory, secret

__all__ = ["boxes", "image", "linked", "secret", "start_node"]
pytestmark = pytest.mark.podman


def test_a_link_in_an_opened_directory_is_not_mounted(boxes: NodeProcess, linked: Path) -> None:
    script = f"cd {ROOT}/in/d; cat own added; cat way/canary.txt; true"
    session = boxes.completed(opened_directory(linked, Request(sh(script))))
    assert boxes.stream(session) == "ownadded"


def test_a_literal_is_not_written_through_a_copied_directory(boxes: NodeProcess, linked: Path) -> None:
    request = copied(Request(sh("true")), linked).data(f"{ROOT}/out/d/way/new", literal("changed"))
    assert boxes.run(request)["phase"] == "FAILED"


def test_a_mount_is_not_shown_through_a_link(boxes: NodeProcess, secret: Secret, tmp_path: Path) -> None:
    """Where the engine leaves an empty file for a mount the node puts a link: in its own folder only."""
    (tmp_path / "input").write_text("input")
    script = f"cd {ROOT}/out; mv sub gone; ln -s {secret.folder} sub; true"
    request = Request(sh(script)).data(f"{ROOT}/out/sub/empty", (tmp_path / "input").as_uri())
    boxes.run(request.output(tmp_path / "out"))


def test_streams_and_outputs_do_not_follow_what_the_container_left(
    boxes: NodeProcess, secret: Secret, tmp_path: Path
) -> None:
    script = f"rm sub/log; ln -s {secret.folder}/canary.txt sub/log; ln -s {secret.folder} d"
    streams = {"stdout": {"path": "sub/log"}}
    session = boxes.run(Request(sh(script, streams=streams)).output(tmp_path / "out"))
    assert CANARY not in boxes.stream(session)
    assert CANARY not in texts(session)
    assert not (tmp_path / "out" / "d").exists()


@pytest.fixture(autouse=True)
def _looked_at(secret: Secret) -> Iterator[None]:
    """The secret folder is looked at after each test."""
    yield
