"""An aggregator as a process: ``python -m wes_bridge.aggregator.main --config-json '{...}'``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from wes_bridge.aggregator.server import create_app
from wes_bridge.auth.private import guard, private_token
from wes_bridge.config import AggregatorConfig
from wes_bridge.surface.process import exit_with_parent, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an aggregator until it is told to stop.

    Prints ``wes-bridge aggregator NAME is ready at URL`` on standard output once it answers.

    Args:
        arguments: of the command line.

    Returns:
        The exit code: 1 when it could not start.
    """
    parser = argparse.ArgumentParser(prog="python -m wes_bridge.aggregator.main", description=__doc__)
    parser.add_argument("--config-json", default="{}", help="AggregatorConfig as JSON, or @FILE")
    parser.add_argument("--state-dir", type=Path, help="instead of the configuration's state_dir")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the parent process is gone"
    )
    parser.add_argument("--log-level", default="warning")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    text = options.config_json
    config = AggregatorConfig.model_validate_json(
        Path(text[1:]).read_text() if text.startswith("@") else text
    )
    state = options.state_dir or config.state_dir
    if state is None:
        parser.error("where should it keep its database? give --state-dir or state_dir in the configuration")
    if options.exit_with_parent:
        exit_with_parent()
    app = create_app(config, state)
    release = app.aggregator.release_waiters
    guarded = guard(app, private_token())
    return serve(
        guarded, (config.host, config.port), f"aggregator {config.name}", release, log_level=options.log_level
    )


if __name__ == "__main__":
    sys.exit(main())
