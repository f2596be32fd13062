"""The demonstration from beginning to end, and all it says on the way."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wes_bridge.bundle import make_bundle
from wes_bridge.cli import flow, steps
from wes_bridge.cli.progress import Progress
from wes_bridge.client import WESClient
from wes_bridge.demo import words
from wes_bridge.demo.drawing import can_png, svg, write_png
from wes_bridge.demo.nodes import DemoNode, demo_nodes
from wes_bridge.demo.sites import Sites
from wes_bridge.demo.story import Act, Task, session_urls, tell
from wes_bridge.demo.timeline import timeline
from wes_bridge.demo.watching import Watch
from wes_bridge.model.execution_broker import Session

WORKFLOW = Path(__file__).parent / "workflow" / "survey.cwl"
_TIMEOUT = 10.0
_ANYWAY = 0.75
"""Part of the steps after which a node is stopped even if nothing happens to run there."""
_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


@dataclass(frozen=True)
class Options:
    """What is to be shown.

    Attributes:
        workdir: folder for pictures, outputs and configuration files.
        policies: one run each, in this order.
        stop: node to stop half-way in one more run; None: the one that ran most; empty: no such run.
        workflow: to run; None: the small one that comes along.
        job: its job file.
        quick: fewer and shorter steps.
        keep: stay, with nodes and service running, until Ctrl-C.
        picture: draw the timeline.
    """

    workdir: Path
    policies: tuple[str, ...]
    stop: str | None = None
    workflow: str | None = None
    job: str | None = None
    quick: bool = False
    keep: bool = False
    picture: bool = True


class Show:
    """One performance.

    Args:
        options: what to show.
        console: where to say it.
    """

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._nodes = demo_nodes()
        self._acts: list[Act] = []
        self._outputs: list[str] = []

    def perform(self) -> bool:
        """Run it all; whether every run was COMPLETE.

        Raises:
            wes_bridge.demo.processes.ProcessError: something could not be started.
            wes_bridge.client.WESError: the service refused.
            wes_bridge.bundle.BundleError: the workflow or its job cannot be read.
            OSError: the folder cannot be written.
            KeyboardInterrupt: Ctrl-C; by then all processes are gone.
        """
        # mistakes are told before the start
        make_bundle(self._options.workflow or WORKFLOW, self._job(), upload_from=["/"])
        self._options.workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="wes-bridge-demo-", ignore_cleanup_errors=True) as state:
            self._head("three nodes and a service, each a process of its own")
            with Sites(self._nodes, Path(state), self._options.workdir) as sites:
                self._introduce(sites)
                with Watch(sites.urls, sites.token) as watch:
                    self._acts_of(sites, watch)
                self._conclude()
                if self._options.keep:
                    self._stay(sites)
        return all(act.state == "COMPLETE" for act in self._acts)

    # --- the runs

    def _acts_of(self, sites: Sites, watch: Watch) -> None:
        options = self._options
        with WESClient(sites.url, token=sites.token) as client:
            for policy in options.policies:
                self._head(f"the workflow, policy {policy}")
                self._act(client, sites, watch, policy)
            if options.stop == "":
                return
            ran = self._acts[-1].by_node()
            victim = options.stop or max(ran, key=lambda name: ran[name], default=self._nodes[0].name)
            self._head(f"once more, policy {options.policies[-1]}; {victim} is stopped half-way")
            self._act(client, sites, watch, options.policies[-1], victim)

    def _act(
        self, client: WESClient, sites: Sites, watch: Watch, policy: str, victim: str | None = None
    ) -> None:
        run_id = client.submit(
            self._options.workflow or WORKFLOW,
            self._job(),
            engine_parameters={"policy": policy},
            tags={"demo": policy},
        )
        stopper = _Stopper(client, sites, watch, victim, len(self._acts[-1].tasks)) if victim else None
        with Progress(client, sys.stdout) as progress:

            def follow(now: dict[str, Any]) -> None:
                progress.update(now)
                if stopper is not None:
                    stopper.look(run_id)

            state = flow.see_through(client, run_id, follow, lambda text: self._say(f"  {text}"))
        if stopper is not None and stopper.moment:  # not while the bar is drawn
            self._say(f"  [red]{victim} was stopped[/red], with what ran there, {stopper.words}")
        tasks = flow.tasks_of(client, run_id)
        sessions = _sessions(session_urls(tasks), sites.token)
        if stopper is not None:  # what the stopped node told last
            ended = {url: told for url, told in stopper.sessions.items() if told.phase.is_final}
            sessions = ended | sessions
        stopped = (victim, stopper.moment) if victim and stopper and stopper.moment else None
        act = tell(policy, state, tasks, sessions, watch.seen(), stopped=stopped)
        first = not self._acts
        self._acts.append(act)
        self._tell_act(client, client.run(run_id), act, first)

    def _job(self) -> dict[str, Any] | str | None:
        if self._options.workflow is not None:
            return self._options.job
        return {"fields": 4, "pace": 0.2} if self._options.quick else {"fields": 6, "pace": 0.5}

    def _tell_act(self, client: WESClient, log: dict[str, Any], act: Act, first: bool) -> None:
        good = act.state == "COMPLETE"
        where = ", ".join(f"{name} {count}" for name, count in act.by_node().most_common())
        lost = f", {act.lost()} lost and run again elsewhere" if good and act.lost() else ""
        colour = "green" if good else "red"
        self._say(f"  [{colour}]{act.state}[/{colour}] in {act.makespan:.1f} s; steps by node: {where}{lost}")
        if not good:
            for line in flow.reasons(client, log):
                self._say(f"  {escape(line)}")
            return
        outputs = log.get("outputs") or {}
        self._outputs.append(json.dumps(_contents(outputs), sort_keys=True))
        if first:
            client.download(str(log["run_id"]), self._options.workdir / "outputs", outputs=outputs)

    # --- what is said

    def _say(self, text: str = "") -> None:
        self._console.print(text)

    def _head(self, text: str) -> None:
        self._say(f"\n[bold]== {escape(text)}[/bold]")

    def _introduce(self, sites: Sites) -> None:
        table = _table("node", "is", "cores", "price/h", "kWh/h", "g CO2/h", "speed", "bookable")
        for node in self._nodes:
            table.add_row(node.name, node.words, *_quotes(node))
        self._console.print(table)
        self._say("  what they quote is per hour of a booking; bookings begin on the minute, or at once")
        self._say(f"  the service is at {sites.url}; its brokers are {', '.join(sites.urls)}")

    def _conclude(self) -> None:
        self._head("the runs: steps by node, and what the bookings were quoted at")
        columns, rows = words.table(self._acts, [node.name for node in self._nodes])
        table = _table(*columns)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row), style="" if row[-1] == "COMPLETE" else "red")
        self._console.print(table)
        if len(self._outputs) > 1:
            same = len(set(self._outputs)) == 1
            self._say(f"  outputs of all runs are {'the same' if same else '[red]not[/red] the same'}")
        self._head("why there")
        for act in self._acts:
            self._say(f"  [bold]{escape(act.title)}[/bold]")
            for line in words.reasons(act):
                self._say(f"    {escape(line)}")
        self._head("what is left")
        for line in self._write():
            self._say(f"  {escape(line)}")

    def _write(self) -> Iterator[str]:
        folder = self._options.workdir
        outputs = folder / "outputs"
        if outputs.is_dir():
            for path in sorted(path for path in outputs.iterdir() if path.is_file()):
                yield f"output     {path}"
        logs = folder / "runs.json"
        logs.write_text(json.dumps([_record(act) for act in self._acts], indent=1, ensure_ascii=False) + "\n")
        yield f"task logs  {logs}"
        yield f"settings   {folder}/*.yaml"
        if not self._options.picture:
            return
        count = len(self._options.policies)
        many = _NUMBERS.get(count, str(count))
        title = f"One workflow, {many} polic{'y' if count == 1 else 'ies'}, three nodes"
        sheet = timeline(title, self._acts, {node.name: _caption(node) for node in self._nodes})
        drawn = folder / "timeline.svg"
        drawn.write_text(svg(sheet), encoding="utf-8")
        yield f"timeline   {drawn}"
        if can_png():
            write_png(sheet, drawn.with_suffix(".png"))
            yield f"timeline   {drawn.with_suffix('.png')}"
        else:
            yield "           (pip install matplotlib, and there is a PNG too)"

    def _stay(self, sites: Sites) -> None:
        self._head("nodes and service go on until Ctrl-C")
        self._say("  look around, in another terminal:")
        self._say(f"    export WES_BRIDGE_URL={sites.url} WES_BRIDGE_TOKEN={sites.token}")
        self._say("    wes-bridge runs")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


class _Stopper:
    """Stops a node when half of the steps are done and something runs there."""

    def __init__(self, client: WESClient, sites: Sites, watch: Watch, victim: str, expected: int) -> None:
        self._client = client
        self._sites = sites
        self._watch = watch
        self._victim = victim
        self._expected = max(1, expected)
        self.moment = 0.0
        self.words = ""
        self.sessions: dict[str, Session] = {}

    def look(self, run_id: str) -> None:
        """Look at the run, and stop the node if it is time."""
        if self.moment:
            return
        tasks = flow.tasks_of(self._client, run_id)
        done = sum(steps.state(task) in steps.FINAL for task in tasks)
        there = [task for task in tasks if task.get("node") == self._victim]
        running = any(steps.state(task) == "RUNNING" for task in there)
        part = done / self._expected
        if part < 0.5 or (not running and part < _ANYWAY):
            return
        self._watch.forget(self._victim)
        self.sessions = _sessions(session_urls(there), self._sites.token)
        self.moment = time.time()
        self._sites.cut_off(self._victim)
        self.words = f"after {done} of {self._expected} steps"


def _sessions(urls: Sequence[str], token: str) -> dict[str, Session]:
    """What nodes still tell of sessions."""
    found = {}
    silent: set[str] = set()
    with requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {token}"
        for url in urls:
            host = url.partition("/sessions/")[0]
            if host in silent:
                continue
            try:
                answer = http.get(url, timeout=_TIMEOUT)
                found[url] = Session.model_validate_json(answer.content)
            except requests.RequestException:
                silent.add(host)
            except ValidationError:
                continue
    return found


def _contents(value: Any) -> Any:
    """An output object without what differs from run to run: where files are."""
    if isinstance(value, dict):
        kept = ("basename", "checksum", "listing", "secondaryFiles", "size")
        names = kept if value.get("class") in ("File", "Directory") else value
        return {name: _contents(value[name]) for name in names if name in value}
    return [_contents(item) for item in value] if isinstance(value, list) else value


def _record(act: Act) -> dict[str, Any]:
    tasks: list[Task] = act.tasks
    stopped = {"node": act.stopped[0], "at": act.stopped[1]} if act.stopped else None
    bars = [vars(bar) for bar in act.bars]
    return {
        "policy": act.policy,
        "state": act.state,
        "stopped": stopped,
        "attempts": bars,
        "task_logs": tasks,
    }


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _quotes(node: DemoNode) -> Iterator[str]:
    config = node.config
    yield str(config.cores)
    quotes = config.quotes
    for span in (quotes.monetary, quotes.energy, quotes.carbon, quotes.compute_performance):
        yield f"{span.min:g}-{span.max:g}" if span else "?"
    horizon = config.booking.horizon.total_seconds() / 60
    yield f"{horizon:g} min ahead"


def _caption(node: DemoNode) -> str:
    cores = f"{node.config.cores} core{'' if node.config.cores == 1 else 's'}"
    return f"{node.words} ({cores})"
