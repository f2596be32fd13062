"""The benchmarks. Each takes a bench to work at and returns its result, method included."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import documents
from harness.client import ENDED, CallFailed, Client
from harness.documents import Work
from harness.environments import Environments
from harness.options import Options
from harness.processes import Peak
from harness.results import Result, Verdict
from harness.servers import FAILURES, OURS, SERVERS, Place, Running, ours

COMMAND_SECONDS = 3600.0
_RUNNER = "wes-bridge-runner"
_PLAIN = {"nodes": [{"name": "local", "sandbox": "none"}]}
_WHOLE = "whole command"
_SANDBOXED = "whole command, sandboxed"
_MB = 1e6


@dataclass(frozen=True)
class Bench:
    """Where one benchmark is made.

    Attributes:
        name: of the benchmark.
        folder: all its files go below it.
        options: of the command line.
        environments: the programs.
        say: tells the user how it goes.
    """

    name: str
    folder: Path
    options: Options
    environments: Environments
    say: Callable[[str], None]

    @property
    def rounds(self) -> int:
        """How often each side is measured."""
        return self.options.rounds_of(self.name)

    def place(self, name: str) -> Place:
        """A place for a program."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return Place(folder, self.environments)

    @property
    def documents(self) -> Path:
        """Where the CWL is written."""
        return self.folder / "cwl"


# --- through the servers ---------------------------------------------------------------------------


def one_echo(bench: Bench) -> Result:
    """A tool that says one word, through each WES server."""
    result = Result(bench.name, ONE_ECHO)
    work = documents.echo(bench.documents)
    with contextlib.ExitStack() as stack:
        servers = _start_all(bench, stack, result)
        for server in list(servers):
            with _reported(result, server.name, servers, server), server.client() as client:
                for _ in range(1 if bench.options.quick else 3):
                    client.run(work)
                server.server.settle()
        for number in range(bench.rounds):
            for server in _turned(servers, number):
                with _reported(result, server.name, servers, server), server.client() as client:
                    result.figure(server.name, "submit to COMPLETE").samples.append(client.run(work))
                    server.server.settle()
                    bench.say(f"round {number + 1}: {server.name} {_last(result, server.name)}")
    result.compare("submit to COMPLETE", OURS, 0.10)
    return result


def status_rate(bench: Bench) -> Result:
    """The state of an ended run, asked for again and again."""
    result = Result(bench.name, STATUS_RATE)
    work = documents.echo(bench.documents)
    with contextlib.ExitStack() as stack:
        servers = _start_all(bench, stack, result)
        paths = {}
        for server in list(servers):
            with _reported(result, server.name, servers, server), server.client() as client:
                paths[server.name] = _ended_run(client, work)
                _milliseconds_per_call(client, paths[server.name], 0.2)
                server.server.settle()
        for number in range(bench.rounds):
            for server in _turned(servers, number):
                with _reported(result, server.name, servers, server), server.client() as client:
                    took = _milliseconds_per_call(client, paths[server.name], bench.options.sizes.calls)
                    result.figure(server.name, "one status call", "ms").samples.append(took)
    return result


def _ended_run(client: Client, work: Work) -> str:
    run_id = client.submit(work)
    _await_states(client, [run_id], frozenset({"COMPLETE"}), 120.0)
    return f"/runs/{run_id}/status"


def _milliseconds_per_call(client: Client, path: str, seconds: float) -> float:
    start, calls = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds:
        client.call("GET", path)
        calls += 1
    return 1000 * took / calls


def _start_all(bench: Bench, stack: contextlib.ExitStack, result: Result) -> list[Running]:
    """Start each WES server that can be; the others are problems."""
    servers: list[Running] = []
    for name, start in SERVERS.items():
        if name in bench.options.without:
            continue
        bench.say(f"starting {name}")
        with _reported(result, name):
            servers.append(stack.enter_context(start(bench.place(name))))
    return servers


# --- through commands ------------------------------------------------------------------------------


def scatter(bench: Bench) -> Result:
    """A 1,000-wide scatter: cwltool --parallel, and our runner."""
    work = documents.scatter(bench.documents, bench.options.sizes.scatter)
    small = documents.scatter(bench.documents, 10)
    result = Result(bench.name, SCATTER)
    _race(bench, result, work, small, ["--parallel"])
    result.compare(_WHOLE, OURS, 0.5)
    return result


def chain(bench: Bench) -> Result:
    """A chain of 50 cats: cwltool, and our runner."""
    work = documents.chain(bench.documents, bench.options.sizes.chain)
    small = documents.chain(bench.documents, 2)
    result = Result(bench.name, CHAIN)
    _race(bench, result, work, small, [])
    result.compare(_WHOLE, OURS, 1.0)
    return result


def graphs(bench: Bench) -> Result:
    """Graphs in the shape of Montage's: cwltool --parallel, and our runner; the largest one by ours alone."""
    result = Result(bench.name, GRAPHS)
    small, *works = (documents.montage(bench.documents, size) for size in (0, *bench.options.sizes.graphs))
    with contextlib.ExitStack() as stack:
        sides = _runners(bench, stack, result, ["--parallel"])
        _warm_up(result, sides, small)
        for number in range(bench.rounds):
            for side in _turned(sides, number):
                for work in works if side.name == OURS else works[:-1]:
                    with _reported(result, side.name, sides, side):
                        what = f"{side.what}, {_steps_of(work)}"
                        result.figure(side.name, what).samples.append(side.run(work))
                        side.settle()
                        bench.say(f"round {number + 1}: {side.name} {_last(result, side.name)}")
                    if side not in sides:
                        break
    for work, limit in zip(works, (0.15, 0.08), strict=False):
        result.compare(f"{_WHOLE}, {_steps_of(work)}", OURS, limit)
    _compare_largest(result, works)
    return result


def _steps_of(work: Work) -> str:
    return f"{work.workflow.stem.rpartition('-')[2]} steps"


def _compare_largest(result: Result, works: list[Work]) -> None:
    smaller, larger = (f"{_WHOLE}, {_steps_of(work)}" for work in works[-2:])
    found = [result.measured(what).get(OURS) for what in (larger, smaller)]
    if found[0] and found[1]:
        ratio = found[0].median / found[1].median
        result.verdicts.append(Verdict(f"{OURS}: {larger} / {smaller}", ratio, 3.5))


def _race(bench: Bench, result: Result, work: Work, small: Work, options: list[str]) -> None:
    """Time cwltool and our runner on ``work`` in turns, after each has done ``small``."""
    with contextlib.ExitStack() as stack:
        sides = _runners(bench, stack, result, options)
        _warm_up(result, sides, small)
        for number in range(bench.rounds):
            for side in _turned(sides, number):
                with _reported(result, side.name, sides, side):
                    result.figure(side.name, side.what).samples.append(side.run(work))
                    side.settle()
                    bench.say(f"round {number + 1}: {side.name} {_last(result, side.name)}")


def _runners(bench: Bench, stack: contextlib.ExitStack, result: Result, options: list[str]) -> list[_Command]:
    """Our runner with plain processes and, where it can be, as it comes; and cwltool."""
    sides: list[_Command] = []
    with _reported(result, OURS):
        server = stack.enter_context(ours(bench.place(OURS), _PLAIN))
        sides.append(_our_runner(bench, server))
        if shutil.which("bwrap"):
            server = stack.enter_context(ours(bench.place(f"{OURS}-sandboxed")))
            sides.append(_our_runner(bench, server, _SANDBOXED))
    if "cwltool" not in bench.options.without:
        with _reported(result, "cwltool"):
            sides.append(_cwltool(bench, options))
    return sides


def _warm_up(result: Result, sides: list[_Command], small: Work) -> None:
    for side in list(sides):
        with _reported(result, side.name, sides, side):
            side.run(small)
            side.settle()


@dataclass(frozen=True)
class _Command:
    """A cwl-runner.

    Attributes:
        name: whose it is.
        command: without workflow and job.
        place: where it runs.
        settle: waits until what it did is really over.
        what: is measured.
    """

    name: str
    command: list[str]
    place: Place
    settle: Callable[[], None]
    what: str = _WHOLE

    def run(self, work: Work) -> float:
        """Run a workflow; the seconds the command took.

        Raises:
            CallFailed: it failed, or its outputs are not what they should be.
        """
        out = tempfile.mkdtemp(prefix="out-", dir=self.place.folder)
        command = [*self.command, "--outdir", out, str(work.workflow), str(work.job)]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=self.place.environment(),
            cwd=self.place.folder,
            timeout=COMMAND_SECONDS,
            start_new_session=True,
        )
        took = time.perf_counter() - start
        _check_outputs(done, work)
        return took


def _check_outputs(done: subprocess.CompletedProcess[bytes], work: Work) -> None:
    words = " / ".join(done.stderr.decode(errors="replace").strip().splitlines()[-5:])
    if done.returncode:
        raise CallFailed(f"exit code {done.returncode}: {words}")
    found = len(list(_files(json.loads(done.stdout))))
    if found != work.outputs:
        raise CallFailed(f"{found} output files, not {work.outputs}: {words}")


def _files(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _files(item)
    elif isinstance(value, dict) and value.get("class") == "File":
        yield value
    elif isinstance(value, dict):
        yield from _files(list(value.values()))


def _our_runner(bench: Bench, server: Running, what: str = _WHOLE) -> _Command:
    program = bench.environments.ours().bin / _RUNNER
    url = server.url.partition("/ga4gh")[0]
    command = [str(program), "--quiet", "--wes", url]
    return _Command(OURS, command, bench.place("runner"), server.server.settle, what)


def _cwltool(bench: Bench, options: list[str]) -> _Command:
    program = bench.environments.peer("cwltool").bin / "cwltool"
    command = [str(program), "--quiet", *options]
    return _Command("cwltool", command, bench.place("cwltool"), lambda: None)


# --- ours alone ------------------------------------------------------------------------------------


def wide_scatter(bench: Bench) -> Result:
    """A 10,000-wide scatter beside 1,000-wide ones, and the memory of it all."""
    result = Result(bench.name, WIDE)
    sizes = bench.options.sizes
    warm, narrow, wide = (documents.scatter(bench.documents, n) for n in (10, sizes.scatter, sizes.wide))
    with _reported(result, OURS), ours(bench.place(OURS)) as server:
        runner = _our_runner(bench, server)
        runner.run(warm)
        result.figure(OURS, "memory when idle", "MB").samples.append(server.server.resident() / _MB)
        for number in range(bench.rounds):
            for name, work in (("narrow", narrow), ("wide", wide)):
                server.server.settle()
                with Peak(server.server) as peak:
                    result.figure(OURS, name).samples.append(runner.run(work))
                result.figure(OURS, f"peak memory, {name}", "MB").samples.append(peak.bytes / _MB)
            bench.say(f"round {number + 1}: {_last(result, OURS)}")
    times = result.measured("wide").get(OURS), result.measured("narrow").get(OURS)
    if times[0] and times[1]:
        ratio = times[0].median / times[1].median
        result.verdicts.append(Verdict("time of the wide scatter / of the narrow one", ratio, 12.0))
        peak_mb = max(result.figure(OURS, "peak memory, wide", "MB").samples)
        result.verdicts.append(Verdict("peak memory of all service processes, MB", peak_mb, 600.0))
    return result


def waiting(bench: Bench) -> Result:
    """Many runs that wait: what each of them costs."""
    result = Result(bench.name, WAITING)
    sizes = bench.options.sizes
    work = documents.sleep(bench.documents, 3600)
    with _reported(result, OURS), ours(bench.place(OURS), _room_for(sizes.waiting + 100)) as server:
        echo = documents.echo(bench.documents)
        with server.client() as client:
            for _ in range(10):
                client.run(echo)
        server.server.settle()
        before = server.server.resident()
        start = time.perf_counter()
        runs = _submit_many(server, work, sizes.waiting)
        bench.say(f"{len(runs)} runs are submitted after {time.perf_counter() - start:.1f} s")
        with server.client() as client:
            _await_states(client, runs, frozenset({"RUNNING"}), 600.0)
        result.figure(OURS, "first submission to all RUNNING").samples.append(time.perf_counter() - start)
        _measure_waiting(server, result, len(runs), before, sizes.idle)
        start = time.perf_counter()
        _cancel_all(server, runs)
        result.figure(OURS, "first cancellation to all CANCELED").samples.append(time.perf_counter() - start)
    return result


def _measure_waiting(server: Running, result: Result, runs: int, before: int, idle: float) -> None:
    """Memory and processor time of the service's processes while ``runs`` runs wait."""
    server.server.settle()
    growth = (server.server.resident() - before) / runs / _MB
    used = server.server.processor_seconds()
    time.sleep(idle)
    share = (server.server.processor_seconds() - used) / idle * 100
    growth = max(growth, (server.server.resident() - before) / runs / _MB)
    result.figure(OURS, "memory before", "MB").samples.append(before / _MB)
    result.figure(OURS, "memory per waiting run", "MB").samples.append(growth)
    result.figure(OURS, "processor while all wait", "% of a core").samples.append(share)
    result.verdicts.append(Verdict("memory per waiting run, MB", growth, 3.0))
    result.verdicts.append(Verdict("processor while all wait, % of a core", share, 5.0))


def _room_for(sessions: int) -> dict[str, Any]:
    """A configuration whose node takes that many sessions at once, whatever the machine has."""
    node = {"name": "local", "max_running": sessions, "cores": sessions, "memory_gib": 2 * sessions}
    return {"nodes": [node]}


def _submit_many(server: Running, work: Work, number: int) -> list[str]:
    def submit(_: int) -> str:
        with server.client() as client:
            return client.submit(work)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(submit, range(number)))


def _cancel_all(server: Running, runs: list[str]) -> None:
    with server.client() as client:
        for run_id in runs:
            client.cancel(run_id)
        _await_states(client, runs, frozenset({"CANCELED"}), 600.0)


def _await_states(client: Client, runs: list[str], wanted: frozenset[str], timeout: float) -> None:
    """Wait until each run is in one of the states.

    Raises:
        CallFailed: a run ended otherwise, or it takes too long.
    """
    end = time.monotonic() + timeout
    for run_id in runs:
        while (state := client.state(run_id)) not in wanted:
            if state in ENDED:
                raise CallFailed(f"run {run_id} is {state}")
            if time.monotonic() > end:
                raise CallFailed(f"run {run_id} is still {state} after {timeout:.0f} s")
            time.sleep(0.05)


# --- common ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reported(result: Result, name: str, sides: list[Any] | None = None, side: Any = None) -> Iterator[None]:
    """Turn a failure into a problem of the result; whose it is, is left out of what follows."""
    failures = (*FAILURES, subprocess.TimeoutExpired, http.client.HTTPException, ValueError)
    try:
        yield
    except failures as error:
        result.problems.append(f"{name}: {error or type(error).__name__}")
        result.ours_failed |= name == OURS
        if sides is not None:
            sides.remove(side)


def _turned(sides: list[Any], number: int) -> list[Any]:
    """The sides in this round's order: each begins as often as the others."""
    by = number % len(sides) if sides else 0
    return sides[by:] + sides[:by]


def _last(result: Result, name: str) -> str:
    """What was measured last of a program, in words."""
    newest = [f"{f.what} {f.samples[-1]:.3g} {f.unit}" for f in result.figures if f.who == name and f.samples]
    return ", ".join(newest)


ONE_ECHO = (
    "Each server is started and runs the tool three times uncounted. A round is one run through each server,"
    " in turns, each after the one before has finished all it does. Counted is the time from before the"
    " multipart POST /runs with the tool attached until GET /runs/{id}/status, asked again 5 ms after each"
    " answer, says COMPLETE. Servers as they come: wes-service and sapporo start cwltool for each run"
    " (sapporo here without its container, to its advantage), toil starts toil-cwl-runner, without Celery."
)
STATUS_RATE = (
    "GET /runs/{id}/status of an ended run in a tight loop over one kept connection, by one client process"
    " on the same machine, several seconds for each server in turns; the time of one call is the loop's time"
    " by its calls, the client's share included. toil and the others each with one server process."
)
_SANDBOX = (
    " The commands are plain processes, as cwltool's are (sandbox: none). Where bubblewrap is installed, a"
    " service as it comes puts each into a sandbox, which costs it some milliseconds: shown beside it."
)
SCATTER = (
    "Time of the whole command with its outputs checked: cwltool --parallel --quiet, and wes-bridge-runner"
    " --quiet --wes URL with a service that is running already. Both have run a 10-wide scatter before. In"
    " turns. No containers, no JavaScript; each output file has a name of its own." + _SANDBOX
)
CHAIN = (
    "Time of the whole command with its output checked: cwltool --quiet, and wes-bridge-runner --quiet --wes"
    " URL with a service that is running already. Both have run a chain of two before. In turns." + _SANDBOX
)
GRAPHS = (
    "Time of the whole command with its output checked, as in scatter-1000: a workflow in the shape of"
    " Montage's (harness/montage.py), whose steps run eight tools of one packed document and take up to"
    " hundreds of files each. All sides have run the smallest such graph before; a round is all sizes by each"
    " side in turn, without the largest for cwltool." + _SANDBOX
)
WIDE = (
    "Time of wes-bridge-runner, as in scatter-1000: one of the narrow and one of the wide scatter in each"
    " round, all through one service. Memory is the sum of the resident sizes of the service's processes"
    " (API, worker, node; shared pages count for each of them; steps' own processes do not), looked at ten"
    " times a second; its peak is the highest of all rounds. MB are 10^6 bytes."
)
WAITING = (
    "One service as it comes, but for a node that takes 600 sessions at once; it runs ten echoes, then memory"
    " is measured, then 500 runs of a tool that sleeps are submitted by four clients. When each is RUNNING"
    " and the service has become quiet, memory is measured again (before and after the idle time, the larger"
    " one counts), and the processor time of 20 s in which nobody asks anything. Both are sums over the"
    " service's processes (API, worker, node), without the steps' own (a shell, perhaps bubblewrap, sleep)."
)

MEASURES: dict[str, Callable[[Bench], Result]] = {
    "one-echo": one_echo,
    "scatter-1000": scatter,
    "chain-50": chain,
    "graphs": graphs,
    "scatter-10000": wide_scatter,
    "waiting-500": waiting,
    "status-rate": status_rate,
}
