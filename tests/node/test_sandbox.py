"""The sandbox that the node's keeper makes: what a hostile command cannot do, and that nothing is left of it.

Each test asks a real node. What must fail is tried for real; what must not be touched is looked at after it.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.node.conftest import REPOSITORY, ROOT, NodeProcess, Request, Starter, process, shell, texts
from tests.waiting import until

PROBE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, *call):
    result = getattr(libc, what)(*call)
    print(what, "done" if result >= 0 else os.strerror(ctypes.get_errno()))
"""


@pytest.fixture(scope="module")
def node(start_node: Starter) -> NodeProcess:
    """A node that does not run without a sandbox."""
    return start_node(sandbox="own", platforms=["process"], cores=2)


def lines(node: NodeProcess, executable: dict[str, object]) -> list[str]:
    return node.stream(node.completed(Request(dict(executable)))).splitlines()


def python(text: str, **more: object) -> dict[str, object]:
    return process("python3", "-I", "-c", PROBE + text, **more)


def test_it_is_the_keepers_own(node: NodeProcess) -> None:
    assert lines(node, shell("cat /proc/1/comm")) == ["wb-sandbox"]


def test_a_command_has_no_rights_and_gets_none(node: NodeProcess) -> None:
    status = dict(
        line.split(":\t", 1) for line in lines(node, shell("cat /proc/self/status")) if ":\t" in line
    )
    files_only = 0xFB if os.geteuid() == 0 else 0
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {files_only}
    assert (status["CapInh"], status["CapAmb"]) == ("0" * 16, "0" * 16)
    assert status["NoNewPrivs"] == "1"


def test_nothing_is_mounted_unmounted_or_entered(node: NodeProcess) -> None:
    told = lines(
        node,
        python(
            'tried("mount", b"/", b"/tmp", b"", 4096, None)\n'
            'tried("mount", b"none", b"/", b"", 32 | 4096, None)\n'
            'tried("umount2", b"/proc/sys", 2)\n'
            'tried("umount2", b"/dev", 2)\n'
            'tried("chroot", b"/tmp")\n'
            'tried("setns", os.open("/proc/self/ns/mnt", 0), 0)\n'
            'tried("ptrace", 16, 1, 0, 0)\n'
        ),
    )
    assert [line for line in told if not line.endswith("Operation not permitted")] == []


def test_mounts_stay_locked_in_a_user_namespace_of_its_own(node: NodeProcess) -> None:
    """There a command has all rights, over nothing of the sandbox."""
    told = lines(
        node,
        python(
            'tried("unshare", 0x10000000 | 0x20000)\n'
            'tried("umount2", b"/proc/sys", 2)\n'
            'tried("umount2", b"/tmp", 2)\n'
            'tried("mount", b"none", b"/", b"", 32 | 4096, None)\n'
            'print(os.access("/etc", os.W_OK))\n'
        ),
    )
    if told[0] == "unshare done":
        assert [line for line in told[1:-1] if line.endswith("done")] == []
    assert told[-1] == "False"


def test_process_1_is_out_of_reach(node: NodeProcess) -> None:
    script = (
        "for file in environ mem maps root/etc fd/0 ns/mnt; do"
        " cat /proc/1/$file >/dev/null 2>&1 && echo $file; done;"
        "kill -KILL 1; kill -STOP 1; kill -TERM 1; (true &); sleep 0.05; echo alive"
    )
    assert lines(node, shell(script)) == ["alive"]


def test_no_descriptor_is_inherited(node: NodeProcess) -> None:
    assert lines(node, shell("ls /proc/self/fd")) == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


def test_the_machine_cannot_be_told_what_to_do(node: NodeProcess) -> None:
    script = (
        "for file in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sysrq-trigger /proc/irq/x"
        " /sys/x /etc/wb-x /dev/wb-x /wb-x; do (echo x > $file) 2>/dev/null && echo $file; done; echo nothing"
    )
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    assert lines(node, shell(script)) == ["nothing"]
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_the_nodes_folder_and_its_keeper_are_not_there(node: NodeProcess) -> None:
    """Also for a command whose PATH names them: nothing is shown because of what a step says."""
    state = node.state
    path = f"{state}:{state}/bin:/usr/bin:/bin"
    found = lines(node, shell(f"ls {state}; ls {state}/sessions | wc -l", environment={"PATH": path}))
    assert found == ["sessions", "1"]
    told = node.run(Request(shell(f"echo x > {state}/mine")))
    assert (told["phase"], (state / "mine").exists()) == ("FAILED", False)


def test_what_is_preloaded_is_preloaded_inside_only(node: NodeProcess, tmp_path: Path) -> None:
    """A library that a step names is looked for where the step is."""
    canary = tmp_path / "canary"
    source = tmp_path / "evil.c"
    source.write_text(
        f"#include <fcntl.h>\n__attribute__((constructor)) static void on(void)"
        f'{{ open("{canary}", O_CREAT | O_WRONLY, 0600); }}\n'
    )
    library = tmp_path / "evil.so"
    if subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=False).returncode:
        pytest.skip("there is no C compiler")
    node.run(Request(shell("true", environment={"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin"})))
    assert not canary.exists()


def test_no_network_means_no_socket_of_the_machine(node: NodeProcess) -> None:
    """Neither by address nor by an abstract name, and the loopback interface is the sandbox's own."""
    import socket  # noqa: PLC0415

    name = f"wb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        text = (
            "import socket\n"
            f"try: socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('out')\n"
            "except OSError: print('no')\n"
            f"try: socket.create_connection(('127.0.0.1', {node.url.rpartition(':')[2]}), 2); print('out')\n"
            "except OSError: print('no')\n"
            "own = socket.create_server(('127.0.0.1', 0)); socket.create_connection(own.getsockname(), 2)\n"
            "print('own')\n"
        )
        assert lines(node, python(text, network={"access": False})) == ["no", "no", "own"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are x86-64's")
def test_the_kernels_keys_are_no_place_to_leave_things(node: NodeProcess) -> None:
    """The kernel keeps them for a user, and all sandboxes have the same."""
    told = lines(
        node,
        python(
            'tried("syscall", 248, b"user", b"left", b"x", 1, -4)\n'
            'tried("syscall", 249, b"user", b"left", None, 0)\n'
            'tried("syscall", 250, 0, -4, 1)\n'
            'tried("syscall", 39)\n'
        ),
    )
    assert told == ["syscall Operation not permitted"] * 3 + ["syscall done"]


def test_nothing_is_left_for_the_next_command(start_node: Starter) -> None:
    """On a node that runs one at a time, so that both are in one place."""
    node = start_node(sandbox="own", platforms=["process"], max_running=1)
    leave = (
        "import subprocess, socket\n"
        'open("/tmp/left", "w").close(); open("/dev/shm/left", "w").close()\n'
        "print(libc.shmget(0x5742, 4096, 0o1666) >= 0)\n"
        'subprocess.Popen(["sleep", "631"], start_new_session=True)\n'
        'print(os.readlink("/proc/self/ns/pid"))\n'
    )
    look = (
        "print(libc.shmget(0x5742, 4096, 0) >= 0)\n"
        'print(os.listdir("/tmp"))\n'
        'print(os.listdir("/dev/shm"), os.listdir("/dev/pts"))\n'
        'there = [pid for pid in os.listdir("/proc") if pid.isdigit()]\n'
        'print(sorted(open(f"/proc/{pid}/comm").read().strip() for pid in there))\n'
        'print(os.readlink("/proc/self/ns/pid"))\n'
    )
    first_place, place = "", " "
    while first_place != place:  # something mounted on the machine meanwhile makes it another
        made, first_place = lines(node, python(leave, network={"access": False}))
        memory, files, shared, found, place = lines(node, python(look, network={"access": False}))
        assert (made, memory) == ("True", "False")
        assert ("left" in files, shared) == (False, "[] ['ptmx']")
        assert found == "['python3', 'wb-sandbox']"
        assert not _runs("sleep 631")


def test_a_place_whose_first_process_was_tampered_with_is_not_used_again(start_node: Starter) -> None:
    node = start_node(sandbox="own", platforms=["process"], max_running=1)
    where = 'import resource\nprint(os.readlink("/proc/self/ns/pid"))\n'
    lower = where + "resource.prlimit(1, resource.RLIMIT_NOFILE, (9, 9))\n"
    look = where + "print(resource.prlimit(1, resource.RLIMIT_NOFILE))\n"
    first, again = "", " "
    while first != again:  # as above
        (first,) = lines(node, python(where))
        (again,) = lines(node, python(lower))
    _, limit = lines(node, python(look))  # the number of a namespace that has gone may be another's
    assert limit != "(9, 9)"


def test_another_session_at_the_same_time_is_not_seen(node: NodeProcess) -> None:
    request = Request(shell("exec 3<>/dev/ptmx; touch /tmp/other; exec sleep 632"))
    other = node.until(node.begin(request), lambda session: session["phase"] == "RUNNING")
    deadline = time.monotonic() + 30
    while not _runs("sleep 632"):
        assert time.monotonic() < deadline
    script = "ls /dev/pts; ls /tmp | grep other; cat /proc/[0-9]*/comm"
    assert lines(node, shell(script)) == ["ptmx", "wb-sandbox", "sh"]
    node.update(other, "CANCELLED")
    node.end(other)
    assert not _runs("sleep 632")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_signals_end_a_command_as_they_do_outside(node: NodeProcess, number: int) -> None:
    session = node.run(Request(shell(f"kill -{int(number)} $$; sleep 5")))
    assert session["executable"]["exitCode"] == 128 + number


def test_all_is_over_when_the_command_is(node: NodeProcess) -> None:
    session = node.run(Request(shell("(setsid sleep 633 &) ; (sleep 633 &) ; exit 7")))
    assert session["executable"]["exitCode"] == 7
    assert not _runs("sleep 633")


def test_all_dies_with_the_keeper(start_node: Starter) -> None:
    node = start_node(sandbox="own", platforms=["process"])
    session = node.begin(Request(shell("(setsid sleep 634 &) ; sleep 634")))
    node.until(session, lambda now: now["phase"] == "RUNNING" and bool(_runs("sleep 634")))
    for pid in _runs(f"keeper.py {node.state}"):
        os.kill(pid, signal.SIGKILL)
    assert "process-lost" in str(node.end(session))
    assert not _runs("sleep 634")


def test_a_maker_of_sandboxes_that_is_killed_is_replaced(start_node: Starter) -> None:
    """What ran in its sandboxes is lost, and told; what comes next runs."""
    node = start_node(sandbox="own", platforms=["process"])
    session = node.begin(Request(shell("sleep 635")))
    node.until(session, lambda now: now["phase"] == "RUNNING" and bool(_runs("sleep 635")))
    (keeper,) = _runs(f"keeper.py {node.state}")
    for pid in _children(keeper):
        os.kill(pid, signal.SIGKILL)
    assert node.end(session)["phase"] == "FAILED"
    assert not _runs("sleep 635")
    assert node.stream(node.completed(Request(shell("echo again")))) == "again\n"


def test_memory_of_what_the_command_let_go_of_counts(node: NodeProcess) -> None:
    """A process whose parent has ended is a child of the sandbox's first process."""
    hog = "x = bytearray(300 << 20); import time; time.sleep(60)"
    request = Request(
        shell(f"(setsid python3 -c '{hog}' &) ; sleep 60"),
        memory={"kind": "x", "minBytes": 1, "maxBytes": 100 << 20},
    )
    request.body["compute"]["memory"].pop("kind")
    session = node.run(request)
    assert "memory-limit" in str(session), texts(session)


@pytest.mark.parametrize("sandbox", ["own", pytest.param("bwrap", marks=pytest.mark.bwrap)])
def test_only_what_is_to_be_seen_is(
    start_node: Starter, sandbox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inputs are; what else there is beside them is not, nor what another step has seen."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    given, secret = tmp_path / "in" / "given.txt", tmp_path / "in" / "secret.txt"
    given.parent.mkdir()
    given.write_text("given\n")
    secret.write_text("secret\n")
    system = [path for path in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc") if Path(path).exists()]
    node = start_node(sandbox=sandbox, platforms=["process"], max_running=1, sandbox_shows=system)
    script = f"cat {ROOT}/in/a {given}; cat {secret} {REPOSITORY}/README.md 2>/dev/null; ls /"
    session = node.completed(Request(shell(script)).data(f"{ROOT}/in/a", given.as_uri()))
    shown = node.stream(session).split()
    assert shown[:2] == ["given", "given"]
    assert "secret" not in shown
    allowed = {Path(path).name for path in system} | {"dev", "proc", "tmp"}
    assert {name for name in shown[2:] if name != "/:"} <= allowed | {Path(node.state).parts[1]}, shown
    after = node.completed(
        Request(shell(f"ls {given.parent} 2>/dev/null; ls /; (echo x > /usr/wb-x) || echo no"))
    )
    assert "given.txt" not in node.stream(after)
    assert node.stream(after).split()[-1] == "no"


@pytest.mark.parametrize("sandbox", ["own", pytest.param("bwrap", marks=pytest.mark.bwrap)])
def test_a_command_has_more_inputs_than_fit_into_one_message(
    start_node: Starter, sandbox: str, tmp_path: Path
) -> None:
    """Each is mounted; a message has room for two hundred."""
    node = start_node(sandbox=sandbox, platforms=["process"])
    request = Request(shell(f"cat {ROOT}/in/* | sort -n | uniq | wc -l"))
    for number in range(450):
        file = tmp_path / str(number)
        file.write_text(f"{number}\n")
        request.data(f"{ROOT}/in/{number}", file.as_uri())
    for _ in range(2):
        assert node.stream(node.completed(request)).strip() == "450"


@pytest.mark.parametrize("sandbox", ["own", pytest.param("bwrap", marks=pytest.mark.bwrap)])
def test_the_machines_files_that_are_replaced_are_seen_as_they_are(
    start_node: Starter, sandbox: str, tmp_path: Path
) -> None:
    """As ``/etc/resolv.conf`` is whenever a laptop comes to another network."""
    shows, file = Path(f"/var/tmp/wb-shown-{os.getpid()}"), "settings"
    shows.mkdir()
    try:
        (shows / file).write_text("old\n")
        node = start_node(
            sandbox=sandbox, platforms=["process"], max_running=1, sandbox_shows=["system", str(shows / file)]
        )
        request = Request(shell(f"cat {shows / file}"))
        assert node.stream(node.completed(request)) == "old\n"
        (shows / "new").write_text("new\n")
        (shows / "new").rename(shows / file)
        until(lambda: node.stream(node.completed(request)) == "new\n")
    finally:
        shutil.rmtree(shows)


@pytest.mark.parametrize(
    "sandbox", ["own", *(pytest.param(s, marks=pytest.mark.bwrap) for s in ("bwrap", "auto"))]
)
def test_a_list_that_shows_too_little_is_named(start_node: Starter, sandbox: str, tmp_path: Path) -> None:
    node = start_node(sandbox=sandbox, platforms=["process"], sandbox_shows=[str(tmp_path)])
    (reason,) = node.refused(Request(shell("echo ran")))
    assert "the setting sandbox_shows" in reason["message"]
    assert str(tmp_path) in reason["message"]
    assert "/bin/sh" in reason["message"]


def test_where_there_is_none_the_node_says_why(
    start_node: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here in a user namespace in which no further ones may be made."""
    limited = tmp_path / "python"
    limited.write_text(
        '#!/bin/sh\nexec unshare -Ur sh -c \'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" "$@"\''
        f' {sys.executable} "$@"\n'
    )
    limited.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(limited))
    node = start_node(sandbox="own", platforms=["process"])
    # its users are others than ours, so that we are strangers to it
    node.http.headers["Authorization"] = f"Bearer {(node.state / 'token').read_text().strip()}"
    refused = node.refused(Request(shell("echo ran")))
    assert "no user namespace can be made" in str(refused)


def _runs(words: str) -> list[int]:
    """Processes whose command line has these words; those that are just ending get a moment."""
    needle = words.replace(" ", "\0").encode()
    found: list[int] = []
    for _ in range(20):
        found = [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if needle in _read(path)
        ]
        if not found:
            break
        time.sleep(0.02)
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
