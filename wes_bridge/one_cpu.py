"""Keeps a process's threads on one CPU at a time, as Python lets only one of them run at a time.

Threads on different CPUs hand Python's lock to each other from CPU to CPU: each time one has to be woken, its
caches are cold, and on a virtual machine the host may not be running its CPU just then. On one CPU a busy
node or worker does the same with a seventh less processor time (``docs/performance.md``).

Twice a second the process looks whether it is on the CPU that has the least other work. Threads that work
side by side, since they have let go of the lock (checksums, copies), are left alone, and so is a process that
does little. Linux only: elsewhere nothing is done. It must not know what the process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ALLOWED = frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ())
"""Where this process might run when it began."""
LOOK = 0.5
"""Seconds between looks at a process that is kept together."""
LOOK_LOOSE = 0.2
"""The same for one that is not: a wide scatter is to be quick from its beginning."""
GLIMPSE = 0.04
"""Seconds that its threads may then run anywhere, to see whether they would work side by side."""
GLIMPSE_EVERY = 8
"""Looks."""
BUSY = 0.2
"""Of a CPU: below, it does not matter where threads are."""
SIDE_BY_SIDE = 1.2
"""Of a CPU: above, threads work without Python's lock."""
BETTER = 0.15
"""Of a CPU: by how much less other work there must be elsewhere."""


@dataclass(frozen=True)
class Usage:
    """What was used for a while, in CPUs.

    Attributes:
        own: by this process.
        by_cpu: how busy each CPU was, by its number; without those that the system does not tell of.
    """

    own: float
    by_cpu: dict[int, float]


def choose(usage: Usage, now: int | None, last: int) -> int | None:
    """Where the threads should be from now on.

    Args:
        usage: since the last look.
        now: the CPU that they are kept on; None: they may run anywhere.
        last: the CPU that the event loop ran on last.

    Returns:
        A CPU; None: anywhere.
    """
    if usage.own < BUSY or usage.own > SIDE_BY_SIDE:
        return None
    if now is None or now not in usage.by_cpu:
        return last
    others = usage.by_cpu | {now: usage.by_cpu[now] - usage.own}
    quietest = min(others, key=others.__getitem__)
    return quietest if others[now] - others[quietest] > BETTER else now


async def keep_together() -> None:
    """Look after the threads of this process until cancelled; after that they may run anywhere again."""
    if len(ALLOWED) < 2:
        return
    process = psutil.Process()
    now: int | None = None
    looks = 0
    try:
        while True:
            usage = await _used_in(LOOK_LOOSE if now is None else LOOK)
            looks += 1
            if now is not None and looks % GLIMPSE_EVERY == 0:
                _put(ALLOWED)
                glimpse = await _used_in(GLIMPSE)
                now = None if glimpse.own > SIDE_BY_SIDE else choose(usage, now, process.cpu_num())
            else:
                now = choose(usage, now, process.cpu_num())
            _put(ALLOWED if now is None else {now})
    finally:
        _put(ALLOWED)


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """The calling thread may run anywhere meanwhile: for processes that it starts, which inherit that."""
    if not ALLOWED:
        yield
        return
    before = os.sched_getaffinity(0)
    _put_thread(0, ALLOWED)
    try:
        yield
    finally:
        _put_thread(0, before)


async def _used_in(seconds: float) -> Usage:
    """What is used in about that time; not exactly, as processes that think alike should not act at once."""
    used, free, begun = time.process_time(), _free(), time.monotonic()
    await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads, no secret
    took = time.monotonic() - begun
    by_cpu = {cpu: 1.0 - (since - free[cpu]) / took for cpu, since in _free().items() if cpu in free}
    return Usage((time.process_time() - used) / took, by_cpu)


def _free() -> dict[int, float]:
    """Seconds that each CPU did nothing, or was not given to this machine by its host."""
    times = enumerate(psutil.cpu_times(percpu=True))
    return {cpu: spent.idle + spent.iowait + spent.steal for cpu, spent in times if cpu in ALLOWED}


def _put(cpus: Collection[int]) -> None:
    """All threads there are: those that come later inherit it from who starts them."""
    for thread in Path("/proc/self/task").iterdir():
        _put_thread(int(thread.name), cpus)


def _put_thread(thread: int, cpus: Collection[int]) -> None:
    with contextlib.suppress(OSError):  # it has ended, or we may not, or these CPUs were taken away from us
        os.sched_setaffinity(thread, cpus)
