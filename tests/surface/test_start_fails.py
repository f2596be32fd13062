"""A server whose application cannot start, for whatever reason, does not say that it is ready."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from wes_bridge.surface.process import serve

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        raise KeyError("what nobody thought of")
    raise AssertionError("it must not be served")

sys.exit(serve(app, ("127.0.0.1", 0), "node test", lambda: None))
"""


def test_an_error_that_nobody_thought_of() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "what nobody thought of" in done.stderr
