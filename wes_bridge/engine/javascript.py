"""CWL's JavaScript in an embedded QuickJS: nothing to install, limited in time and memory, no I/O.

Each expression gets a context of its own, so that nothing leaks from one to the next and contexts never
cross threads. Installing the engine replaces cwl-utils' Node.js one for the whole process.
"""

from __future__ import annotations

import json
import time
from typing import Any

import quickjs
from cwl_utils.errors import JavascriptException
from cwl_utils.sandboxjs import NodeJSEngine, set_js_engine
from cwl_utils.types import CWLOutputType

MEMORY_LIMIT = 256 * 1024**2
"""Bytes an expression may use."""
STACK_LIMIT = 1024**2
"""Bytes of JavaScript stack."""

_CONSOLE = "var console={log:function(){},error:function(){},warn:function(){},info:function(){}};"


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
            JavascriptException: it failed, took too long or too much memory; the message shows it.
        """
        limit = timeout
        while True:
            begun = time.thread_time()
            try:
                result = _run(scan, jslib, limit)
                return json.loads(result) if result is not None else None
            except quickjs.JSException as error:
                if "interrupted" in str(error) and time.thread_time() - begun < 0.9 * timeout:
                    limit *= 2  # QuickJS counts what other threads of the process use
                    continue
                raise JavascriptException(_explain(str(error), scan, timeout)) from error


def _run(scan: str, jslib: str, seconds: float) -> str | None:
    """The expression's value as JSON; ``seconds`` are of processor time, of the whole process."""
    context = quickjs.Context()
    context.set_memory_limit(MEMORY_LIMIT)
    context.set_max_stack_size(STACK_LIMIT)
    context.set_time_limit(seconds)
    body = scan if scan.startswith("{") else f"{{return {scan};}}"
    context.eval(f'"use strict";{_CONSOLE}\n{jslib}')
    result: str | None = context.eval(f'"use strict";JSON.stringify((function(){body})())')
    return result


def _explain(error: str, scan: str, timeout: float) -> str:
    if "interrupted" in error:
        error = f"it took longer than {timeout:g} s and was stopped"
    elif "out of memory" in error:
        error = f"it used more than {MEMORY_LIMIT // 1024**2} MiB and was stopped"
    return f"{error.strip()}\nin the JavaScript expression: {scan}"


def install() -> None:
    """Make QuickJS the engine of every CWL expression of this process."""
    set_js_engine(QuickJSEngine())
