"""One call of benchmarks/run: the machine, the benchmarks one after the other, the report."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from harness.environments import CHECKOUT, Environments
from harness.measures import MEASURES, Bench
from harness.options import Options
from harness.processes import all_ended
from harness.results import Result, as_json, as_text

BUSY = 0.25
"""Share of the processors others may use before figures are called rough."""


def measure(options: Options, environments: Environments) -> int:
    """Measure what is asked for; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="wes-bridge-bench-"))
    machine = _machine()
    results: list[Result] = []
    interrupted = False
    try:
        with all_ended():
            for name in options.only:
                results.append(_one(name, folder, options, environments))
                print(as_text(results[-1]) + "\n", flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted", file=sys.stderr)
    finally:
        if options.keep or any(result.ours_failed for result in results):
            print(f"logs and files are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _finish(options, environments, machine, results)
    if interrupted:
        return 130
    return int(any(result.ours_failed for result in results))


def _one(name: str, folder: Path, options: Options, environments: Environments) -> Result:
    def say(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    say("begins")
    return MEASURES[name](Bench(name, folder / name, options, environments, say))


def _finish(
    options: Options, environments: Environments, machine: dict[str, Any], results: list[Result]
) -> None:
    versions = _versions(environments)
    if options.quick:
        print("These are quick, small rounds: they show that all of it works, and nothing else.")
    if machine["busy"] > BUSY:
        print(f"The machine was busy before this began ({machine['busy']:.0%}): the figures are rough.")
    print(f"{machine['cores']} cores, {machine['memory_gib']:.0f} GiB, Python {machine['python']};", end=" ")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    if options.json:
        report = {
            "machine": machine,
            "versions": versions,
            "quick": options.quick,
            "results": as_json(results),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "python": platform.python_version(),
        "busy": psutil.cpu_percent(interval=2.0) / 100,
    }


def _versions(environments: Environments) -> dict[str, str]:
    """Of everything that took part: of ours the commit, of peers what is installed."""
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    versions = {name: environment.version() for name, environment in environments.made.items()}
    return {**versions, "wes-bridge": commit or versions["wes-bridge"]}
