"""How fast bytes come from and go to an object store: a node's S3 scheme beside other clients.

    python benchmarks/stores.py [--gib 1] [--files 10000] [--only get put many]

It starts versitygw on loopback (PATH) and does each thing by turns: obstore as the node uses it, ``opendal``
and ``rclone`` where they are installed. Peak memory is the client process's own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
KEY, SECRET = "bench", "bench-secret"  # pragma: allowlist secret
PARALLEL = 16
RCLONE_PART, RCLONE_AT_ONCE = os.environ.get("RCLONE_PART", "32M"), os.environ.get("RCLONE_AT_ONCE", "4")
"""How rclone sends. The notes of versitygw on ext4 take no more than about 600 parts."""


def client(name: str, what: str, url: str, folder: Path) -> None:
    """In a process of its own: one transfer, then seconds, MB and processor time on standard output."""
    took = {"node": node, "opendal": opendal}[name](what, url, folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([took, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime]))


def node(what: str, url: str, folder: Path) -> float:
    from threading import Event

    from wes_bridge.config import NodeConfig
    from wes_bridge.data.beneath import top_of
    from wes_bridge.node.staging import default_schemes
    from wes_bridge.node.staging.schemes import Wanted

    os.environ |= {"B_ACCESS_KEY_ID": KEY, "B_SECRET_ACCESS_KEY": SECRET}
    settings = {"endpoint": url, "read": ["bench"], "write": ["bench"], "credentials": {"env": "B"}}
    scheme = default_schemes(NodeConfig.model_validate({"s3": [settings]})).get("s3://bench/")
    assert scheme is not None
    begun = time.perf_counter()
    if what == "put":
        scheme.store(top_of(folder), "large", "s3://bench/put", [])
    elif what == "get":
        scheme.fetch(Wanted("s3://bench/large"), folder / "got", Event())
    else:
        scheme.fetch(Wanted("s3://bench/many", directory=True), folder / "got", Event())
    return time.perf_counter() - begun


def opendal(what: str, url: str, folder: Path) -> float:
    import opendal as library

    operator = library.Operator(
        "s3", bucket="bench", endpoint=url, region="us-east-1", access_key_id=KEY, secret_access_key=SECRET
    )
    begun = time.perf_counter()
    if what == "put":
        with (folder / "large").open("rb") as file, operator.open("put", "wb", chunk=8 << 20) as out:
            shutil.copyfileobj(file, out, 1 << 20)
    elif what == "get":
        with operator.open("large", "rb") as file, (folder / "got").open("wb") as out:
            shutil.copyfileobj(file, out, 256 << 10)
    else:
        from concurrent.futures import ThreadPoolExecutor

        def one(entry: str) -> None:
            path = folder / "got" / entry.removeprefix("many/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(operator.read(entry))

        with ThreadPoolExecutor(PARALLEL) as pool:
            names = [e.path for e in operator.scan("many/") if not e.path.endswith("/")]
            list(pool.map(one, names))
    return time.perf_counter() - begun


def rclone(what: str, url: str, folder: Path) -> tuple[float, float, float]:
    config = folder / "rclone.conf"
    config.write_text(
        f"[v]\ntype=s3\nprovider=Other\naccess_key_id={KEY}\nsecret_access_key={SECRET}\n"
        f"endpoint={url}\nforce_path_style=true\nregion=us-east-1\n"
    )
    words = {
        "put": [
            "copyto",
            str(folder / "large"),
            "v:bench/put",
            "--s3-disable-checksum",
            "--s3-upload-concurrency",
            RCLONE_AT_ONCE,
        ],
        "get": ["copyto", "v:bench/large", str(folder / "got"), "--multi-thread-streams", "4"],
        "many": ["copy", "v:bench/many", str(folder / "got"), "--transfers", str(PARALLEL)],
    }[what]
    environment = {k: v for k, v in os.environ.items() if k != "AWS_CA_BUNDLE"}
    begun = time.perf_counter()
    tuned = ["--s3-no-check-bucket", "--s3-chunk-size", RCLONE_PART, "--checkers", "16"]
    process = subprocess.Popen(["rclone", "--config", str(config), *tuned, *words], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.perf_counter() - begun, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def measured(name: str, what: str, url: str, folder: Path) -> tuple[float, float, float]:
    for path in (folder / "got", folder / "objects/bench/put", folder / "objects/bench/.sgwtmp"):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    if name == "rclone":
        return rclone(what, url, folder)
    words = [sys.executable, __file__, "--client", name, what, url, str(folder)]
    took, memory, used = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    return took, memory, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=("get", "put", "many"), default=["get", "put", "many"])
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        name, what, url, folder = options.client
        client(name, what, url, Path(folder))
        return
    peers = ["node"]
    try:
        import opendal as _

        peers.append("opendal")
    except ImportError:
        print("opendal is not installed")
    peers += ["rclone"] if shutil.which("rclone") else []
    with tempfile.TemporaryDirectory(prefix="wb-stores-") as top:
        folder = Path(top)
        (folder / "objects/bench/many").mkdir(parents=True)
        large = folder / "objects/bench/large"
        with large.open("wb") as file:
            block = os.urandom(64 << 20)
            for _ in range(int(options.gib * 16)):
                file.write(block)
        os.link(large, folder / "large")
        for index in range(options.files):
            inner = folder / f"objects/bench/many/{index % 100}"
            inner.mkdir(exist_ok=True)
            (inner / str(index)).write_bytes(block[:1000])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        words = ["versitygw", "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder / "objects")]
        with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as gateway:
            try:
                time.sleep(1)
                url = f"http://127.0.0.1:{port}"
                for what in options.only:
                    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in peers}
                    for _ in range(options.rounds):
                        for name in peers:
                            found[name].append(measured(name, what, url, folder))
                    for name, times in found.items():
                        best, memory = min(times)[0], max(peak for _, peak, _ in times)
                        rate = options.files / best if what == "many" else options.gib * 1024 / best
                        unit = "files/s" if what == "many" else "MiB/s"
                        all_times = " ".join(f"{took:.2f} (cpu {used:.2f})" for took, _, used in times)
                        figures = f"{best:6.2f} s  {rate:7.0f} {unit}  {memory:5.0f} MB  {all_times}"
                        print(f"{what:5} {name:8} {figures}", flush=True)
            finally:
                gateway.terminate()


if __name__ == "__main__":
    main()
