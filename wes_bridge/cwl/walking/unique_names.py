"""Names of steps in cwltool's log lines, made without asking which names there have been.

cwltool probes a process-wide set name by name, which is quadratic in the width of a scatter and leaks from
run to run. It must not name anything that a user, a task or a file is known by.
"""

from __future__ import annotations

import itertools

_serial = itertools.count(1)


def unique_name(stem: str, names: set[str] | None = None) -> str:
    """A name that nothing else has.

    The engine names steps by path and scatter index; only cwltool's own names for log lines come here.
    """
    return f"{stem}#{next(_serial)}" if names is None else _probe(stem, names)


def _probe(stem: str, names: set[str]) -> str:
    name = next(
        name
        for name in itertools.chain([stem], (f"{stem}_{n}" for n in itertools.count(2)))
        if name not in names
    )
    names.add(name)
    return name
