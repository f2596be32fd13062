"""A node as a process: ``python -m wes_bridge.node.main --config-json '{...}'``."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from wes_bridge.auth.private import guard, private_token
from wes_bridge.config import NodeConfig
from wes_bridge.node.server import create_app
from wes_bridge.open_files import allow_many
from wes_bridge.surface.process import exit_with_parent, keep_descriptors, serve

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
    parser = argparse.ArgumentParser(prog="python -m wes_bridge.node.main", description=__doc__)
    parser.add_argument("--config-json", default="{}", help="NodeConfig as JSON, or @FILE")
    parser.add_argument("--state-dir", type=Path, help="instead of the configuration's state_dir")
    parser.add_argument("--end-sessions-on-exit", action="store_true", help="cancel what runs at the end")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the parent process is gone"
    )
    parser.add_argument("--log-level", default="warning")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(0.001)  # file and database threads hand over to the loop sooner
    text = options.config_json
    config = NodeConfig.model_validate_json(Path(text[1:]).read_text() if text.startswith("@") else text)
    if config.shows_all_files:
        parser.error(config.shows_all_files)
    state = options.state_dir or config.state_dir
    if state is None:
        parser.error("where should sessions be kept? give --state-dir or state_dir in the configuration")
    keep_descriptors()
    allow_many()
    if options.exit_with_parent:
        exit_with_parent()
    app = create_app(config, state, options.end_sessions_on_exit)
    title = f"node {config.name}"
    guarded, address = guard(app, private_token()), (config.host, config.port)
    return serve(
        guarded,
        address,
        title,
        app.node.release_waiters,
        log_level=options.log_level,
        on_ready=lambda url: _note_url(app.node.state, url),
    )


def _note_url(state: Path, url: str) -> None:
    """Leave word in the state folder of where the node answers on this machine."""
    with contextlib.suppress(OSError):
        (state / "url").write_text(f"{url}\n")


if __name__ == "__main__":
    sys.exit(main())
