"""What it costs to share nothing: node to node beside curl and nginx, runs beside those with a shared disk.

    python benchmarks/apart.py [--mib 1024] [--wide 1000] [--rounds 3]

Everything is on loopback and by turns. A transfer from node to node is what a node does with a signed URL of
another one: a manifest, the file, its checksum. nginx (PATH) sends the same file to curl, which checks none.
Beside the time on the clock is the processor time of all processes that take part.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import requests

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
NODE = {"port": 0, "platforms": ["process"], "cores": 8, "sandbox": "none", "max_running": 8}
ECHO = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": "echo",
    "inputs": {"word": {"type": "string", "inputBinding": {}}},
    "stdout": "word.txt",
    "outputs": {"o": "stdout"},
}


@dataclass(frozen=True)
class Taken:
    """Seconds of one measurement: on the clock, and of processors."""

    clock: float
    used: float


@contextlib.contextmanager
def server(kind: str, folder: Path, settings: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """`wes-bridge serve` or `wes-bridge node`, ready: its URL, and its process."""
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))
    words = [sys.executable, "-m", "wes_bridge.cli.main", kind, "--config", str(config)]
    words += ["--state", str(folder / "state")]
    log = (folder / "log").open("w")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"is ready at (\S+)", process.stdout.readline())
            assert found, (folder / "log").read_text()
            yield found[1], process.pid
        finally:
            process.terminate()


# ---- node to node -------------------------------------------------------------------------------


def nginx(folder: Path, file: Path) -> tuple[subprocess.Popen[bytes], str]:
    """nginx that sends one file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events {}\nhttp { access_log off; sendfile on; "
        f"server {{ listen 127.0.0.1:{port}; root {file.parent}; }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL)
    return process, f"http://127.0.0.1:{port}/{file.name}"


def processor(pids: Iterable[int]) -> float:
    """Seconds that processes and all that they started have used, those that have ended included."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def timed(work: Callable[[], object], *pids: int) -> Taken:
    before, begun = processor(pids), time.perf_counter()
    work()
    clock = time.perf_counter() - begun
    return Taken(clock, processor(pids) - before)


def run_one(client: Any, document: Path, job: dict[str, Any]) -> None:
    run_id = client.submit(document, job)
    state = client.wait(run_id, timeout=900)
    assert state == "COMPLETE", client.run(run_id)["run_log"]


def node_to_node(folder: Path, mib: int, rounds: int) -> None:
    """1 GB that one node keeps, fetched as another node fetches it."""
    from wes_bridge import WESClient
    from wes_bridge.data.receiving import Receiving
    from wes_bridge.fetching.addresses import PrivateHosts
    from wes_bridge.fetching.client import Fetcher
    from wes_bridge.fetching.guard import Guard
    from wes_bridge.fetching.limits import Limits

    make = {
        **ECHO,
        "baseCommand": ["sh", "-c", f"head -c {mib}M /dev/urandom > big"],
        "inputs": {},
        "outputs": {"o": {"type": "File", "outputBinding": {"glob": "big"}}},
    }
    make.pop("stdout")
    data = {"data": ["http://", "data:"], "fetch": {"private_hosts": ["127.0.0.1"]}}
    with server("node", folder / "node", {"name": "one", **NODE, **data}) as (at, node):
        settings = {"port": 0, "nodes": [], "brokers": [{"name": "one", "url": at, "shares_files": False}]}
        with server("serve", folder / "service", settings) as (url, _), WESClient(url) as client:
            (folder / "make.cwl").write_text(json.dumps(make))
            run_id = client.submit(folder / "make.cwl", {}, engine_parameters={"outputs": "stay"})
            assert client.wait(run_id, timeout=300) == "COMPLETE", client.run(run_id)["run_log"]
        (file,) = (folder / "node" / "state" / "kept").rglob("big")
        session = file.relative_to(folder / "node" / "state" / "kept").parts[0]
        output = file.relative_to(folder / "node" / "state" / "kept").parts[1]
        signed = requests.post(f"{at}/urls/{session}/{output}", json={}, timeout=30).json()["url"]
        receiving = Receiving(Fetcher(Guard(PrivateHosts(["127.0.0.1"])), Limits()))
        web, plain = nginx(folder, file)
        times: dict[str, list[Taken]] = {"node": [], "curl": []}
        try:
            for number in range(rounds + 1):
                target = folder / "got"
                took = timed(partial(receiving.receive, signed, target, Event()), os.getpid(), node)
                shutil.rmtree(target)
                fetch = partial(subprocess.run, ["curl", "-sSfo", str(target), plain], check=True)
                curl = timed(fetch, os.getpid(), web.pid)
                target.unlink()
                if number:  # the first is to warm up
                    times["node"].append(took)
                    times["curl"].append(curl)
        finally:
            web.terminate()
            web.wait()
    told(f"{mib} MiB", times, ("node", "curl"), 1.5)


def told(what: str, times: dict[str, list[Taken]], pair: tuple[str, str], most: float) -> None:
    """The figures, and the ratio of the medians."""
    for name, samples in times.items():
        clock, used = (statistics.median(one) for one in zip(*map(astuple, samples), strict=True))
        shown = " ".join(f"{sample.clock:.2f}" for sample in samples)
        print(f"{what:14} {name:8} {clock:7.2f} s, processor {used:.2f} s  ({shown})", flush=True)
    one, other = (
        [statistics.median(part) for part in zip(*map(astuple, times[n]), strict=True)] for n in pair
    )
    ratios = f"{one[0] / other[0]:.2f} (at most {most:g}), processor {one[1] / other[1]:.2f}"
    print(f"{what:14} {pair[0]} / {pair[1]} = {ratios}", flush=True)


# ---- runs -----------------------------------------------------------------------------------------


def runs(folder: Path, wide: int, rounds: int) -> None:
    """An echo and a scatter, where a disk is shared and where nothing is."""
    from wes_bridge import WESClient

    (folder / "echo.cwl").write_text(json.dumps(ECHO))
    scatter = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"words": "string[]"},
        "outputs": {"all": {"type": "File[]", "outputSource": "each/o"}},
        "steps": {"each": {"run": ECHO, "scatter": "word", "in": {"word": "words"}, "out": ["o"]}},
    }
    (folder / "scatter.cwl").write_text(json.dumps(scatter))
    data = {"data": ["http://", "data:"], "fetch": {"private_hosts": ["127.0.0.1"]}}
    with contextlib.ExitStack() as stack:
        settings = {"name": "one", **NODE, **data}
        at, node = stack.enter_context(server("node", folder / "apart-node", settings))
        brokers = [{"name": "one", "url": at, "shares_files": False}]
        places = {
            "shared": {"port": 0, "nodes": [{"name": "one", **NODE}]},
            "apart": {"port": 0, "nodes": [], "brokers": brokers},
        }
        clients, pids = {}, {}
        for name, settings in places.items():
            url, service = stack.enter_context(server("serve", folder / name, settings))
            clients[name] = stack.enter_context(WESClient(url))
            pids[name] = (service, node) if name == "apart" else (service,)
        jobs = {
            "echo": ("echo.cwl", {"word": "hello"}, 5 * rounds),
            f"{wide}-wide": ("scatter.cwl", {"words": [f"w{n}" for n in range(wide)]}, rounds),
        }
        for what, (document, job, times_each) in jobs.items():
            times: dict[str, list[Taken]] = {name: [] for name in clients}
            for client in clients.values():
                run_one(client, folder / "echo.cwl", {"word": "warm"})
            for _ in range(times_each):
                for name, client in clients.items():
                    run = partial(run_one, client, folder / document, job)
                    times[name].append(timed(run, *pids[name]))
            told(what, times, ("apart", "shared"), 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--wide", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wb-apart-") as top:
        if shutil.which("nginx") and shutil.which("curl"):
            node_to_node(Path(top), options.mib, options.rounds)
        else:
            print("node to node is not measured: no nginx or no curl here")
        runs(Path(top), options.wide, options.rounds)


if __name__ == "__main__":
    main()
