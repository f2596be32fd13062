"""A service and two nodes that tests share, and that are as new for each of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.apart.conftest import ONLY_WEB
from tests.node.conftest import NodeProcess
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter
from wes_bridge.cli.flow import reasons

NODES = ("one", "two")


class Here:
    """A service and the nodes one and two.

    Args:
        start: starts the service.
        nodes: the nodes.
        brokers: more of the configuration of each broker, by its name.
        settings: more of the service's.
    """

    def __init__(
        self,
        start: Starter,
        nodes: dict[str, NodeProcess],
        brokers: dict[str, dict[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        self.nodes = nodes
        listed = [
            {"name": name, "url": node.url, "shares_files": False, **(brokers or {}).get(name, {})}
            for name, node in nodes.items()
        ]
        engine = {"bring_at_once": 1000, "lost_after": 1, **settings.pop("engine", {})}
        self.service: Service = start(nodes=[], brokers=listed, engine=engine, **settings)
        self._before: dict[str, dict[str, int]] = {}
        self._others: set[str] = set()

    def begin(self) -> None:
        """Count from now on."""
        self._before = {name: self._counted(name) for name in self.nodes}
        self._others = {one["session"] for name in self.nodes for one in self.bookings(name)}

    def stop(self) -> None:
        if self.service.process.poll() is None:
            self.service.stop()

    def run(self, folder: Path, document: dict[str, Any], job: Any = None, **more: Any) -> dict[str, Any]:
        (folder / "w.cwl").write_text(json.dumps(document))
        return self.service.run(folder / "w.cwl", job or {}, **more)

    def complete(self, folder: Path, document: dict[str, Any], job: Any = None) -> dict[str, Any]:
        run = self.run(folder, document, job)
        assert run["state"] == "COMPLETE", list(reasons(self.service.client, run))
        return run

    def _counted(self, name: str) -> dict[str, int]:
        kept: dict[str, int] = requests.get(f"{self.nodes[name].url}/status", timeout=30).json()["kept"]
        return kept

    def bookings(self, name: str) -> list[dict[str, Any]]:
        """Sessions and kept outputs at a node, which this test has made."""
        found = requests.get(f"{self.nodes[name].url}/bookings", timeout=30).json()
        return [one for one in found if one["session"] not in self._others]

    def kept(self, name: str) -> dict[str, int]:
        """Bytes that were moved, and outputs that are there now."""
        before = self._before.get(name, {})
        moved = {what: number - before.get(what, 0) for what, number in self._counted(name).items()}
        return moved | {"outputs": sum("kept" in one for one in self.bookings(name))}

    def moved(self, what: str) -> dict[str, int]:
        return {name: self.kept(name)[what] for name in self.nodes}

    def task(self, run: dict[str, Any], name: str) -> dict[str, Any]:
        tasks = self.service.client.tasks(run["run_id"])
        (task,) = [task for task in tasks if task["name"] == name]
        return task

    def text(self, output: dict[str, Any]) -> str:
        answer = requests.get(output["location"], timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.text


class Pool:
    """Nodes and a service for all tests of a module; what a test has killed is started again for the next.

    Args:
        start_service: starts one.
        start_node: starts one.
        new_folder: makes one.
    """

    def __init__(
        self, start_service: Starter, start_node: NodeStarter, new_folder: Callable[[], Path]
    ) -> None:
        self._start_service = start_service
        self._start_node = start_node
        self._new_folder = new_folder
        self._nodes: dict[str, NodeProcess] = {}
        self._shared: tuple[Here, Service] | None = None

    def give(
        self,
        brokers: dict[str, dict[str, Any]] | None = None,
        nodes: dict[str, dict[str, Any]] | None = None,
        **settings: Any,
    ) -> Here:
        """The sites; a service and nodes of its own where a test wants settings of theirs."""
        if nodes is not None:
            own = {name: self._start_node(name=name, **ONLY_WEB, **nodes.get(name, {})) for name in NODES}
            return Here(self._start_service, own, brokers, **settings)
        self._revive()
        if brokers or settings:
            found = Here(self._start_service, self._nodes, brokers, **settings)
        else:
            if self._shared is None:
                here = Here(self._start_service, self._nodes)
                self._shared = here, here.service
            found = self._shared[0]
        found.begin()
        return found

    def take_back(self, sites: Here) -> None:
        """After a test: stop what the next one cannot use."""
        if self._shared is not None and sites is self._shared[0]:
            if sites.service is self._shared[1] and sites.service.process.poll() is None:
                return
            self._shared = None
        sites.stop()
        if sites.nodes is not self._nodes:
            for node in sites.nodes.values():
                node.stop()

    def _revive(self) -> None:
        """Nodes that were killed come back at their addresses, and know nothing of what they were."""
        for name in NODES:
            node = self._nodes.get(name)
            if node is None:
                self._nodes[name] = self._start_node(name=name, sandbox="none", **ONLY_WEB)
            elif node.process is None:
                node.config["port"] = int(node.url.rpartition(":")[2])
                node.state = self._new_folder()
                node.start()
