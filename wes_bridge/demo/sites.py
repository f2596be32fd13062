"""The stage: three nodes and a service with them as brokers, each a process of its own."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from wes_bridge.auth.private import VARIABLE
from wes_bridge.demo.nodes import DemoNode, as_yaml, demo_service
from wes_bridge.demo.processes import Process, clean_environment

_SERVICE_READY = "wes-bridge is ready at "


class Sites:
    """Started on entry, all gone on exit.

    Args:
        nodes: to start.
        state: folder for databases, sessions and logs.
        configs: folder for the configuration files.

    Attributes:
        urls: of the nodes, by name.
        url: of the service.
        token: what all of them want to see as bearer token; other users of the machine can reach their ports.
    """

    def __init__(self, nodes: Sequence[DemoNode], state: Path, configs: Path) -> None:
        self._nodes = list(nodes)
        self._state = state
        self._configs = configs
        self._processes: dict[str, Process] = {}
        self._service: Process | None = None
        self.urls: dict[str, str] = {}
        self.url = ""
        self.token = secrets.token_urlsafe(32)

    def __enter__(self) -> Sites:
        """Start everything; return when it answers.

        Raises:
            wes_bridge.demo.processes.ProcessError: something did not start; the rest is ended.
        """
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self.close()

    def _start(self) -> None:
        environment = clean_environment() | {VARIABLE: self.token}
        for node in self._nodes:
            config = self._configs / f"{node.name}.yaml"
            config.write_text(f"# wes-bridge node --config {config.name}\n{as_yaml(node.config)}")
            arguments = ["node", "--config", str(config), "--state", str(self._state / node.name)]
            arguments += ["--end-sessions-on-exit", "--exit-with-parent"]
            ready = f"wes-bridge node {node.name} is ready at "
            log = self._state / f"{node.name}.log"
            self._processes[node.name] = Process(f"node {node.name}", arguments, ready, log, environment)
        self.urls = {name: process.url() for name, process in self._processes.items()}
        config = self._configs / "service.yaml"
        config.write_text(f"# wes-bridge serve --config {config.name}\n{as_yaml(demo_service(self.urls))}")
        arguments = ["serve", "--config", str(config), "--port", "0", "--state", str(self._state / "service")]
        arguments += ["--quiet", "--exit-with-parent"]
        log = self._state / "service.log"
        self._service = Process("the service", arguments, _SERVICE_READY, log, environment)
        self.url = self._service.url()

    def cut_off(self, name: str) -> None:
        """A node is gone from one moment to the next, and all that runs there."""
        self._processes[name].cut_off()

    def close(self) -> None:
        """End everything: the service first, so that it does not mourn its nodes."""
        if self._service is not None:
            self._service.stop()
        running = [process for process in self._processes.values() if process.alive]
        for process in running:
            process.tell_to_end()
        for process in running:
            process.stop()
