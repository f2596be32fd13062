"""What an ontology in ``$schemas`` refers to is not fetched by the library that reads it, past all rules."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cwl.conftest import folder  # noqa: F401
from tests.cwl.walking import Folder


@pytest.mark.parametrize("name", ["a.jsonld", "a.json-ld", "a.json", "a.trig", "a.html", "a.owl"])
def test_a_context_is_not_fetched(folder: Folder, tmp_path: Path, name: str) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/context"
        folder.write(name, f'{{"@context": "{url}", "@id": "http://a/b", "http://a/c": "d"}}')
        folder.write(
            "tool.cwl",
            f"""
            cwlVersion: v1.2
            class: CommandLineTool
            baseCommand: "true"
            inputs: {{}}
            outputs: {{}}
            $schemas: [{name}]
            """,
        )
        folder.load("tool.cwl")
        with pytest.raises(TimeoutError):
            server.accept()
