"""The command line. Standard library only: it is read before anything is installed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

BENCHMARKS = {
    "one-echo": "submit to COMPLETE of a tool that says one word, through each WES server",
    "scatter-1000": "a 1,000-wide scatter of echo: cwltool --parallel, and wes-bridge-runner",
    "chain-50": "50 times cat, one after the other: cwltool, and wes-bridge-runner",
    "graphs": "graphs of 610, 1,672 and 4,858 steps: cwltool --parallel (not the last), wes-bridge-runner",
    "scatter-10000": "a 10,000-wide scatter: its time in 1,000-wide ones, and the service's memory",
    "waiting-500": "500 runs that wait: memory for each, and processor time while nothing happens",
    "status-rate": "GET /runs/{id}/status of each WES server, as fast as one client can ask",
}
PEERS = ("cwltool", "wes-service", "sapporo", "toil")
ROUNDS = {
    "one-echo": 10,
    "scatter-1000": 5,
    "chain-50": 10,
    "graphs": 1,
    "scatter-10000": 2,
    "status-rate": 5,
}
QUICK_ROUNDS = {
    "one-echo": 2,
    "scatter-1000": 1,
    "chain-50": 2,
    "graphs": 1,
    "scatter-10000": 1,
    "status-rate": 2,
}


@dataclass(frozen=True)
class Sizes:
    """How much work is measured.

    Attributes:
        scatter, wide, chain: elements of the two scatters, steps of the chain.
        graphs: steps of the graphs, at most; cwltool is not given the last.
        waiting: runs that wait at once.
        idle: seconds processor time is measured while they wait.
        calls: seconds of asking, for status-rate.
    """

    scatter: int = 1000
    wide: int = 10_000
    chain: int = 50
    graphs: tuple[int, ...] = (619, 1738, 5000)
    waiting: int = 500
    idle: float = 20.0
    calls: float = 3.0


QUICK = Sizes(scatter=40, wide=400, chain=5, graphs=(103, 260, 440), waiting=20, idle=4.0, calls=0.5)


@dataclass(frozen=True)
class Options:
    """A parsed command line."""

    only: tuple[str, ...]
    without: tuple[str, ...]
    rounds: int | None
    json: Path | None
    peers: Path
    quick: bool
    keep: bool

    @property
    def sizes(self) -> Sizes:
        """How much work is measured."""
        return QUICK if self.quick else Sizes()

    def rounds_of(self, benchmark: str) -> int:
        """How often each side of a benchmark is measured."""
        return self.rounds or (QUICK_ROUNDS if self.quick else ROUNDS)[benchmark]


def parse(arguments: Sequence[str]) -> Options:
    """Parse a command line; ends the process where it is wrong."""
    names = "\n".join(f"  {name:<15} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="Measure wes-bridge and its peers side by side and print medians and ratios.",
        epilog=f"benchmarks:\n{names}\n\nexit codes: 0 measured, 1 something of ours could not be measured,"
        " 2 wrong usage, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help="repeatable")
    parser.add_argument(
        "--without", action="append", choices=PEERS, metavar="PEER", help=f"of {', '.join(PEERS)}; repeatable"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="how often each side is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument(
        "--peers",
        type=Path,
        default=HERE / ".peers",
        metavar="DIR",
        help="where virtual environments are made and kept (default: benchmarks/.peers);"
        " delete one to have it made again, with the versions of that day",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it all work? No figures")
    parser.add_argument("--keep", action="store_true", help="keep logs and files, as when ours fails")
    given = parser.parse_args(arguments)
    return Options(
        only=tuple(name for name in BENCHMARKS if not given.only or name in given.only),
        without=tuple(given.without or ()),
        rounds=given.rounds,
        json=given.json and given.json.absolute(),
        peers=given.peers.absolute().resolve(),
        quick=given.quick,
        keep=given.keep,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
