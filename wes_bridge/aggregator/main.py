"""An aggregator as a process: ``python -m wes_bridge.aggregator.main --config-json '{...}'``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wes_bridge.aggregator.server import create_app
from wes_bridge.config import AggregatorConfig
from wes_bridge.surface.command import command_line, settle


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an aggregator until it is told to stop.

    Prints ``wes-bridge aggregator NAME is ready at URL`` on standard output once it answers.

    Args:
        arguments: of the command line.

    Returns:
        The exit code: 1 when it could not start.
    """
    start = settle(command_line("aggregator"), arguments, AggregatorConfig, "its database")
    return start.answer(create_app(start.config, start.state))


if __name__ == "__main__":
    sys.exit(main())
