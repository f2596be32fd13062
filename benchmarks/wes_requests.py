"""How fast the WES server answers: requests a second and latency, against any WES server.

python benchmarks/wes_requests.py                                  # starts a server of its own
python benchmarks/wes_requests.py --url http://host:port/base      # measures another, for comparison

The client is a bare socket loop, so that it costs less than the server it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests

BASE = "/ga4gh/wes/v1"
RUN = {
    "workflow_type": "CWL",
    "workflow_type_version": "v1.2",
    "workflow_url": "https://example.org/hello.cwl",
    "workflow_params": '{"message": "hello"}',
}
SERVER = """
import sys, uvicorn
from pathlib import Path
from wes_bridge.config import ServiceConfig
from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE
from wes_bridge.wes.app import create_app
config = ServiceConfig(state_dir=Path(sys.argv[1]))
app = create_app(config, Database(config.database_url, SERVICE), lambda: None)
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


@contextmanager
def own_server() -> Iterator[str]:
    """A fresh server; gives its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, folder, str(port)])
        url = f"http://127.0.0.1:{port}{BASE}"
        try:
            for _ in range(200):
                try:
                    requests.get(f"{url}/service-info", timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


async def load(url: str, connections: int, total: int) -> list[float]:
    """Send ``total`` GETs over kept-alive connections; return the latencies in seconds."""
    parts = urlsplit(url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    left, latencies = total, []

    async def worker() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in head[:20], head
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            latencies.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*[worker() for _ in range(connections)])
    return latencies


def report(what: str, latencies: list[float], elapsed: float) -> None:
    """Print one line."""
    ordered = sorted(latencies)
    p50, p99 = ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000
    print(f"{what:34} {len(ordered) / elapsed:7.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")


def measure(url: str, total: int) -> None:
    """All measurements of one server."""
    session = requests.Session()
    run_id = session.post(f"{url}/runs", files={k: (None, v) for k, v in RUN.items()}, timeout=30).json()[
        "run_id"
    ]
    for path in (f"/runs/{run_id}/status", f"/runs/{run_id}", "/service-info"):
        for connections in (1, 16, 64):
            begun = time.perf_counter()
            latencies = asyncio.run(load(url + path, connections, total))
            shown = path.replace(run_id, "ID")
            report(f"GET {shown} x{connections}", latencies, time.perf_counter() - begun)
    for what, options in (
        ("POST /runs, form", {"files": {k: (None, v) for k, v in RUN.items()}}),
        (
            "POST /runs, form with attachment",
            {
                "files": [
                    *((k, (None, v)) for k, v in RUN.items()),
                    ("workflow_attachment", ("a.cwl", b"x" * 2000)),
                ]
            },
        ),
        ("POST /runs, JSON", {"json": RUN | {"workflow_params": json.loads(RUN["workflow_params"])}}),
    ):
        latencies = []
        begun = time.perf_counter()
        for _ in range(min(total, 300)):
            start = time.perf_counter()
            answer = session.post(f"{url}/runs", timeout=30, **options)
            latencies.append(time.perf_counter() - start)
        status = "" if answer.ok else f" ({answer.status_code})"
        report(what + status, latencies, time.perf_counter() - begun)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="base URL of a running WES server")
    parser.add_argument("--total", type=int, default=3000, help="requests a measurement")
    arguments = parser.parse_args()
    if arguments.url:
        measure(arguments.url.rstrip("/"), arguments.total)
    else:
        with own_server() as own:
            measure(own, arguments.total)
