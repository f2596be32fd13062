"""The processor time that a quick command costs in each sandbox, by turns.

    python benchmarks/sandboxes.py [--rounds 6] [--commands 60]

Each way has a keeper of its own, in a control group of its own: its figure is what the group's accounting
says for so many commands one after the other, divided by their number. So all processes count, and what the
kernel does for them, but not the node. Smallest and median of the rounds. It needs root, for the groups.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wes_bridge.config import SHOWN_SYSTEM
from wes_bridge.node.platforms import sandbox
from wes_bridge.node.platforms.keeping import Keeping
from wes_bridge.node.platforms.kept import _written

ENV = {"PATH": "/usr/bin:/bin", "HOME": "/"}
ARGV = ["/bin/echo", "hello"]


class Group:
    """A control group, of the first or the second kind."""

    def __init__(self, name: str) -> None:
        old = Path("/sys/fs/cgroup/cpuacct")
        self.folder = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"wb-{os.getpid()}-{name}"
        self.folder.mkdir()

    def add(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))

    def used(self) -> float:
        """Milliseconds."""
        old = self.folder / "cpuacct.usage"
        if old.exists():
            return int(old.read_text()) / 1e6
        lines = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(lines["usage_usec"]) / 1e3

    def remove(self) -> None:
        for _ in range(100):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.05)


class Way:
    """Starting commands in one way."""

    def __init__(self, name: str, folder: Path, setting: list[Path], *, network: bool) -> None:
        self.state = folder / name.replace(" ", "-").replace("/", "all")
        (self.state / "fs").mkdir(parents=True)
        self.name, self.network = name, network
        self.view = sandbox.View.of(setting, self.state)
        self.keeper = Keeping(self.state)
        self.keeper.open()
        self.group = Group(self.state.name)
        assert self.keeper.pid is not None
        self.group.add(self.keeper.pid)
        self.number = 0
        self.figures: list[float] = []

    def run(self, count: int) -> float:
        before = self.group.used()
        for _ in range(count):
            self.one()
        time.sleep(0.3)  # what the kernel does later
        return (self.group.used() - before) / count

    def one(self) -> None:
        self.number += 1
        record = self.state / f"record-{self.number}"
        null = os.open(os.devnull, os.O_RDWR)
        more: dict[str, object] = {}
        files, program, argv, env = [null] * 3, ARGV[0], ARGV, ENV
        binds = [(str(self.state / "fs"), True)]
        if self.name.startswith("own"):
            more["sandbox"] = sandbox.enclosure(self.view, binds, None, network=self.network)
        elif self.name.startswith("bubblewrap"):
            path, reason = sandbox.bubblewrap(tuple(self.view.folders))
            assert path, reason
            words = sandbox.options(self.view, binds, ENV, self.state / "fs", network=self.network)
            files.append(_written(words))
            program, argv, env = path, sandbox.command_line(path, ARGV, None), {}
        try:
            start: Callable[..., object] = self.keeper.start
            command = start(record, argv, env, tuple(files), program=program, cwd=self.state / "fs", **more)
            assert command.ends_within(30)  # type: ignore[attr-defined]
            assert command.code == 0, command.code  # type: ignore[attr-defined]
        finally:
            for file in {*files}:
                os.close(file)

    def close(self) -> None:
        self.keeper.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--commands", type=int, default=60)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    system, all_of_it = [Path(SHOWN_SYSTEM)], [Path("/")]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        ways = [
            Way(name, Path(folder), setting, network=network)
            for name, setting, network in [
                ("none", system, True),
                ("own", system, True),
                ("own, no network", system, False),
                ("own, showing /", all_of_it, True),
                ("bubblewrap", system, True),
                ("bubblewrap, no network", system, False),
            ]
            if asked.only in name
        ]
        for way in ways:
            way.run(5)
        for number in range(asked.rounds):
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                way.figures.append(way.run(asked.commands))
        for way in ways:
            print(f"{way.name:24} {min(way.figures):6.2f} ms {statistics.median(way.figures):6.2f} ms")
            way.close()
        time.sleep(2)
        for way in ways:
            way.group.remove()


if __name__ == "__main__":
    main()
