"""The reference dialect at a real node of ours with real containers: it puts what it fetches elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.apart.test_runs import sh, text_of, uploads
from tests.node.conftest import NodeProcess, engine
from tests.node.conftest import Starter as NodeStarter
from tests.node.test_container import IMAGE, image
from tests.service.conftest import Starter
from wes_bridge.cli.flow import reasons

__all__ = ["image"]
pytestmark = [pytest.mark.podman, pytest.mark.slow]


@pytest.fixture
def boxes(start_node: NodeStarter, image: str, tmp_path: Path) -> NodeProcess:
    """Its containers see this machine's loopback interface, where the service is."""
    podman = tmp_path / "podman"
    podman.write_text(
        '#!/bin/sh\nif [ "$1" = run ]; then shift; set -- run --network host "$@"; fi\n'
        f'exec {engine()} "$@"\n'
    )
    podman.chmod(0o755)
    return start_node(
        name="boxes",
        platforms=["container"],
        pull_images=False,
        container_engine=str(podman),
        step_network="machine",
        fetch={"private_hosts": ["127.0.0.0/8"]},
    )


@pytest.mark.parametrize("is_shared", [True, False])
def test_files_and_folders_through_containers(
    start_service: Starter, boxes: NodeProcess, tmp_path: Path, is_shared: bool
) -> None:
    told: dict[str, Any] = {"name": "boxes", "url": boxes.url, "dialect": "reference"}
    told |= {"shared": {str(tmp_path): str(tmp_path)}} if is_shared else {"shares_files": False}
    service = start_service(
        nodes=[],
        brokers=[told],
        engine={"default_image": IMAGE},
        workspace=str(tmp_path / "workspace"),
        fetch={"private_hosts": ["127.0.0.0/8"]},
    )
    document = sh(
        'cat "$1"; cd "$2"; find . -type f | sort; mkdir "$0/x"; ln -s x "$0/y"; echo told >&2',
        {"f": "File", "d": "Directory"},
        {"o": "stdout", "x": {"type": "Directory", "outputBinding": {"glob": "x"}}},
        stdout="o.txt",
    )
    document["baseCommand"].pop()
    document["arguments"] = [{"valueFrom": "$(runtime.outdir)", "position": -1}]
    (tmp_path / "w.cwl").write_text(json.dumps(document))
    run = service.run(tmp_path / "w.cwl", uploads(None, tmp_path))  # type: ignore[arg-type]
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert text_of(run["outputs"]["o"]) == "hello\n./a b\n./deep/c#%.txt\n"
    assert run["outputs"]["x"]["listing"] == []
