"""Expressions in QuickJS: the values CWL expects, and no way to hang or harm the engine."""

import threading

import pytest
import quickjs
from cwl_utils import expression
from cwl_utils.errors import WorkflowException

from wes_bridge.engine import javascript

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


def test_the_time_of_others_does_not_count() -> None:
    """QuickJS counts the processor time of the whole process."""
    others = [threading.Thread(target=_burn, args=(1.5,)) for _ in range(3)]
    for other in others:
        other.start()
    busy = "${ var end = Date.now() + %d; while (Date.now() < end) {} return 'done'; }"
    try:
        assert evaluate(busy % 300, timeout=0.4) == "done"
        with pytest.raises(WorkflowException, match="longer than"):
            evaluate("${ while (true) {} }", timeout=0.2)
    finally:
        for other in others:
            other.join()


def _burn(seconds: float) -> None:
    context = quickjs.Context()
    context.eval(f"var end = Date.now() + {1000 * seconds}; while (Date.now() < end) {{}}")


def test_too_much_memory_is_refused() -> None:
    with pytest.raises(WorkflowException, match="MiB"):
        evaluate("${ var a = 'x'; while (true) { a = a + a; } }")


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
