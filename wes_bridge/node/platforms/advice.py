"""What to do where a command is on the machine and its sandbox does not show it: words for the user.

It must know nothing of steps: it says of a path how it could be shown.
"""

from __future__ import annotations

import os
from pathlib import Path

from wes_bridge.node.platforms import shown
from wes_bridge.node.platforms.sandbox import View

_SHEBANG = 512
"""Bytes of a script that are looked at."""


def of_program(program: Path, view: View) -> str:
    """How a program could be shown.

    Args:
        program: its absolute path.
        view: what is shown.
    """
    words = [word for word in os.environ.get("PATH", "").split(os.pathsep) if word]
    if any(not word.startswith("/") and Path(word).absolute() == program.parent for word in words):
        return (
            f"only absolute folders of the node's PATH are shown: put {program.parent} there, not a relative"
            " one such as '.', and start the node again"
        )
    now = shown.tools(os.environ.get("PATH", ""), view.shows, [view.state])
    if shown.is_below(program, now):
        return "it was put there after the node's start: start the node again"
    if shown.is_below(program, shown.COVERED):
        top = next(top for top in shown.COVERED if program.is_relative_to(top))
        return (
            f"steps have a {top} of their own, so nothing below it can be shown by sandbox_shows: move the"
            " program to another folder, or make it a File input"
        )
    found = shown.around(program, view.shows, [view.state])
    if not found:
        return (
            f"{program.parent} holds more than programs and is not shown as a whole: move the program to a"
            " folder of its own and show that, or make it a File input"
        )
    flags = " ".join(f"--show {folder}" for folder in found)
    return (
        f"show it by 'wes-bridge run {flags}', or by the node's setting sandbox_shows, for example"
        f" [system, {', '.join(found)}], or by the node's own PATH"
    )


def interpreter(program: Path) -> Path | None:
    """The absolute path of what runs a script, as its first line says; None of what is no script."""
    try:
        with os.fdopen(os.open(program, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            line = file.read(_SHEBANG).partition(b"\n")[0]
    except OSError:
        return None
    if not line.startswith(b"#!/"):
        return None
    return Path(os.fsdecode(line[2:].split()[0]))
