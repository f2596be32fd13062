"""What a hostile step leaves behind in the node's own sandbox for the step that gets its place.

The node runs one step at a time, so that both are in one place where that is used again. Each attack is
really made, and says so; then another step looks, and the machine is looked at.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import NodeProcess, Request, Starter, process, shell

PROBE = """
import ctypes, os, signal, struct, sys, time, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    return libc.syscall(*(ctypes.c_long(w) if isinstance(w, int) else w for w in words))
def clone(flags):
    packed = struct.pack("=8Q", flags, 0, 0, 0, 0, 0, 0, 0)
    return call(435, packed, len(packed))
PLACE = os.readlink("/proc/self/ns/pid")
"""
CLONE_PARENT = 0x8000
LOOK = """
import json, resource
def listed(path):
    try: return sorted(os.listdir(path))
    except OSError as error: return error.strerror
def read(path):
    try: return open(path).read()
    except OSError as error: return error.strerror
print(json.dumps({
    "tmp": listed("/tmp"), "shm": listed("/dev/shm"), "pts": listed("/dev/pts"),
    "modes": [oct(os.stat(path).st_mode)
              for path in ("/tmp", "/dev/shm", "/dev/pts", "/dev/pts/ptmx", "/dev")],
    "owners": [os.stat(path).st_uid for path in ("/tmp", "/dev/shm", "/dev/pts/ptmx")],
    "attributes": [os.listxattr(path) for path in ("/tmp", "/dev/shm")],
    "processes": sorted(read(f"/proc/{p}/comm").strip() for p in os.listdir("/proc") if p.isdigit()),
    "memory": [read(f"/proc/sysvipc/{kind}").count("\\n") for kind in ("shm", "msg", "sem")],
    "queue": libc.mq_open(b"/left", os.O_RDWR) >= 0,
    "sockets": [line.split()[-1] for line in read("/proc/net/unix").splitlines() if "@wb-left" in line],
    "ports": read("/proc/net/tcp").count("\\n"),
    "limits": [resource.prlimit(1, number) == resource.getrlimit(number) for number in range(16)],
    "own limits": [resource.getrlimit(number) for number in range(16)],
    "priority": [(os.getpriority(0, pid), os.sched_getscheduler(pid)) for pid in (0, 1)],
    "processors": [sorted(os.sched_getaffinity(pid)) for pid in (0, 1)],
    "io": [call(252, 1, pid) for pid in (0, 1)],
    "oom": [read(f"/proc/{pid}/oom_score_adj") for pid in (1, "self")],
    "autogroup": read("/proc/1/autogroup").partition("nice")[2],
    "signals": [line for line in read("/proc/self/status").splitlines() if line[:3] in ("Sig", "Shd", "Thr")],
    "descriptors": listed("/proc/self/fd"), "umask": os.umask(0), "tty": os.getpgid(0) == os.getpid(),
    "session": os.getsid(0) == os.getpid(), "host": os.uname().nodename, "keys": call(250, 0, -4, 0) < 0,
    "root": listed("/"), "sessions": listed(os.path.dirname(os.path.dirname(os.path.dirname(os.getcwd())))),
}))
"""
ATTACKS = {
    "a child of process 1": (
        f"pid = clone({CLONE_PARENT})\n"
        "if pid == 0:\n    os.setsid()\n    while True: time.sleep(100)\n"
        "print('made' if pid > 0 else 'not')"
    ),
    "many children of process 1 that have children": (
        "for _ in range(20):\n"
        f"    if clone({CLONE_PARENT}) == 0:\n"
        "        os.setsid()\n"
        "        while True: os.fork(); time.sleep(0.2)\n"
        "print('made')"
    ),
    "zombies of process 1": (
        f"for _ in range(5):\n    if clone({CLONE_PARENT}) == 0: os._exit(0)\n"
        f"if clone({CLONE_PARENT} | 0x20000000) == 0: time.sleep(1000)\n"
        "print('made')"
    ),
    "a traced thread that has ended": (
        "told = []\n"
        "thread = threading.Thread(target=lambda: told.append(libc.ptrace(0, 0, 0, 0)))\n"
        "thread.start(); thread.join()\nprint('made' if told == [0] else told)"
    ),
    "a traced thread that is stopped": (
        "def trace():\n    libc.ptrace(0, 0, 0, 0)\n    libc.raise_ = signal.raise_signal(signal.SIGUSR1)\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    libc.ptrace(0, 0, 0, 0); time.sleep(1000)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        f"    if clone({CLONE_PARENT}) == 0: libc.ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGUSR2)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0); time.sleep(0.1); print('made')"
    ),
    "a stopped process": (
        "pid = os.fork()\nif pid == 0: os.setsid(); os.kill(os.getpid(), signal.SIGSTOP)\n"
        "os.waitpid(pid, os.WUNTRACED); print('made')"
    ),
    "processes in further namespaces": (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    if libc.unshare(0x10000000 | 0x20000000 | 0x20000) == 0 and os.fork() == 0:\n"
        "        os.setsid(); os.fork(); time.sleep(1000)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0); print('made')"
    ),
    "files": (
        "for path in ('/tmp', '/dev/shm'):\n"
        "    open(path + '/left', 'w').write('x'); os.mkdir(path + '/folder')\n"
        "    os.chmod(path, 0o700)\n"
        "    try: os.setxattr(path, 'user.left', b'x')\n"
        "    except OSError: pass\n"
        "print('made')"
    ),
    "a terminal, and the mode of the folder's entries": (
        "master = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)\n"
        "for path in ('/dev/pts/ptmx', '/dev/pts'):\n"
        "    try: os.chmod(path, 0)\n"
        "    except OSError: pass\n"
        "print('made')"
    ),
    "memory, queues and semaphores": (
        "print('made' if min(libc.shmget(0x5742, 4096, 0o1666), libc.msgget(0x5742, 0o1666),"
        " libc.semget(0x5742, 1, 0o1666), libc.mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o666, None)) >= 0"
        " else 'not')"
    ),
    "sockets": (
        "import socket, subprocess\n"
        "one = socket.socket(socket.AF_UNIX); one.bind('\\0wb-left'); one.listen()\n"
        "two = socket.create_server(('127.0.0.1', 0))\n"
        "for s in (one, two): os.set_inheritable(s.fileno(), True)\n"
        "subprocess.Popen(['sleep', '651'], close_fds=False, start_new_session=True); print('made')"
    ),
    "limits of process 1": (
        "import resource\n"
        "for number in range(16):\n"
        "    soft, hard = resource.getrlimit(number)\n"
        "    try: resource.prlimit(1, number, (min(hard, 1 << 20) if hard > 0 else 1 << 20, hard))\n"
        "    except (OSError, ValueError): pass\n"
        "print('made')"
    ),
    "few files for process 1": "import resource; resource.prlimit(1, 7, (3, 3)); print('made')",
    "little memory for process 1": "import resource; resource.prlimit(1, 9, (1, 1)); print('made')",
    "no time for process 1": "import resource; resource.prlimit(1, 0, (1, 1)); print('made')",
    "priorities of process 1": (
        "def tried(f, *a):\n    try: f(*a)\n    except OSError: pass\n"
        "tried(os.setpriority, os.PRIO_PROCESS, 1, 7); tried(os.setpriority, os.PRIO_USER, os.getuid(), 7)\n"
        "tried(os.sched_setscheduler, 1, os.SCHED_BATCH, os.sched_param(0)); print('made')"
    ),
    "processors of process 1": (
        "try: os.sched_setaffinity(1, {min(os.sched_getaffinity(0))})\nexcept OSError: pass\nprint('made')"
    ),
    "input and output of process 1": "call(251, 1, 1, 3 << 13); print('made')",
    "files of process 1": (
        "for name in ('oom_score_adj', 'autogroup', 'coredump_filter', 'timerslack_ns', 'comm', 'oom_adj'):\n"
        "    for path in (f'/proc/1/{name}', f'/proc/1/task/1/{name}'):\n"
        "        try: open(path, 'w').write('7')\n"
        "        except OSError: pass\n"
        "print('made')"
    ),
    "signals to process 1": (
        "for number in range(1, 65):\n    try: os.kill(1, number)\n    except OSError: pass\nprint('made')"
    ),
    "alarms and signals of its own": (
        "signal.setitimer(signal.ITIMER_REAL, 1000); signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "os.kill(os.getpid(), signal.SIGUSR1); os.umask(0o777); print('made')"
    ),
    "a name of the machine and other values of the kernel": (
        "libc.sethostname(b'left', 4)\n"
        "for path in ('sys/kernel/hostname', 'sys/kernel/shmmax', 'sys/net/ipv4/ip_forward',\n"
        "             'sys/net/core/somaxconn', 'sys/user/max_user_namespaces', '1/uid_map'):\n"
        "    try: open('/proc/' + path, 'w').write('7')\n"
        "    except OSError: pass\n"
        "print('made')"
    ),
}


def python(text: str, **more: Any) -> dict[str, Any]:
    return process("python3", "-I", "-c", PROBE + text, **more)


@pytest.fixture(scope="module", params=[False, True], ids=["no network", "network"])
def network(request: pytest.FixtureRequest) -> dict[str, bool]:
    return {"access": request.param}


@pytest.fixture(scope="module")
def node(start_node: Starter) -> NodeProcess:
    return start_node(platforms=["process"], sandbox="own", max_running=1, sandbox_shows=["system"])


def seen(node: NodeProcess, network: dict[str, bool]) -> dict[str, Any]:
    """What a step finds in its place, without what is of its own."""
    import json  # noqa: PLC0415

    found: dict[str, Any] = json.loads(node.stream(node.completed(Request(python(LOOK, network=network)))))
    found["sessions"] = len(found["sessions"])
    if network["access"]:
        del found["ports"]  # they are the machine's
    return found


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are x86-64's")
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_left(node: NodeProcess, network: dict[str, bool], attack: str) -> None:
    before = seen(node, network)
    started = time.monotonic()
    session = node.run(Request(python(ATTACKS[attack] + "\nsys.stdout.flush()", network=network)), 30)
    assert node.stream(session) == "made\n", node.stream(session, "stderr")
    assert session["executable"]["exitCode"] == 0
    assert time.monotonic() - started < 20
    assert seen(node, network) == before
    assert before["processes"] == ["python3", "wb-sandbox"]
    assert not _of_ours("libc.syscall"), "something outlives its session"


@pytest.mark.parametrize("attack", [name for name in ATTACKS if "process" in name or "trace" in name])
def test_a_cancelled_step_leaves_nothing(node: NodeProcess, attack: str) -> None:
    """Cancel ends all of it, as the end of the command does."""
    script = ATTACKS[attack] + "\nsys.stdout.flush()\nsignal.pause() if sys.argv else None"
    session = node.begin(Request(python(script.replace("signal.pause()", "time.sleep(1000)"))))
    deadline = time.monotonic() + 30
    while node.stream(session) != "made\n":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    node.update(session, "CANCELLED")
    node.end(session, 30)
    assert not _of_ours("libc.syscall"), "something outlives its session"
    assert node.stream(node.completed(Request(shell("echo next")))) == "next\n"


def test_steps_after_another_share_a_place(node: NodeProcess) -> None:
    """Else the tests above say nothing: a place is used again when nothing was done to it."""
    where = python("print(PLACE)")
    places = {node.stream(node.completed(Request(dict(where)))) for _ in range(4)}
    assert len(places) < 4


def _of_ours(words: str) -> list[int]:
    """Processes of steps with these words in their command line; those that are ending get a moment."""
    found: list[int] = []
    for _ in range(50):
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            if words.encode() in text and f"{os.getpid()}" != path.parent.name:
                found.append(int(path.parent.name))
        if not found:
            break
        time.sleep(0.02)
    return found
