"""The WES API with 100,000 runs in its database: status, pages of the list, and both under a steady load.

    python benchmarks/many_runs.py [--runs 100000] [--postgresql] [--peers DIR]

A real service (no worker, no node) on SQLite, or on a PostgreSQL server of its own in a temporary folder.
The runs are not submitted: they are inserted into its tables, with requests, outputs, tags (every run one
of 10 projects and one of many batches of 100) and 20 workflow names; 9 of 10 are COMPLETE.
  status   GET /runs/{id}/status one after the other on one kept connection, ids at random; beside it sapporo
           on its own empty store (one run), in turns of so many seconds; needs --peers, where it is installed
  pages    GET /runs as a client pages: 100 a page, each by the token of the one before, to the last one;
           the median of 11 pages around the first, the 500th and the last; then with filters
  load     so many requests a second at moments drawn at random (a Poisson process), whether or not earlier
           ones were answered: 6 of 10 status, 2 lists, 2 run logs; latency counts from when a request was due
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from sqlalchemy import insert, text

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from harness.client import ENDED, Client
from harness.documents import echo
from harness.environments import Environments
from harness.servers import FAILURES, Place, Running, sapporo

from tests.postgresql import Cluster
from tests.service.conftest import Service
from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.runs import tag_rows
from wes_bridge.store.tables import SERVICE, run_tags, runs

BASE = "/ga4gh/wes/v1"
STATES = [State.COMPLETE] * 90 + [State.EXECUTOR_ERROR] * 6 + [State.CANCELED] * 3 + [State.QUEUED]
FILTERS = ("", "state=COMPLETE", "state=QUEUED,EXECUTOR_ERROR", "tag=project=p3", "tag=batch=b7")
MORE_FILTERS = ("workflow_name=flow9", "tag=project=p3&state=COMPLETE&workflow_name=flow9")
TARGET_P99 = 25.0
"""Milliseconds."""
BATCH = 5000


def run_id(number: int) -> str:
    """The id of a run."""
    return f"00000000-0000-4000-8000-{number:012x}"


def fill(database: Database, count: int) -> None:
    """Put so many runs into the tables."""
    chance, began = random.Random(1), time.time() - count
    for start in range(0, count, BATCH):
        numbers = range(start, min(count, start + BATCH))
        rows = [_row(number, chance.choice(STATES), began + number) for number in numbers]
        tags = [tag for row in rows for tag in tag_rows(row["run_id"], row["owner"], row["seq"], row["tags"])]
        with database.write() as connection:
            connection.execute(insert(runs), rows)
            connection.execute(insert(run_tags), tags)


def _row(number: int, state: State, when: float) -> dict[str, Any]:
    name, ident = f"flow{number % 20}", run_id(number)
    tags = {"project": f"p{number * 7 % 10}", "batch": f"b{number // 100}"}
    said = {"class": "File", "location": f"file:///workspace/{ident}/outputs/said.txt", "size": 6}
    request = {
        "workflow_type": "CWL",
        "workflow_type_version": "v1.2",
        "workflow_url": f"{name}.cwl",
        "workflow_params": {"message": "hello", "words": [f"word{index}" for index in range(20)]},
        "tags": tags,
    }
    done = state is State.COMPLETE
    return {
        "seq": number + 1,
        "run_id": ident,
        "owner": "local",
        "state": state.value,
        "workflow_name": name,
        "request": request,
        "tags": tags,
        "outputs": {"said": said} if done else None,
        "exit_code": 0 if done else None,
        "system_logs": [],
        "created": when,
        "start_time": when + 0.1 if state is not State.QUEUED else None,
        "end_time": when + 9 if state is not State.QUEUED else None,
        "cancel_requested": False,
        "fence": 1,
    }


class Asker:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def __call__(self, path: str) -> tuple[Any, float]:
        """The answer's JSON, and how many seconds it took."""
        begun = time.perf_counter()
        self._connection.request("GET", BASE + path)
        answer = self._connection.getresponse()
        text = answer.read()
        took = time.perf_counter() - begun
        assert answer.status == 200, text
        return json.loads(text), took

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def told(label: str, seconds: list[float], more: str = "") -> None:
    """Print one line."""
    ordered = sorted(seconds)
    parts = {"median": 0.5, "p95": 0.95, "p99": 0.99}
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for name, part in parts.items()}
    shown = "".join(f"  {name} {value * 1000:7.2f} ms" for name, value in at.items())
    print(f"{label:52}{shown}  {more}", flush=True)


# ---- status ----------------------------------------------------------------------------------------


def status(url: str, count: int, seconds: float, peers: Path | None) -> None:
    """Ours and sapporo's rates, in turns."""
    chance = random.Random(2)
    any_run = (run_id(chance.randrange(count)) for _ in itertools.count())
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="wes-bridge-bench-") as folder, _peer(peers, folder) as peer:
        for _ in range(5):
            with Client(url + BASE) as client:
                ours += asked(client, any_run, seconds / 5)
            if peer is not None:
                running, ident = peer
                with running.client() as client:
                    theirs += asked(client, itertools.repeat(ident), seconds / 5)
    told(f"status, {count} runs", ours, f"{len(ours) / sum(ours):6.0f}/s")
    if theirs:
        told("status, sapporo, 1 run", theirs, f"{len(theirs) / sum(theirs):6.0f}/s")
        ratio = len(ours) / sum(ours) / (len(theirs) / sum(theirs))
        print(f"  our rate is {ratio:.2f} of sapporo's; target at least 1")


def asked(client: Client, idents: Iterator[str], seconds: float) -> list[float]:
    """How long each answer took, one after the other; the first one, which connects, is not counted."""
    client.state(next(idents))
    found, end = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        client.state(next(idents))
        found.append(time.perf_counter() - begun)
    return found


@contextlib.contextmanager
def _peer(peers: Path | None, folder: str) -> Iterator[tuple[Running, str] | None]:
    """Sapporo with one run that has ended, and that run's id; None, with the reason printed, without it."""
    if peers is None:
        yield None
        return
    place = Path(folder)
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(sapporo(Place(place / "sapporo", Environments(peers))))
            with running.client() as client:
                ident = client.submit(echo(place / "work"))
                while client.state(ident) not in ENDED:
                    time.sleep(0.2)
            running.server.settle()
            found = running, ident
        except FAILURES as error:
            print(f"sapporo cannot be measured: {error}")
            found = None
        yield found


# ---- pages -----------------------------------------------------------------------------------------


def pages(url: str) -> None:
    """Page through all, with each filter."""
    ask = Asker(url)
    for query in (*FILTERS, *MORE_FILTERS):
        times, total, token = [], 0, ""
        while True:
            answer, took = ask(
                f"/runs?page_size=100&{query}" + (f"&page_token={quote(token)}" if token else "")
            )
            times.append(took)
            total += len(answer["runs"])
            token = answer["next_page_token"]
            if not token:
                break
        assert total == answer["total_runs"], (total, answer["total_runs"])
        again = [ask(f"/runs?page_size=100&{query}")[1] for _ in range(11)]
        shown = {"first": again, f"last of {len(times)}": times[-11:]}
        if len(times) > 511:
            shown["500th"] = times[494:505]
        label = query or "no filter"
        print(f"page of {label} ({total} runs)")
        for name, some in sorted(shown.items()):
            print(
                f"  {name:20} {1000 * statistics.median(some):8.2f} ms  (to {1000 * max(some):.2f})",
                flush=True,
            )
    ask.close()


# ---- load ------------------------------------------------------------------------------------------


async def load(url: str, count: int, rate: float, seconds: float) -> None:
    """Requests at drawn moments; each waits for a free connection, of which there are as many as needed."""
    parts, chance = urlsplit(url), random.Random(3)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    found: dict[str, list[float]] = {"status": [], "list": [], "run log": []}
    kinds = ["status"] * 6 + ["list"] * 2 + ["run log"] * 2
    filters = [*FILTERS[:2], "tag=batch=b7", "workflow_name=flow9"]

    async def one(kind: str, path: str, due: float) -> None:
        if free:
            reader, writer = free.pop()
        else:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET {BASE}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head[:20], head
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        found[kind].append(time.perf_counter() - due)
        free.append((reader, writer))

    begun = due = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    while due < begun + seconds:
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        kind, ident = chance.choice(kinds), run_id(chance.randrange(count))
        path = {
            "status": f"/runs/{ident}/status",
            "list": f"/runs?page_size=20&{chance.choice(filters)}",
            "run log": f"/runs/{ident}",
        }[kind]
        tasks.add(asyncio.create_task(one(kind, path, due)))
    await asyncio.gather(*tasks)
    for _, writer in free:
        writer.close()
    for kind, some in found.items():
        told(f"load of {rate:g}/s: {kind} ({len(some)})", some)
    everything = [took for some in found.values() for took in some]
    told(f"load of {rate:g}/s: all", everything, f"target p99 < {TARGET_P99:g} ms")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the load, and of asking for status")
    parser.add_argument("--postgresql", action="store_true", help="rather than SQLite")
    parser.add_argument("--peers", type=Path, help="folder of peers' environments, as benchmarks/run has it")
    parser.add_argument("--only", choices=["status", "pages", "load"])
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wes-bridge-bench-")))
        address = f"sqlite:///{folder}/runs.db"
        if options.postgresql:
            cluster = Cluster()
            stack.callback(cluster.close)
            address = cluster.new_database()
        begun = time.monotonic()
        database = Database(address, SERVICE)
        fill(database, options.runs)
        if options.postgresql:  # as its autovacuum does, sooner or later
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
        database.close()
        print(f"{options.runs} runs in {address.partition(':')[0]} in {time.monotonic() - begun:.1f} s")
        settings = {"engine": {"workers": 0}, "nodes": [], "database": address}
        service = Service(folder / "state", settings)
        stack.callback(service.stop)
        if options.only in (None, "status"):
            status(service.url, options.runs, options.seconds, options.peers)
        if options.only in (None, "pages"):
            pages(service.url)
        if options.only in (None, "load"):
            asyncio.run(load(service.url, options.runs, options.rate, options.seconds))


if __name__ == "__main__":
    main()
