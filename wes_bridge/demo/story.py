"""What happened in one run, as numbers: a bar for each attempt at each step, and what the run cost.

Made from the run's task log, from the sessions the nodes still tell of, and from the bookings that were seen.
Pure: no I/O here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wes_bridge.demo.watching import Seen
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.units import parse_duration, parse_interval

WAITING, PREPARING, RUNNING, RELEASING = "waiting", "preparing", "running", "releasing"
PHASES = (WAITING, PREPARING, RUNNING, RELEASING)
_FIGURES = ("cost", "energy", "carbon")
Task = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One attempt at a step. Times are seconds since the epoch.

    Attributes:
        step: its name.
        node: where.
        pieces: phase, from, until.
        slot: the booking as it was made; None: not known.
        lost: the attempt came to nothing.
        attempt: 1 for the first.
    """

    step: str
    node: str
    pieces: tuple[tuple[str, float, float], ...]
    slot: tuple[float, float] | None = None
    lost: bool = False
    attempt: int = 1

    @property
    def start(self) -> float:
        """When it was booked."""
        return self.pieces[0][1]

    @property
    def end(self) -> float:
        """When its booking was given back."""
        return self.pieces[-1][2]


@dataclass(frozen=True)
class Act:
    """One run.

    Attributes:
        policy: it ran under.
        state: it ended in.
        bars: by time.
        tasks: its task log.
        stopped: the node that was cut off meanwhile, and when.
    """

    policy: str
    state: str
    bars: tuple[Bar, ...]
    tasks: list[Task] = field(default_factory=list)
    stopped: tuple[str, float] | None = None

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{self.policy}, {self.stopped[0]} stopped" if self.stopped else self.policy

    @property
    def start(self) -> float:
        """When the first step was booked; 0 without steps."""
        return min((bar.start for bar in self.bars), default=0.0)

    @property
    def makespan(self) -> float:
        """Seconds from the first booking to the last end."""
        return max((bar.end for bar in self.bars), default=0.0) - self.start

    def by_node(self) -> Counter[str]:
        """Steps by the node that finished them."""
        return Counter(bar.node for bar in self.bars if not bar.lost)

    def lost(self) -> int:
        """Attempts that came to nothing."""
        return sum(bar.lost for bar in self.bars)

    def figure(self, name: str) -> float | None:
        """What all steps' bookings were quoted at (``cost``, ``energy``, ``carbon``); None: nobody said."""
        found = [quote for task in self.tasks if (quote := quoted(task, name)) is not None]
        return sum(found) if found else None


def quoted(task: Task, name: str) -> float | None:
    """The middle of what the offer said that was taken."""
    placement = task.get("placement") or {}
    for offer in (placement.get("choice") or {}).get("offers") or []:
        if offer.get("node") == task.get("node") and isinstance(offer.get(name), list):
            known = [float(bound) for bound in offer[name] if bound is not None]
            return sum(known) / len(known) if known else None
    return None


def session_urls(tasks: Sequence[Task]) -> list[str]:
    """The sessions of all attempts."""
    return [url for task in tasks for url, *_ in _attempts(task)]


def tell(
    policy: str,
    state: str,
    tasks: Sequence[Task],
    sessions: Mapping[str, Session],
    seen: Mapping[str, Seen],
    *,
    stopped: tuple[str, float] | None = None,
) -> Act:
    """One run's story.

    Args:
        policy: it ran under.
        state: it ended in.
        tasks: its task log.
        sessions: by URL, as far as nodes still tell of them.
        seen: bookings, by session.
        stopped: the node that was cut off, and when.
    """
    bars = []
    for task in tasks:
        for url, node, attempt, lost in _attempts(task):
            uuid = url.rstrip("/").rpartition("/")[2]
            glimpse = seen.get(uuid)
            pieces = _told(sessions[url]) if url in sessions else ()
            if not pieces and glimpse is not None:
                end = stopped[1] if lost and stopped and stopped[0] == node else glimpse.last
                pieces = _glimpsed(glimpse, end)
            if pieces:
                slot = glimpse.slots[0] if glimpse and glimpse.slots else _slot(sessions.get(url))
                bars.append(Bar(str(task.get("name")), node, pieces, slot, lost, attempt))
    bars.sort(key=lambda bar: (bar.start, bar.step))
    return Act(policy, state, tuple(bars), list(tasks), stopped)


def _attempts(task: Task) -> Iterator[tuple[str, str, int, bool]]:
    """Session, node, number, and whether it came to nothing, of each attempt that was accepted."""
    placement = task.get("placement") or {}
    for entry in placement.get("earlier") or []:
        if entry.get("session_url"):
            yield entry["session_url"], str(entry.get("node")), int(entry.get("attempt") or 1), True
    url = task.get("session_url")
    if url:
        failed = task.get("state") not in (None, "COMPLETE")
        yield url, str(task.get("node")), int(placement.get("attempt") or 1), failed


def _told(session: Session) -> tuple[tuple[str, float, float], ...]:
    """The phases of a session that has run, by its own account."""
    command, created, ended = session.executable, session.meta.created, session.meta.modified
    if command is None or created is None or ended is None or command.started is None:
        return ()
    started = command.started.timestamp()
    slot = _slot(session)
    due = min(started, max(created.timestamp(), slot[0] if slot else 0.0))
    finished = command.finished.timestamp() if command.finished else ended.timestamp()
    marks = [created.timestamp(), due, started, finished, max(finished, ended.timestamp())]
    return tuple(
        (phase, marks[index], marks[index + 1])
        for index, phase in enumerate(PHASES)
        if marks[index + 1] > marks[index]
    )


def _glimpsed(seen: Seen, end: float) -> tuple[tuple[str, float, float], ...]:
    """The phases of a session that only its bookings tell of."""
    end = max(end, seen.first + 0.01)
    running = seen.phases.get("RUNNING")
    if running is None:
        return ((WAITING, seen.first, end),)
    if running <= seen.first:
        return ((RUNNING, seen.first, end),)
    return ((WAITING, seen.first, running), (RUNNING, running, max(end, running)))


def _slot(session: Session | None) -> tuple[float, float] | None:
    available = session.schedule.available if session and session.schedule else None
    if available is None or not available.start or not available.duration:
        return None
    start = parse_interval(available.start)[0].timestamp()
    return start, start + parse_duration(available.duration).total_seconds()
