"""A node against its own OpenAPI document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tests.node.conftest import REPOSITORY, Starter
from wes_bridge.model import execution_broker

DOCUMENT = REPOSITORY / "openapi" / "execution-broker.yaml"


def test_the_document_can_be_read_and_tried(start_node: Starter) -> None:
    node = start_node(sandbox="none", platforms=["process"])
    shown = node.http.get(f"{node.url}/openapi.json").json()
    assert set(shown["paths"]) == set(yaml.safe_load(DOCUMENT.read_text())["paths"])
    page = node.http.get(f"{node.url}/ui/")
    assert page.headers["content-type"].startswith("text/html")
    assert "openapi.json" in page.text
    nothing = node.http.get(f"{node.url}/nothing")
    assert (nothing.status_code, nothing.json()) == (404, {"message": "Not Found"})


def test_what_the_document_describes_is_what_is_checked() -> None:
    """A field of the document that no model knows would be taken as whatever it is."""
    schemas = yaml.safe_load(DOCUMENT.read_text())["components"]["schemas"]
    unchecked = {
        name: missing
        for name, schema in schemas.items()
        if hasattr(getattr(execution_broker, name, None), "model_fields")
        and (missing := schema.get("properties", {}).keys() - _fields(getattr(execution_broker, name)))
    }
    assert not unchecked


def _fields(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize("name", ["execution-broker.yaml", "aggregator.yaml"])
def test_every_operation_says_that_it_may_be_refused(name: str) -> None:
    document = yaml.safe_load(DOCUMENT.with_name(name).read_text())
    for path, item in document["paths"].items():
        for method in item.keys() & {"get", "post"}:
            wanted = {"401", "403", "408", "421", "429", "431"}
            wanted |= {"413"} if "requestBody" in item[method] else set()
            assert not wanted - item[method]["responses"].keys(), (path, method)


@pytest.mark.slow
def test_no_request_makes_the_node_fail(start_node: Starter, tmp_path: Path) -> None:
    """schemathesis: many requests made from the document, good and bad; none may end in a 5xx."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    # what is made up may ask for files to be read, written and run: it is kept in a folder
    node = start_node(data=["data:", f"{tmp_path.as_uri()}/"], max_running=2)
    command = [str(program), "run", str(DOCUMENT), "--url", node.url]
    # "valid" data may be refused: which resources there are is not in it
    command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "20", "--max-time", "40"]
    command += ["--exclude-path", "/admin/drain"]  # a drained node would refuse all that follows
    command += ["--request-timeout", "30", "--suppress-health-check", "all", "--seed", "1", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert node.http.get(f"{node.url}/health").json()["status"] == "ok"
