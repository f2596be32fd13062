"""A node as a process: ``python -m wes_bridge.node.main --config-json '{...}'``."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from wes_bridge.config import NodeConfig
from wes_bridge.node.server import create_app
from wes_bridge.plugging import PluginError
from wes_bridge.private_files import private_file
from wes_bridge.surface.command import command_line, settle
from wes_bridge.surface.process import keep_descriptors

GC_THRESHOLDS = (10_000, 20, 20)
"""Looks for cycles less often than Python's default, which takes a twentieth of a busy node's time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop.

    Prints ``wes-bridge node NAME is ready at URL`` on standard output once it answers.

    Args:
        arguments: of the command line.

    Returns:
        The exit code.
    """
    parser = command_line("node")
    parser.add_argument("--end-sessions-on-exit", action="store_true", help="cancel what runs at the end")
    start = settle(parser, arguments, NodeConfig, "sessions")
    if start.config.shows_all_files:
        parser.error(start.config.shows_all_files)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(0.001)  # file and database threads hand over to the loop sooner
    keep_descriptors()
    try:
        app = create_app(start.config, start.state, start.options.end_sessions_on_exit)
    except PluginError as error:
        parser.error(str(error))
    return start.answer(app, on_ready=lambda url: _note_url(app.node.state, url))


def _note_url(state: Path, url: str) -> None:
    """Leave word in the state folder of where the node answers on this machine."""
    with contextlib.suppress(OSError):
        private_file(state / "url")
        (state / "url").write_text(f"{url}\n")


if __name__ == "__main__":
    sys.exit(main())
