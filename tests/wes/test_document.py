"""Our OpenAPI document against GA4GH WES 1.1.0, by a table written from the published one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from wes_bridge.model.states import State
from wes_bridge.wes.document import document_path, load_document

RUN = ("run_id",)
TASK = ("run_id", "task_id")
PAGES = {"page_size": "integer", "page_token": "string"}
LIST_CODES = {200, 400, 401, 403, 500}
ITEM_CODES = {200, 401, 403, 404, 500}
LIMIT_CODES = {408, 421, 429, 431}
"""Any request may be answered so: it was too slow, for another host, one too many, too long."""

# path, method -> operationId, path parameters, query parameters, schema of the 200, status codes
OPERATIONS: dict[tuple[str, str], tuple[str, tuple[str, ...], dict[str, str], str, set[int]]] = {
    ("/service-info", "get"): ("GetServiceInfo", (), {}, "ServiceInfo", LIST_CODES),
    ("/runs", "get"): ("ListRuns", (), PAGES, "RunListResponse", LIST_CODES),
    ("/runs", "post"): ("RunWorkflow", (), {}, "RunId", LIST_CODES),
    ("/runs/{run_id}", "get"): ("GetRunLog", RUN, {}, "RunLog", ITEM_CODES),
    ("/runs/{run_id}/status", "get"): ("GetRunStatus", RUN, {}, "RunStatus", ITEM_CODES),
    ("/runs/{run_id}/tasks", "get"): ("ListTasks", RUN, PAGES, "TaskListResponse", ITEM_CODES),
    ("/runs/{run_id}/tasks/{task_id}", "get"): ("GetTask", TASK, {}, "TaskLog", ITEM_CODES),
    ("/runs/{run_id}/cancel", "post"): ("CancelRun", RUN, {}, "RunId", ITEM_CODES),
}

FORM = {
    "workflow_params": "string",
    "workflow_type": "string",
    "workflow_type_version": "string",
    "tags": "string",
    "workflow_engine": "string",
    "workflow_engine_version": "string",
    "workflow_engine_parameters": "string",
    "workflow_url": "string",
    "workflow_attachment": "array of binary",
}

LOG = {
    "name": "string",
    "cmd": "array of string",
    "start_time": "string",
    "end_time": "string",
    "stdout": "string",
    "stderr": "string",
    "exit_code": "integer",
    "system_logs": "array of string",
}

# schema -> fields with types, required fields
SCHEMAS: dict[str, tuple[dict[str, str], set[str]]] = {
    "ServiceInfo": (
        {
            "id": "string",
            "name": "string",
            "type": "object",
            "description": "string",
            "organization": "object",
            "contactUrl": "string",
            "documentationUrl": "string",
            "createdAt": "string",
            "updatedAt": "string",
            "environment": "string",
            "version": "string",
            "workflow_type_versions": "map of WorkflowTypeVersion",
            "supported_wes_versions": "array of string",
            "supported_filesystem_protocols": "array of string",
            "workflow_engine_versions": "map of WorkflowEngineVersion",
            "default_workflow_engine_parameters": "array of DefaultWorkflowEngineParameter",
            "system_state_counts": "map of integer",
            "auth_instructions_url": "string",
            "tags": "map of string",
        },
        {
            "id",
            "name",
            "type",
            "organization",
            "version",
            "workflow_type_versions",
            "supported_wes_versions",
            "supported_filesystem_protocols",
            "workflow_engine_versions",
            "default_workflow_engine_parameters",
            "system_state_counts",
            "auth_instructions_url",
            "tags",
        },
    ),
    "WorkflowTypeVersion": ({"workflow_type_version": "array of string"}, set()),
    "WorkflowEngineVersion": ({"workflow_engine_version": "array of string"}, set()),
    "DefaultWorkflowEngineParameter": (
        {"name": "string", "type": "string", "default_value": "string"},
        set(),
    ),
    "RunId": ({"run_id": "string"}, set()),
    "RunStatus": ({"run_id": "string", "state": "State"}, {"run_id"}),
    "RunSummary": (
        {
            "run_id": "string",
            "state": "State",
            "start_time": "string",
            "end_time": "string",
            "tags": "map of string",
        },
        {"run_id", "tags"},
    ),
    "RunListResponse": ({"runs": "array of RunSummary", "next_page_token": "string"}, set()),
    "RunRequest": (
        {
            "workflow_params": "object",
            "workflow_type": "string",
            "workflow_type_version": "string",
            "tags": "map of string",
            "workflow_engine_parameters": "map of string",
            "workflow_engine": "string",
            "workflow_engine_version": "string",
            "workflow_url": "string",
        },
        {"workflow_type", "workflow_type_version", "workflow_url"},
    ),
    "RunLog": (
        {
            "run_id": "string",
            "request": "RunRequest",
            "state": "State",
            "run_log": "Log",
            "task_logs_url": "string",
            "task_logs": "array of any of Log, TaskLog",
            "outputs": "object",
        },
        set(),
    ),
    "Log": (LOG, set()),
    "TaskLog": ({**LOG, "id": "string", "tes_uri": "string"}, {"id", "name"}),
    "TaskListResponse": ({"task_logs": "array of TaskLog", "next_page_token": "string"}, set()),
    "ErrorResponse": ({"msg": "string", "status_code": "integer"}, set()),
}

STATES = [
    "UNKNOWN",
    "QUEUED",
    "INITIALIZING",
    "RUNNING",
    "PAUSED",
    "COMPLETE",
    "EXECUTOR_ERROR",
    "SYSTEM_ERROR",
    "CANCELED",
    "CANCELING",
    "PREEMPTED",
]

ADDED = {
    ("/runs/plan", "post"),
    ("/runs/{run_id}", "delete"),
    *[("/runs/{run_id}/events", method) for method in ("get", "head")],
    ("/runs/{run_id}/rerun", "post"),
    ("/runs/{run_id}/authorise", "post"),
    *[("/runs/{run_id}/logs/{stream}", method) for method in ("get", "head")],
    *[("/runs/{run_id}/tasks/{task_id}/{stream}", method) for method in ("get", "head")],
    *[("/runs/{run_id}/files/{path}", method) for method in ("get", "head")],
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return load_document()


def resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        reference = node["$ref"]
        assert reference.startswith("#/"), f"{reference} would be fetched when the server starts"
        node = document
        for part in reference[2:].split("/"):
            node = node[part]
    return node


def type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return "any of " + ", ".join(type_of(one) for one in schema["anyOf"])
    if schema.get("format") == "binary":
        return "binary"
    if schema["type"] == "array":
        return f"array of {type_of(schema['items'])}"
    if schema["type"] == "object" and "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}"
    kind: str = schema["type"]
    return kind


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, method): operation
        | {"parameters": item.get("parameters", []) + operation.get("parameters", [])}
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_all_operations_and_no_others_but_the_additions(document):
    assert set(operations(document)) == set(OPERATIONS) | ADDED
    assert document["servers"] == [{"url": "/ga4gh/wes/v1"}]
    assert document["info"]["version"] == "1.1.0"


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_operation(document, path, method):
    name, in_path, in_query, answer, codes = OPERATIONS[path, method]
    operation = operations(document)[path, method]
    assert operation["operationId"] == name
    parameters = [resolve(document, one) for one in operation["parameters"]]
    assert [one["name"] for one in parameters if one["in"] == "path"] == list(in_path)
    found = {one["name"]: one for one in parameters if one["in"] == "query"}
    for wanted, kind in in_query.items():
        assert found[wanted]["schema"]["type"] == kind
    for one in parameters:
        assert one.get("required", False) == (one["in"] == "path"), "no addition may be required"
    assert codes <= {int(code) for code in operation["responses"]}
    for code, response in operation["responses"].items():
        schema = resolve(document, response)["content"]["application/json"]["schema"]
        assert type_of(schema) == (answer if code == "200" else "ErrorResponse")


def test_every_operation_says_that_it_may_be_refused(document):
    for (path, method), operation in operations(document).items():
        wanted = LIMIT_CODES | {401, 403} | ({413} if "requestBody" in operation else set())
        missing = wanted - {int(code) for code in operation["responses"]}
        assert not missing, (path, method)
    assert "Retry-After" in document["components"]["responses"]["TooManyRequests"]["headers"]


def test_the_form(document):
    body = operations(document)["/runs", "post"]["requestBody"]
    assert not body.get("required", False)
    schema = body["content"]["multipart/form-data"]["schema"]
    assert {name: type_of(one) for name, one in schema["properties"].items()} == FORM
    assert "required" not in schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema(document, name):
    fields, required = SCHEMAS[name]
    schema = document["components"]["schemas"][name]
    types = {field: type_of(one) for field, one in schema["properties"].items()}
    assert {field: types.get(field) for field in fields} == fields
    assert set(schema.get("required", [])) == required, "no addition may be required"


def test_states(document):
    assert document["components"]["schemas"]["State"]["enum"] == STATES == [state.value for state in State]


def test_nullable_and_deprecated(document):
    task_logs = document["components"]["schemas"]["RunLog"]["properties"]["task_logs"]
    assert task_logs["nullable"] is True
    assert task_logs["deprecated"] is True


def test_nothing_is_fetched_at_start(document):
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [one for value in node.values() for one in references(value)]
        return [one for value in node for one in references(value)] if isinstance(node, list) else []

    assert all(one.startswith("#/") for one in references(document))


def test_the_document_is_found_in_the_source_tree():
    assert document_path().name == "wes.yaml"
    with pytest.raises(FileNotFoundError, match="install"):
        document_path("nope.yaml")


def test_the_served_document_is_ours(server, document):
    served = requests.get(f"{server.url}/openapi.json", timeout=60).json()
    assert set(served["paths"]) == set(document["paths"])


@pytest.mark.slow
def test_answers_are_as_the_document_says(server, engine, document):
    """Every answer of the standard's operations, checked against its schema."""
    import jsonschema  # noqa: PLC0415

    run_id = server.submit({"w.cwl": b"x"}, workflow_url="w.cwl", tags='{"a": "b"}')
    engine.finish(run_id, {"o": engine.output(run_id, "o.txt", b"x")})
    engine.task(run_id, 1, state=State.COMPLETE, cmd=["x"], exit_code=0, start_time=1.0, end_time=2.0)
    fresh = server.submit()
    for (path, method), (_, _, _, schema, _) in OPERATIONS.items():
        if method == "get":
            for one in (run_id, fresh) if "task_id" not in path else (run_id,):
                answer = server.get(path.format(run_id=one, task_id="t1"))
                assert answer.status_code == 200
                checked = answer.json()
                if schema == "RunLog":  # JSON Schema of OpenAPI 3.0: nullable is not null
                    assert checked.pop("task_logs") is None
                resolver = {"components": document["components"], "$ref": f"#/components/schemas/{schema}"}
                jsonschema.validate(checked, resolver)


@pytest.mark.slow
def test_no_request_makes_the_server_fail(server, tmp_path):
    """schemathesis: thousands of requests made from the document, good and bad; none may end in a 5xx."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    command = [str(program), "run", f"{server.url}/openapi.json", "--url", server.url]
    # the published form requires no field, and page tokens cannot be made up: "valid" input may be refused
    command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    command += [
        "--max-examples",
        "40",
        "--max-time",
        "40",
        "--suppress-health-check",
        "all",
        "--seed",
        "1",
        "--no-color",
    ]
    # a run that nobody works on has a stream of events without end
    (tmp_path / "schemathesis.toml").write_text("max-stream-events = 1\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_wheel_has_the_document(tmp_path):
    root = document_path().parent.parent
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            tmp_path,
            root,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if built.returncode:
        pytest.skip(f"cannot build a wheel here: {built.stderr[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    assert "wes_bridge/openapi/wes.yaml" in zipfile.ZipFile(wheel).namelist()
