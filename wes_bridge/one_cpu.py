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
import itertools
import logging
import os
import random
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

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
_GIVES_WAY = getattr(os, "SCHED_BATCH", None)
"""``sched(7)``: of threads that calculate, and need not be quick to begin."""
BETTER = 0.15
"""Of a CPU: by how much less other work there must be elsewhere."""


def is_better_together(own: float) -> bool:
    """Whether a process that used ``own`` CPUs should be on one."""
    return BUSY <= own <= SIDE_BY_SIDE


def quietest(by_cpu: dict[int, float], own: float, now: int) -> int:
    """Where the process should be.

    Args:
        by_cpu: how busy each CPU was, 0 to 1, by its number; without those that the system does not tell of.
        own: how many CPUs this process used.
        now: the one it was on.
    """
    if now not in by_cpu:
        return now
    others = by_cpu | {now: by_cpu[now] - own}
    best = min(others, key=others.__getitem__)
    return best if others[now] - others[best] > BETTER else now


async def keep_together() -> None:
    """Look after the threads of this process until cancelled; after that they may run anywhere again."""
    if len(ALLOWED) < 2:
        return
    try:
        while True:
            if is_better_together(await _used_in(LOOK_LOOSE)):
                await _stay_together()
    except (OSError, psutil.Error) as error:
        log.info("threads run where the system lets them: %s", error)


async def _stay_together() -> None:
    """Keep the threads on one CPU for as long as that is better."""
    now = psutil.Process().cpu_num()
    try:
        for look in itertools.count(1):
            _put({now})
            free, begun = _free(), time.monotonic()
            own = await _used_in(LOOK)
            took = time.monotonic() - begun
            by_cpu = {cpu: 1.0 - (since - free[cpu]) / took for cpu, since in _free().items() if cpu in free}
            if not is_better_together(own):
                return
            now = quietest(by_cpu, own, now)
            if look % GLIMPSE_EVERY == 0:
                _put(ALLOWED)
                if await _used_in(GLIMPSE) > SIDE_BY_SIDE:
                    return
    finally:
        _put(ALLOWED)


def give_way() -> None:
    """Have the calling thread, which works for a loop, not push the loop aside when that wakes it.

    The loop holds Python's lock: a thread that takes its place on the CPU at once finds the lock held, and
    goes to sleep again. As it is, the thread begins when the loop has nothing more to do. It works as much.
    """
    _set_policy(_GIVES_WAY)


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """The calling thread may run anywhere meanwhile, and as any: for processes that it starts, which inherit
    that."""
    if not ALLOWED:
        yield
        return
    before, gives_way = os.sched_getaffinity(0), os.sched_getscheduler(0) == _GIVES_WAY
    _put_thread(0, ALLOWED)
    if gives_way:
        _set_policy(os.SCHED_OTHER)
    try:
        yield
    finally:
        _put_thread(0, before)
        if gives_way:
            give_way()


async def _used_in(seconds: float) -> float:
    """CPUs this process uses in about that time; not exactly: those that think alike must not act at once."""
    used, begun = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads, no secret
    return (time.process_time() - used) / (time.monotonic() - begun)


def _free() -> dict[int, float]:
    """Seconds that each CPU did nothing, or was not given to this machine by its host."""
    times = enumerate(psutil.cpu_times(percpu=True))
    return {cpu: spent.idle + spent.iowait + spent.steal for cpu, spent in times if cpu in ALLOWED}


def _put(cpus: Collection[int]) -> None:
    """All threads there are: those that come later inherit it from who starts them."""
    for thread in Path("/proc/self/task").iterdir():
        _put_thread(int(thread.name), cpus)


def _set_policy(policy: int | None) -> None:
    """Of the calling thread."""
    if policy is not None:
        with contextlib.suppress(OSError):  # a container may not let us
            os.sched_setscheduler(0, policy, os.sched_param(0))


def _put_thread(thread: int, cpus: Collection[int]) -> None:
    with contextlib.suppress(OSError):  # it has ended, or we may not, or these CPUs were taken away from us
        os.sched_setaffinity(thread, cpus)
