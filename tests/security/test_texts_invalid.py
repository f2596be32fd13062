"""Text that is none, or that is meant for a terminal: refused where it comes in, or kept and shown escaped.

Whatever is in parameters, tags, names, outputs and messages: a run comes to its end, and can be shown,
listed and followed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.conftest import Service, Starter, start_service  # noqa: F401

pytestmark = pytest.mark.database
CONTROLS = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
ENDED = {"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR"}
EVIL = [
    "\ud800",
    "\udfff\ud800",
    "a\0b",
    "\x1b[2J\x1b]0;title\x07",
    "x\r\n2026-01-01T00:00:00Z ERROR forged",
    "\u202egnp.exe",
    "\uffff\ufffe",
    "é" * 5000,
    "'; DROP TABLE runs; --",
]
TEXTS = st.sampled_from(EVIL) | st.text(st.characters(), max_size=40)
ECHO_VALUE = {
    "cwlVersion": "v1.2",
    "class": "ExpressionTool",
    "requirements": {"InlineJavascriptRequirement": {}},
    "inputs": {"a": "Any?"},
    "outputs": {"a": "Any?"},
    "expression": "${ return {a: inputs.a}; }",
}


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:  # noqa: F811
    return start_service()


def submit(service: Service, tool: dict[str, Any], params: Any = None, **fields: Any) -> requests.Response:
    data = {
        "workflow_url": "tool.cwl",
        "workflow_type": "CWL",
        "workflow_type_version": "v1.2",
        "workflow_params": json.dumps(params or {}),
    } | fields
    name = data["workflow_url"]
    files = [("workflow_attachment", (name, json.dumps(tool).encode()))]
    return requests.post(f"{service.url}/ga4gh/wes/v1/runs", data=data, files=files, timeout=60)


def shown(service: Service, run_id: str) -> dict[str, Any]:
    """A run at its end, with all that shows it looked at."""
    base = f"{service.url}/ga4gh/wes/v1/runs"
    service.client.wait(run_id, timeout=60)
    for path in (
        f"{base}/{run_id}",
        f"{base}/{run_id}/tasks",
        f"{base}?page_size=5",
        f"{base}/{run_id}/status",
    ):
        answer = requests.get(path, timeout=60)
        assert answer.ok, answer.text
        answer.json()
        answer.content.decode()
    run: dict[str, Any] = requests.get(f"{base}/{run_id}", timeout=60).json()
    log = requests.get(run["run_log"]["stderr"], timeout=60)
    assert log.ok
    assert "\x1b" not in log.text and "\0" not in log.text
    told = "".join(run["run_log"]["system_logs"])
    assert not set(told) & CONTROLS
    told.encode()
    return run


def check(service: Service, answer: requests.Response) -> dict[str, Any] | None:
    """That a submission was refused in words, or the run came to an end that can be shown."""
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["msg"]
        return None
    run = shown(service, answer.json()["run_id"])
    assert run["state"] in ENDED
    assert "internal error" not in json.dumps(run["run_log"]["system_logs"])
    return run


@pytest.mark.parametrize("text", EVIL)
def test_in_parameters(service: Service, text: str) -> None:
    run = check(service, submit(service, ECHO_VALUE, {"a": text, text: 1}))
    if run is not None and run["state"] == "COMPLETE":
        assert run["outputs"] == {"a": text}


@pytest.mark.parametrize("text", EVIL)
def test_in_tags(service: Service, text: str) -> None:
    answer = submit(service, ECHO_VALUE, tags=json.dumps({text: "value", "key": text}))
    check(service, answer)


@pytest.mark.parametrize("text", EVIL)
def test_in_documents(service: Service, text: str) -> None:
    """In names, labels, constants and defaults."""
    for tool in (
        ECHO_VALUE | {"inputs": {text: "string?"}, "label": text},
        ECHO_VALUE | {"id": text},
        ECHO_VALUE | {"outputs": {text: "string?"}},
        ECHO_VALUE | {"inputs": {"a": {"type": "Any?", "default": text}}},
        ECHO_VALUE | {"class": text},
    ):
        check(service, submit(service, tool))


@pytest.mark.parametrize("text", EVIL)
def test_in_names_of_steps(service: Service, text: str) -> None:
    flow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {},
        "outputs": {},
        "steps": {text: {"run": command(["true"]), "in": {}, "out": []}},
    }
    check(service, submit(service, flow))


def command(words: list[str], **more: Any) -> dict[str, Any]:
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "inputs": {},
        "outputs": {},
        "baseCommand": words,
    }
    return tool | more


@pytest.mark.parametrize("text", EVIL)
def test_in_commands(service: Service, text: str) -> None:
    check(service, submit(service, command(["echo", text])))
    check(service, submit(service, command([text])))
    check(service, submit(service, command(["true"], stdout=text[:200])))
    env = {"EnvVarRequirement": {"envDef": {"A": text}}}
    check(service, submit(service, command(["true"], requirements=env)))
    work = {"InitialWorkDirRequirement": {"listing": [{"entryname": text[:200], "entry": text}]}}
    check(service, submit(service, command(["true"], requirements=work)))


@pytest.mark.parametrize("text", EVIL)
def test_in_what_a_command_says(service: Service, text: str) -> None:
    """Its last words become the run's message."""
    said = f"{text!a}.encode('utf-8', 'surrogatepass')"
    script = f"import sys; sys.stderr.buffer.write({said}); sys.exit(3)"
    run = check(service, submit(service, command(["python3", "-c", script])))
    assert run is not None and run["state"] == "EXECUTOR_ERROR"


@pytest.mark.parametrize("code", ["'\\ud800'", "{'\\udc00': 1}", "'a\\0b'", "'\\x1b[2J'", "1e400", "NaN"])
def test_made_by_expressions(service: Service, code: str) -> None:
    check(service, submit(service, ECHO_VALUE | {"expression": f"${{ return {{a: {code}}}; }}"}))
    check(service, submit(service, ECHO_VALUE | {"expression": f"${{ throw {code}; }}"}))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=TEXTS, key=TEXTS, tag=TEXTS)
def test_any_text(service: Service, value: str, key: str, tag: str) -> None:
    tags = json.dumps({key: tag})
    check(service, submit(service, ECHO_VALUE, {"a": {key: [value]}}, tags=tags))


def test_all_of_them_can_be_listed(service: Service) -> None:
    token = ""
    while True:
        page = requests.get(
            f"{service.url}/ga4gh/wes/v1/runs", {"page_size": 20, "page_token": token}, timeout=60
        )
        assert page.ok
        token = page.json().get("next_page_token", "")
        if not token:
            return
