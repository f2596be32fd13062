"""How our processes start: what they are made of is imported while the garbage collector rests.

``python -m wes_bridge.start MODULE ARGUMENT...`` is ``python -m MODULE ARGUMENT...``, a tenth sooner: imports
make hundreds of thousands of objects that stay, and the collector would go through them again and again. It
does not look at them later either. It must not import anything of ours itself.

``python -m wes_bridge.start --told-later MODULE`` imports the module and then reads its arguments from its
standard input: one line, a JSON list of strings. When there is none it ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator

_LATER = "--told-later"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """For imports that a process makes once, for good."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def command(module: str, *arguments: str) -> list[str]:
    """The arguments of a Python interpreter that runs ``main()`` of ``module`` in a process of its own."""
    return ["-m", "wes_bridge.start", module, *arguments]


def told_later(module: str) -> list[str]:
    """The same for a process that reads its arguments from standard input when it has imported the module."""
    return ["-m", "wes_bridge.start", _LATER, module]


def main() -> None:
    """Run ``main()`` of the module that the first argument names, with the others."""
    name = sys.argv.pop(1)
    waits = name == _LATER
    if waits:
        name = sys.argv.pop(1)
    with importing():
        module = importlib.import_module(name)
    if waits:
        arguments = _told()
        if arguments is None:
            return
        sys.argv[1:] = arguments
    sys.exit(module.main())


def _told() -> list[str] | None:
    """The arguments; None when who was to tell them is gone. Takes nothing of what comes after them."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return None
        line += piece
    told: list[str] = json.loads(line)
    return told


if __name__ == "__main__":
    main()
