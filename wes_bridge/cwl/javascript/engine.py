"""CWL's JavaScript in processes of QuickJS: nothing to install, limited in time and memory, no I/O.

Each expression gets a context of its own, so that nothing leaks from one to the next, in a process that can
be killed (:mod:`~wes_bridge.cwl.javascript.processes`). Installing the engine replaces cwl-utils' Node.js one
for the whole process.
"""

from __future__ import annotations

import contextvars
import json
from typing import Any

from cwl_utils.errors import JavascriptException
from cwl_utils.sandboxjs import NodeJSEngine, set_js_engine
from cwl_utils.types import CWLOutputType

from wes_bridge.cwl.javascript.processes import EvaluationError, Evaluators, Stopper
from wes_bridge.cwl.text import invalid_json
from wes_bridge.digits import why
from wes_bridge.model.expansion import nested

_CONSOLE = "var console={log:function(){},error:function(){},warn:function(){},info:function(){}};"
_NESTED = 500
"""Levels of lists and objects that a value may have: Python's stack, and so cwltool, ends at a thousand."""
_evaluators = Evaluators()
_stopper: contextvars.ContextVar[Stopper | None] = contextvars.ContextVar("stopper", default=None)


class QuickJSEngine(NodeJSEngine):
    """A ``cwl_utils.sandboxjs.JSEngine`` on QuickJS."""

    def eval(self, scan: str, jslib: str = "", timeout: float = 20.0, **_kwargs: Any) -> CWLOutputType | None:
        """Evaluate one CWL expression (CWL v1.2, "Expressions").

        Args:
            scan: the expression, ``(...)`` or ``{...}``.
            jslib: code that comes before it: expressionLib, inputs, self, runtime.
            timeout: seconds of processor time it may take.

        Returns:
            Its value as JSON types; None for undefined.

        Raises:
            JavascriptException: it failed, took too long or too much memory, or was stopped.
        """
        body = scan if scan.startswith("{") else f"{{return {scan};}}"
        try:
            result = _evaluators.evaluate(
                f'"use strict";{_CONSOLE}\n{jslib}',
                f'"use strict";JSON.stringify((function(){body})())',
                timeout,
                _stopper.get(),
            )
            return _parsed(result) if result is not None else None
        except EvaluationError as error:
            raise JavascriptException(f"{error}\nin the JavaScript expression: {scan}") from error


def _parsed(text: str) -> CWLOutputType | None:
    """The JSON's value, unless who walks through it would run out of stack."""
    if nested(text) > _NESTED:
        raise EvaluationError(f"its value is nested too deeply, in more than {_NESTED} levels")
    wrong = invalid_json(text)
    if wrong is not None:
        raise EvaluationError(f"its value has {wrong}")
    try:
        value: CWLOutputType | None = json.loads(text)
    except ValueError as error:
        raise EvaluationError(f"its value cannot be read: {why(error)}") from error
    return value


def stop_with(stopper: Stopper) -> None:
    """Let the stopper end the expressions of the current context."""
    _stopper.set(stopper)


def install() -> None:
    """Make QuickJS the engine of every CWL expression of this process."""
    set_js_engine(QuickJSEngine())
