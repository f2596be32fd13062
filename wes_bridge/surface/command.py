"""The command line that starts an ExecutionBroker's server, and the way from there to one that answers."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from wes_bridge.auth.door import Served, guarded
from wes_bridge.config import AggregatorConfig, NodeConfig
from wes_bridge.open_files import allow_many
from wes_bridge.plugging import PluginError
from wes_bridge.redaction import redact_logs
from wes_bridge.store.outage import tell_once
from wes_bridge.surface.app import BrokerApp
from wes_bridge.surface.audit import audited
from wes_bridge.surface.process import exit_with_parent, serve

_Config = TypeVar("_Config", AggregatorConfig, NodeConfig)


def command_line(kind: str) -> argparse.ArgumentParser:
    """``python -m wes_bridge.KIND.main`` and the arguments that every server takes."""
    parser = argparse.ArgumentParser(
        prog=f"python -m wes_bridge.{kind}.main", description=f"One {kind}, as a process of its own."
    )
    parser.add_argument("--config-json", default="{}", help=f"{kind.title()}Config as JSON, or @FILE")
    parser.add_argument("--state-dir", type=Path, help="instead of the configuration's state_dir")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the parent process is gone"
    )
    parser.add_argument("--log-level", default="warning")
    return parser


@dataclass(frozen=True)
class Start(Generic[_Config]):
    """What a server was started with.

    Attributes:
        config: of the server.
        state: its folder.
        options: all arguments.
    """

    config: _Config
    state: Path
    options: argparse.Namespace

    def answer(self, app: BrokerApp, on_ready: Callable[[str], None] = lambda _url: None) -> int:
        """Serve until told to stop; see :func:`wes_bridge.surface.process.serve`."""
        try:
            door = guarded(
                self.config, Served(app, self.state, self.config.name, routes=app.paths, signed=app.signed)
            )
            door = audited(door, self.config.audit, self.state, f"{app.kind} {self.config.name}")
        except (OSError, PluginError) as error:
            print(f"error: the {app.kind} cannot see who calls: {error}", file=sys.stderr)  # noqa: T201
            return 1
        return serve(
            door,
            (self.config.host, self.config.port),
            f"{app.kind} {self.config.name}",
            app.release_waiters,
            tls=self.config.tls,
            log_level=self.options.log_level,
            on_ready=on_ready,
            one_cpu=self.config.one_cpu,
        )


def settle(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, model: type[_Config], kept: str
) -> Start[_Config]:
    """Read the arguments and set up the process; what is wrong with them is told, and the process exits.

    Args:
        parser: see :func:`command_line`.
        arguments: None: the process's own.
        model: of the configuration.
        kept: in the state folder, in words.
    """
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    redact_logs()
    tell_once()
    text = options.config_json
    config = model.model_validate_json(Path(text[1:]).read_text() if text.startswith("@") else text)
    state = options.state_dir or config.state_dir
    if state is None:
        parser.error(f"where should {kept} be kept? give --state-dir or state_dir in the configuration")
    if config.stands_open:
        parser.error(config.stands_open)
    if options.exit_with_parent:
        exit_with_parent()
    allow_many()
    return Start(config, state, options)
