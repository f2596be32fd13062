"""How our processes start: what they are made of is imported while the garbage collector rests.

``python -m wes_bridge.start MODULE ARGUMENT...`` is ``python -m MODULE ARGUMENT...``, a tenth sooner: imports
make hundreds of thousands of objects that stay, and the collector would go through them again and again. It
does not look at them later either. It must not import anything of ours itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator


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


def main() -> None:
    """Run ``main()`` of the module that the first argument names, with the others."""
    name = sys.argv.pop(1)
    with importing():
        module = importlib.import_module(name)
    sys.exit(module.main())


if __name__ == "__main__":
    main()
