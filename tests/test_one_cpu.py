"""Where the threads of a busy process run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.one_cpu import (
    ALLOWED,
    BETTER,
    BUSY,
    SIDE_BY_SIDE,
    anywhere,
    is_better_together,
    quietest,
)

two_cpus = pytest.mark.skipif(len(ALLOWED) < 2, reason="this machine lets us use one CPU only")


def test_a_process_that_does_little_is_left_alone() -> None:
    assert not is_better_together(BUSY / 2)


def test_a_busy_one_is_not() -> None:
    assert is_better_together(0.7)


def test_threads_that_work_side_by_side_are_left_alone() -> None:
    assert not is_better_together(SIDE_BY_SIDE + 0.1)


def test_it_moves_to_where_less_is_done() -> None:
    assert quietest({0: 1.0, 1: 0.1}, 0.5, 0) == 1


def test_its_own_work_does_not_drive_it_away() -> None:
    assert quietest({0: 0.95, 1: 0.1}, 0.9, 0) == 0


def test_a_system_that_tells_nothing_of_its_cpus_is_lived_with() -> None:
    assert quietest({}, 0.7, 3) == 3


@given(
    by_cpu=st.dictionaries(st.integers(0, 7), st.floats(0, 1), max_size=8),
    own=st.floats(0, 4),
    now=st.integers(0, 7),
)
def test_it_never_moves_to_where_more_is_done(by_cpu: dict[int, float], own: float, now: int) -> None:
    chosen = quietest(by_cpu, own, now)
    if chosen != now:
        assert by_cpu[chosen] + BETTER < by_cpu[now] - own + 1e-9


def said(script: str, *arguments: str) -> list[str]:
    """What a process of its own prints; nothing goes wrong in it."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=150)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


_BUSY_PROCESS = """
import asyncio, os, sys, threading
from pathlib import Path
from wes_bridge import one_cpu
from wes_bridge.one_cpu import ALLOWED, anywhere, keep_together

one_cpu.BUSY = 0.02  # the machine may be busy with other tests

def places():
    return {frozenset(os.sched_getaffinity(int(t.name))) for t in Path("/proc/self/task").iterdir()}

def count(stop):
    while not stop.is_set():
        sum(range(10_000))

async def until(what):
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.02)

def together():
    return all(len(place) == 1 for place in places()) and len(places()) == 1

async def main():
    keeping = asyncio.create_task(keep_together())
    stop = threading.Event()
    for _ in range(2):
        threading.Thread(target=count, args=(stop,)).start()
    await until(together)
    print("together")
    with anywhere():
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))", stdout=-1)
        out, _ = await child.communicate()
    print("child", int(out) == len(ALLOWED))
    one_cpu.SIDE_BY_SIDE = 0.0  # as if they did; whether they could is for a machine without other work
    await until(lambda: places() == {ALLOWED})
    print("side by side")
    stop.set()
    keeping.cancel()
    await asyncio.wait([keeping])
    print("let go", places() == {ALLOWED})

asyncio.run(main())
"""


@two_cpus
def test_threads_are_kept_together_unless_they_work_side_by_side() -> None:
    assert said(_BUSY_PROCESS) == ["together", "child True", "side by side", "let go True"]


_UNTOLD = """
import asyncio, os, psutil
from wes_bridge import one_cpu

def refuse(**_):
    raise psutil.AccessDenied()

one_cpu.BUSY = 0.0
psutil.cpu_times = refuse
asyncio.run(asyncio.wait_for(one_cpu.keep_together(), 30))
print(os.sched_getaffinity(0) == one_cpu.ALLOWED)
"""


@two_cpus
def test_a_system_that_does_not_tell_is_left_alone() -> None:
    assert said(_UNTOLD) == ["True"]


_KEEPER = """
import os, sys
from pathlib import Path
from wes_bridge.node.platforms.keeping import Keeping
from wes_bridge.one_cpu import ALLOWED

os.sched_setaffinity(0, {min(ALLOWED)})
keeping = Keeping(Path(sys.argv[1]))
keeping.open()
print(os.sched_getaffinity(keeping.pid) == ALLOWED, os.sched_getaffinity(0) == {min(ALLOWED)})
keeping.close()
"""


@two_cpus
def test_commands_may_run_anywhere(tmp_path: Path) -> None:
    """The keeper that starts them may be started by a node that is kept together."""
    assert said(_KEEPER, str(tmp_path)) == ["True True"]


def test_where_it_may_not_be_said_things_are_started_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: int, _cpus: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with anywhere():
        assert said("print('started')") == ["started"]


@two_cpus
def test_a_pinned_process_knows_only_where_it_was_allowed_to_run() -> None:
    script = "from wes_bridge.one_cpu import ALLOWED; print(len(ALLOWED))"
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); {script}"
    assert said(one) == ["1"]


_GIVING_WAY = """
import os, subprocess, sys, threading
from wes_bridge.one_cpu import anywhere, give_way

ASK = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0) == os.SCHED_OTHER)"]

def work():
    give_way()
    print(os.sched_getscheduler(0) == os.SCHED_BATCH)
    with anywhere():
        print(subprocess.run(ASK, capture_output=True, text=True).stdout.strip())
    print(os.sched_getscheduler(0) == os.SCHED_BATCH)

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(os.sched_getscheduler(0) == os.SCHED_OTHER)
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no such threads")
def test_a_thread_that_gives_way_does_so_alone() -> None:
    """Neither the thread that made it, nor a command that it starts, is one that gives way."""
    assert said(_GIVING_WAY) == ["True"] * 4
