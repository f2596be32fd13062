"""Expressions in QuickJS: the values CWL expects, and no way to hang or harm the engine."""

import contextvars
import importlib.util
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from cwl_utils import expression
from cwl_utils.errors import WorkflowException

from tests.waiting import until
from wes_bridge.cwl.javascript import engine as javascript
from wes_bridge.cwl.javascript import evaluator
from wes_bridge.cwl.javascript.processes import Stopper

JS = [{"class": "InlineJavascriptRequirement", "expressionLib": ["function twice(x) { return 2 * x; }"]}]


@pytest.fixture(autouse=True)
def installed() -> None:
    javascript.install()


def evaluate(text: str, inputs: dict | None = None, timeout: float = 5.0) -> object:
    return expression.do_eval(text, inputs or {}, JS, "/out", "/tmp", {"cores": 2}, timeout=timeout)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(twice(inputs.x))", 6),
        ("${ var a = [1, 'b', null]; return a; }", [1, "b", None]),
        ("${ return {'kept': 1, 'dropped': undefined}; }", {"kept": 1}),
        ("$(undefined)", None),
        ("a$(inputs.x)b$(runtime.cores)", "a3b2"),
        ("$({'nested': {'text': 'ünï'}})", {"nested": {"text": "ünï"}}),
        ("${ console.log('quiet'); return 1; }", 1),
    ],
)
def test_values(text: str, value: object) -> None:
    assert evaluate(text, {"x": 3}) == value


def test_nothing_leaks_from_one_expression_to_the_next() -> None:
    evaluate("${ Array.prototype.first = function() { return this[0]; }; return [1].first(); }")
    with pytest.raises(WorkflowException):
        evaluate("$([1].first())")


def test_an_endless_loop_is_stopped_and_named() -> None:
    with pytest.raises(WorkflowException, match=r"(?s)longer than 0\.2 s.*while"):
        evaluate("${ while (true) {} }", timeout=0.2)


NATIVE_HANG = "$('a'.repeat(1 << 26).indexOf('a'.repeat(1 << 20) + 'b'))"
"""QuickJS does not look at the clock meanwhile: hours."""


@pytest.mark.parametrize(
    "text",
    [NATIVE_HANG, "$(/(a+)+b/.test('a'.repeat(40)))", "${ for (;;) { try { f(); } finally { continue; } } }"],
)
def test_what_hangs_inside_the_engine_is_stopped(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(WorkflowException, match=r"longer than 0\.2 s"):
        evaluate(text, timeout=0.2)
    assert time.monotonic() - begun < 20  # of a machine that may be busy
    assert evaluate("$(1 + 1)") == 2


def test_who_claims_to_be_interrupted_is_not_tried_again() -> None:
    begun = time.process_time()
    with pytest.raises(WorkflowException, match="Error: interrupted"):
        evaluate('${ throw new Error("interrupted"); }', timeout=20)
    assert time.process_time() - begun < 1


def test_the_time_of_others_does_not_count() -> None:
    busy = "${ var end = Date.now() + 300; while (Date.now() < end) {} return 'done'; }"
    with ThreadPoolExecutor(4) as threads:
        burning = [threads.submit(evaluate, "${ for (;;) {} }", timeout=1.0) for _ in range(3)]
        assert evaluate(busy, timeout=0.5) == "done"
        assert all("longer than 1 s" in str(burned.exception()) for burned in burning)


def test_expressions_are_stopped_from_outside() -> None:
    stopper = Stopper()

    def begin(text: str) -> object:
        javascript.stop_with(stopper)
        return evaluate(text, timeout=600)

    with ThreadPoolExecutor(2) as threads:
        assert threads.submit(contextvars.copy_context().run, begin, "$(1 + 1)").result() == 2
        before = {child.pid for child in psutil.Process().children()}
        hanging = [
            threads.submit(contextvars.copy_context().run, begin, text)
            for text in ("${ for (;;) {} }", NATIVE_HANG)
        ]
        until(lambda: all(not stopped.done() for stopped in hanging) and len(_burning()) >= 2)
        stopper.stop()
        for stopped in hanging:
            with pytest.raises(WorkflowException, match="stopped, since its run was"):
                stopped.result(20)
        with pytest.raises(WorkflowException, match="stopped, since its run was"):
            threads.submit(contextvars.copy_context().run, begin, "$(1 + 1)").result(20)
    assert evaluate("$(1 + 1)") == 2  # those of others go on
    assert not _burning(), before


def test_its_process_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WES_BRIDGE_PRIVATE_TOKEN", "secret")
    for child in _evaluators():
        child.kill()
        child.wait(20)
    assert evaluate("$(1 + 1)") == 2
    assert _evaluators()
    for child in _evaluators():
        assert "secret" not in str(child.environ())


def test_a_process_that_was_killed_is_replaced_and_told() -> None:
    assert evaluate("$(1 + 1)") == 2
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(evaluate, "${ for (;;) {} }", timeout=600)
        until(_burning)
        for child in _burning():
            child.kill()
        with pytest.raises(WorkflowException, match=r"SIGKILL.*memory"):
            hanging.result(20)
    for child in _evaluators():
        child.kill()
        child.wait(20)
    assert evaluate("$(1 + 1)") == 2


def test_a_question_that_is_told_of_late_ends_no_process() -> None:
    """The kernel may say that a question has come when it is being answered: as if another one came."""
    folder = Path(importlib.util.find_spec("_quickjs").origin).parent
    life, ours = os.pipe()
    command = [sys.executable, "-I", "-S", evaluator.__file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=life) as process:
        assert evaluator.ANSWER.unpack(process.stdout.read(evaluator.ANSWER.size))[0] == evaluator.READY
        for text in (b"for (let n = 0; n < 3e7; n++) {}; '1'", b"'2'"):
            process.stdin.write(evaluator.QUESTION.pack(60, 0, len(text)) + text)
            process.stdin.flush()
            until(lambda: psutil.Process(process.pid).cpu_times().user > 0.2)
        for wanted in (b"1", b"2"):
            kind, _, size = evaluator.ANSWER.unpack(process.stdout.read(evaluator.ANSWER.size))
            assert (kind, process.stdout.read(size)) == (evaluator.VALUE, wanted)
        os.close(ours)
        assert process.wait(60) == -signal.SIGIO


def test_no_process_outlives_us() -> None:
    script = """
import threading
from tests.cwl.test_javascript import evaluate, javascript

javascript.install()
evaluate("$(1 + 1)")
threading.Thread(target=evaluate, args=(%r, {}, 3600)).start()
print("begun", flush=True)
"""
    for text in ("$(1 + 1)", NATIVE_HANG):
        parent = subprocess.Popen([sys.executable, "-c", script % text], stdout=subprocess.PIPE)
        assert parent.stdout and parent.stdout.readline()
        children = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait()
        assert children
        assert psutil.wait_procs(children, 60)[1] == []


def _evaluators() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is_evaluator(child)]


def _is_evaluator(process: psutil.Process) -> bool:
    try:
        return "javascript/evaluator.py" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


def _burning() -> list[psutil.Process]:
    """Those that have begun to evaluate something long."""
    return [child for child in _evaluators() if sum(child.cpu_times()[:2]) > 0.3]


@pytest.mark.parametrize(
    "text",
    [
        "${ var a = []; for (;;) { a.push('x' + a.length); } }",
        "${ var a = []; for (;;) { a.push(new Uint8Array(1 << 24)); } }",
        "$('x'.repeat(1 << 28).split(''))",
    ],
)
def test_too_much_memory_is_refused(text: str) -> None:
    with pytest.raises(WorkflowException, match="256 MiB"):
        evaluate(text, timeout=60)
    assert evaluate("$(1 + 1)") == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("$('x'.repeat(1 << 26))", "larger than 64 MiB"),
        ("${ var a = []; for (var i = 0; i < 700; i++) { a = [a]; } return a; }", "nested too deeply"),
    ],
)
def test_a_value_that_would_harm_the_worker_is_refused(text: str, problem: str) -> None:
    with pytest.raises(WorkflowException, match=problem):
        evaluate(text)


def test_values_that_only_look_nested() -> None:
    wide = "${ var a = []; for (var i = 0; i < 2000; i++) { a.push([{'x': '[[{\\\\\"'}]); } return a; }"
    assert evaluate(wide) == [[{"x": '[[{\\"'}]] * 2000


def test_a_large_question_and_a_large_answer() -> None:
    text = "ü" * 300_000
    assert evaluate("$(inputs.x + inputs.x)", {"x": text}) == text + text


def test_endless_recursion_is_refused() -> None:
    with pytest.raises(WorkflowException, match=r"stack|memory"):
        evaluate("${ function f() { return f() + 1; } return f(); }")


@pytest.mark.parametrize("text", ["$(require('fs'))", "$(process.env)", "$(fetch('http://localhost'))"])
def test_there_is_no_way_out(text: str) -> None:
    with pytest.raises(WorkflowException, match="not defined"):
        evaluate(text)


def test_a_syntax_error_shows_the_expression() -> None:
    with pytest.raises(WorkflowException, match=r"SyntaxError(.|\n)*inputs\.x \+"):
        evaluate("$(inputs.x +)", {"x": 1})
