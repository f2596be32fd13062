"""What listeners to events cost the API process: memory, processor time while nothing happens, and delay.

Usage: python benchmarks/listeners.py [LISTENERS] [SECONDS]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

from wes_bridge import WESClient
from wes_bridge.model.states import State
from wes_bridge.store import runs
from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE

LISTENERS = int(sys.argv[1]) if len(sys.argv) > 1 else 500
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0


async def main(
    url: str, process: psutil.Process, database: Database, run_ids: list[str], fences: dict[str, int]
) -> None:
    def cost() -> tuple[float, float]:
        times = process.cpu_times()
        return process.memory_info().rss / 2**20, times.user + times.system

    arrived: list[float] = []
    connected = asyncio.Semaphore(0)

    async def listen(session: aiohttp.ClientSession, run_id: str) -> None:
        address = f"{url}/ga4gh/wes/v1/runs/{run_id}/events"
        async with session.get(address) as answer:
            connected.release()
            async for line in answer.content:
                if b'"state":"RUNNING"' in line and line.startswith(b"data"):
                    arrived.append(time.monotonic())

    memory, _cpu = cost()
    print(f"nobody listens: {memory:.0f} MB")
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        tasks = [
            asyncio.create_task(listen(session, run_ids[number % len(run_ids)]))
            for number in range(LISTENERS)
        ]
        for _ in tasks:
            await connected.acquire()
        await asyncio.sleep(3)
        with_all, start = cost()
        print(f"{LISTENERS} listen to {len(run_ids)} runs: {with_all:.0f} MB,", end=" ")
        print(f"{(with_all - memory) * 1024 / LISTENERS:.0f} KB each")
        await asyncio.sleep(SECONDS)
        print(f"idle: {100 * (cost()[1] - start) / SECONDS:.2f} % of one core")
        changed = time.monotonic()
        with database.write() as connection:
            for run_id in run_ids:
                runs.set_run_state(connection, run_id, fences[run_id], State.RUNNING)
        done = time.monotonic()
        while len(arrived) < LISTENERS and time.monotonic() - changed < 60:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        delays = sorted(at - done for at in arrived)
        print(
            f"all runs change at once: {len(arrived)} told, median {statistics.median(delays):.2f} s,",
            end=" ",
        )
        each = 1000 * (cost()[1] - start) / LISTENERS
        print(f"last {delays[-1]:.2f} s after the commit, {each:.1f} ms of processor in all each")
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps({"engine": {"workers": 0}, "nodes": []}))
        words = ["serve", "--port=0", "--quiet", f"--state={folder}/state", f"--config={config}"]
        with subprocess.Popen(
            [sys.executable, "-m", "wes_bridge.cli.main", *words], stdout=subprocess.PIPE, text=True
        ) as service:
            assert service.stdout is not None
            url = service.stdout.readline().split()[-1]
            workflow = Path(folder) / "w.cwl"
            workflow.write_text(
                "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: echo\ninputs: {}\noutputs: {}\n"
            )
            database = Database(f"sqlite:///{folder}/state/wes-bridge.db", SERVICE)
            with WESClient(url) as client:
                run_ids = [client.submit(workflow, {}) for _ in range(min(LISTENERS, 250))]
            with database.write() as connection:
                rows = runs.claim_runs(connection, "benchmark", 3600.0, len(run_ids), time.time())
            fences = {row.run_id: row.fence for row in rows}
            asyncio.run(main(url, psutil.Process(service.pid), database, run_ids, fences))
            database.close()
            service.terminate()
