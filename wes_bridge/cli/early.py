"""A child of ``serve`` that begins to import before anybody knows what it will be told.

Reading the configuration takes half a second of one processor; an engine worker's imports, the longest of
all, are made meanwhile by another. Must stay light: nothing may be imported before the child is started.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from wes_bridge.start import told_later

WORKER = "wes_bridge.engine.worker"


class Early:
    """A process that imports a module and then waits for its arguments.

    Args:
        module: has a ``main()``.

    Attributes:
        process: its standard input and output are pipes, and Ctrl-C in the terminal is not for it.
    """

    def __init__(self, module: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *told_later(module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def close(self) -> None:
        """Kill it, unless it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def tell(self, arguments: Sequence[str]) -> None:
        """Let it go on.

        Raises:
            OSError: it has ended.
        """
        if self.process.stdin is None:
            raise ValueError("it has been told already")
        self.process.stdin.write(json.dumps(list(arguments)).encode() + b"\n")
        self.process.stdin.flush()
