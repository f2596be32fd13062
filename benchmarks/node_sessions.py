"""What a session costs a node: processor time and wall time of request + accept + run + poll.

Usage: python benchmarks/node_sessions.py [--sessions 300] [--parallel 8] [--idle 500] [--sandbox none|auto]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from wes_bridge.model import execution_broker as eb
from wes_bridge.model.states import Phase


def request(command: list[str]) -> dict:
    return eb.dump(
        eb.ExecutionRequest(
            executable=eb.Executable(
                kind=eb.PROCESS, command=command, root="/wb-bench", workdir="/wb-bench/out"
            ),
            compute=eb.Compute(cores=eb.MinMax(min=1)),
        )
    )


async def session(client: httpx.AsyncClient, command: list[str], follow: bool = True) -> str:
    answer = await client.post("/requests", json=request(command))
    url = answer.json()["offers"][0]["meta"]["url"]
    accept = eb.dump(eb.phase_update(Phase.ACCEPTED))
    answer = await client.post(url, json=accept)
    while follow and answer.json()["phase"] not in ("COMPLETED", "FAILED"):
        seen = answer.headers["etag"]
        answer = await client.get(url, headers={"Prefer": "wait=20", "If-None-Match": seen})
    return answer.json()["phase"]


async def bench(url: str, node: psutil.Process, options: argparse.Namespace) -> None:
    limits = httpx.Limits(max_connections=options.parallel)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        for _ in range(20):
            await session(client, ["/bin/true"])
        gate = asyncio.Semaphore(options.parallel)

        async def one() -> None:
            async with gate:
                assert await session(client, ["/bin/true"]) == "COMPLETED"

        before, start = node.cpu_times(), time.perf_counter()
        await asyncio.gather(*(one() for _ in range(options.sessions)))
        wall, after = time.perf_counter() - start, node.cpu_times()
        n = options.sessions
        cpu = after.user - before.user + after.system - before.system
        print(f"node CPU   {cpu / n * 1000:.2f} ms/session")
        print(f"  user     {(after.user - before.user) / n * 1000:.2f} ms")
        for thread in node.threads():
            if thread.user_time + thread.system_time > 0.05:
                print(f"  thread   {thread.user_time:.2f} + {thread.system_time:.2f} s")
        print(f"wall       {wall / n * 1000:.2f} ms/session at {options.parallel} at once")
        if options.idle:
            rss = node.memory_info().rss
            for _ in range(options.idle):
                await session(client, ["/bin/sleep", "1000"], follow=False)
            await asyncio.sleep(5)
            before = node.cpu_times()
            await asyncio.sleep(10)
            after = node.cpu_times()
            cpu = (after.user - before.user + after.system - before.system) / 10
            print(f"{options.idle} running: {cpu * 100:.2f} % of a core")
            print(f"memory     {(node.memory_info().rss - rss) / options.idle / 1024:.1f} KiB/session")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--sandbox", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = {"name": "bench", "platforms": ["process"], "sandbox": options.sandbox}
        if options.idle:
            config |= {"cores": options.idle + 8, "memory_gib": options.idle + 8}
        command = [sys.executable, "-m", "wes_bridge.node.main", "--state-dir", folder]
        command += ["--config-json", json.dumps(config), "--end-sessions-on-exit"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            url = re.search(r"http\S+", node.stdout.readline())[0]
            asyncio.run(bench(url, psutil.Process(node.pid), options))
        finally:
            node.terminate()
            node.wait(30)


if __name__ == "__main__":
    main()
