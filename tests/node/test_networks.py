"""The network of steps: what is beyond the machine is reached, its loopback interface is not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.node.conftest import NodeProcess, Request, Starter, process, session_kinds, shell, texts
from tests.waiting import until
from wes_bridge.node.errors import NotBegunError
from wes_bridge.node.platforms import link_local
from wes_bridge.node.platforms.isolating import Networks, resolver
from wes_bridge.node.platforms.keeping import Command, Keeping

pytestmark = pytest.mark.bwrap

ASK = """
import socket, sys
for place in sys.argv[1:]:
    host, _, port = place.rpartition("@")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as connection:
            connection.settimeout(3)
            connection.connect((host, int(port)))
            print(host, connection.recv(9).decode())
    except OSError as error:
        print(host, "no")
"""


_namespaces: list[str] = []
"""Of machines beyond this one; the last is the present one's. A name is not used again: the system may still
be taking away what had it."""


@dataclass
class Canary:
    """A server that notes who comes."""

    socket: socket.socket
    visits: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.socket.accept()
                self.visits.append(peer)
                connection.sendall(b"canary")
                connection.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Canary(server)


@pytest.fixture
def outside() -> Iterator[tuple[str, int]]:
    """A server that is beyond the machine: in a network namespace, behind a pair of interfaces."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("only root can make a machine beyond this one")
    _namespaces.append(f"wbt{os.getpid() % 100000}x{len(_namespaces)}")
    name, ours, theirs = _namespaces[-1], "198.51.100.1", "198.51.100.2"
    made = [
        f"ip netns add {name}",
        f"ip link add {name} type veth peer name eth0 netns {name}",
        f"ip addr add {ours}/30 dev {name}",
        f"ip link set {name} up",
        f"ip -n {name} addr add {theirs}/30 dev eth0",
        f"ip -n {name} link set eth0 up",
    ]
    try:
        for words in made:
            done = subprocess.run(words.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no machine beyond this one can be made: {done.stderr}")
        serve = (
            'import socket; s = socket.create_server(("198.51.100.2", 0))\n'
            "print(s.getsockname()[1], flush=True)\n"
            'while True: c, _ = s.accept(); c.sendall(b"outside"); c.close()'
        )
        command = ["ip", "netns", "exec", name, "/usr/bin/env", "python3", "-c", serve]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            yield theirs, int(server.stdout.readline())
            server.kill()
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)


def isolates(node: NodeProcess) -> None:
    """Skip where no network can be made."""
    offers = node.ask(Request(shell("true")))
    if offers["result"] == "NO":
        pytest.skip(str(offers["meta"]["messages"]))


def asked(node: NodeProcess, *places: str) -> dict[str, str]:
    session = node.completed(Request(process("python3", "-I", "-c", ASK, *places)))
    return dict(line.split(" ", 1) for line in node.stream(session).splitlines())


@pytest.fixture(scope="module", params=["bwrap", "own"])
def node(request: pytest.FixtureRequest, start_node: Starter) -> NodeProcess:
    node = start_node(sandbox=request.param, step_network="isolated", cores=4)
    isolates(node)
    return node


def test_the_machines_loopback_is_out_of_reach_and_what_is_beyond_is_not(
    node: NodeProcess, canary: Canary, outside: tuple[str, int]
) -> None:
    host, port = outside
    loopback = (
        "127.0.0.1",
        "127.0.0.2",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "10.0.2.2",
    )  # the last: slirp's
    told = asked(node, f"{host}@{port}", *(f"{name}@{canary.port}" for name in loopback))
    assert told == {host: "outside"} | dict.fromkeys(loopback, "no")
    assert canary.visits == []


def test_the_nodes_own_port_is_out_of_reach(node: NodeProcess) -> None:
    assert asked(node, f"127.0.0.1@{node.url.rpartition(':')[2]}") == {"127.0.0.1": "no"}


def test_the_gateway_is_not_the_machines_loopback(node: NodeProcess, canary: Canary) -> None:
    """As it is for pasta and slirp4netns where nobody says otherwise."""
    script = (
        "import socket, struct\n"
        "for line in open('/proc/net/route').read().splitlines()[1:]:\n"
        "    words = line.split()\n"
        "    if words[1] == '00000000':\n"
        "        host = socket.inet_ntoa(struct.pack('<I', int(words[2], 16)))\n"
        "        try:\n"
        f"            socket.create_connection((host, {canary.port}), 2); print('in')\n"
        "        except OSError: print('no')\n"
    )
    session = node.completed(Request(process("python3", "-I", "-c", script)))
    assert set(node.stream(session).split()) <= {"no"}
    assert canary.visits == []


def test_abstract_sockets_of_the_machine_are_out_of_reach(node: NodeProcess) -> None:
    name = f"wb-canary-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        text = (
            "import socket\n"
            f"try: socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('in')\n"
            "except OSError: print('no')\n"
        )
        session = node.completed(Request(process("python3", "-I", "-c", text)))
        assert node.stream(session) == "no\n"


def test_its_own_loopback_works(node: NodeProcess) -> None:
    text = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname(), 2)\n"
        "print('own')"
    )
    assert node.stream(node.completed(Request(process("python3", "-I", "-c", text)))) == "own\n"


def test_who_says_so_has_the_machines(start_node: Starter, canary: Canary) -> None:
    node = start_node(sandbox="bwrap", step_network="machine")
    assert asked(node, f"127.0.0.1@{canary.port}") == {"127.0.0.1": "canary"}
    assert len(canary.visits) == 1


def test_streams_exit_codes_and_errors_are_as_without(node: NodeProcess) -> None:
    session = node.run(Request(shell("echo out; echo err >&2; exit 7")))
    assert session["executable"]["exitCode"] == 7
    assert (node.stream(session), node.stream(session, "stderr")) == ("out\n", "err\n")
    session = node.run(Request(process("does-not-exist-anywhere")))
    assert session["executable"]["exitCode"] == 127


def test_networks_of_others_keep_their_places(outside: tuple[str, int], start_node: Starter) -> None:
    """Those of containers, too: they are mounts, which a program that hides the machine's files took away."""
    place = f"/run/netns/{_namespaces[-1]} "
    assert place in Path("/proc/self/mountinfo").read_text()
    started = start_node(platforms=["process"])
    isolates(started)
    started.completed(Request(shell("true")))
    assert place in Path("/proc/self/mountinfo").read_text()


def test_a_network_lasts_from_step_to_step_and_dies_with_the_keeper(start_node: Starter) -> None:
    node = start_node(sandbox="bwrap", step_network="isolated")
    isolates(node)
    names = {node.stream(node.completed(Request(shell("readlink /proc/self/ns/net")))) for _ in range(3)}
    assert len(names) == 1
    (keeper,) = [one for one in psutil.process_iter(["cmdline"]) if _is_keeper_of(one, node.state)]
    below = keeper.children(recursive=True)
    assert any(one.name() in ("pasta", "pasta.avx2", "passt.avx2", "slirp4netns") for one in below)
    keeper.kill()
    until(lambda: not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])


def test_one_that_was_killed_is_made_anew(start_node: Starter) -> None:
    node = start_node(sandbox="bwrap", step_network="isolated")
    isolates(node)
    (keeper,) = [one for one in psutil.process_iter(["cmdline"]) if _is_keeper_of(one, node.state)]
    for one in keeper.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # the one ends with the other
            if "networks.py" in " ".join(one.cmdline()):
                one.kill()
    node.completed(Request(shell("true")))


def test_where_it_cannot_be_had_it_is_said_or_refused(
    start_node: Starter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canary: Canary
) -> None:
    """Here since the programs for it do not work."""
    for name in ("pasta", "slirp4netns"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} is out of order >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    node = start_node(sandbox="bwrap", step_network="isolated")
    (reason,) = node.refused(Request(shell("true")))
    assert "pasta is out of order" in reason["message"]
    assert "slirp4netns is out of order" in reason["message"]
    node.completed(Request(shell("true", network={"access": False})))
    node = start_node(sandbox="bwrap")
    session = node.completed(Request(shell("true")))
    assert "reach this machine's loopback interface" in texts(session)
    assert "urn:wes-bridge:unenforced" in session_kinds(session)
    until(lambda: "loopback" in node.http.get(f"{node.url}/status").json().get("unenforced", {}))
    session = node.completed(Request(shell("true", network={"access": False})))
    assert "urn:wes-bridge:unenforced" not in session_kinds(session)


def test_a_name_server_on_the_loopback_interface_is_asked_in_another_way() -> None:
    stub = "# made by a resolver\nnameserver 127.0.0.53\noptions edns0\nsearch example.org\n"
    expected = "# made by a resolver\noptions edns0\nsearch example.org\nnameserver 10.0.2.3\n"
    assert resolver(stub, "10.0.2.3") == expected
    assert resolver("nameserver ::1\nnameserver 192.0.2.1\n", "10.0.2.3") == "nameserver 10.0.2.3\n"
    clouds = "nameserver 169.254.169.254\n", "nameserver fe80::1%eth0\n", "nameserver fd00:ec2::254\n"
    assert [resolver(text, "10.0.2.3") for text in clouds] == ["nameserver 10.0.2.3\n"] * 3
    assert resolver("", "10.0.2.3") == "nameserver 10.0.2.3\n"
    assert resolver("search x\nnameserver 192.0.2.1\n", "10.0.2.3") is None


def _is_keeper_of(one: psutil.Process, state: Path) -> bool:
    words = one.info["cmdline"] or []
    return str(state) in words and any(word.endswith("keeper.py") for word in words)


def test_a_machine_that_is_full_for_a_moment_opens_nothing(tmp_path: Path) -> None:
    """No step gets the machine's network since none of its own could be tried just then. The keeper is a
    stand-in: root has no limit of processes."""

    class Full(Keeping):
        def start(self, *_words: object, **_more: object) -> Command:
            raise OSError(errno.EAGAIN, "no more processes can be made here")

    made = Networks(Full(tmp_path), tmp_path, "auto")
    with pytest.raises(NotBegunError, match="no more processes"):
        made.of("")
    assert "no more processes" in str(asyncio.run(made.settled()))


@pytest.fixture
def metadata(outside: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """A cloud's service for credentials, at its well-known address, as far as this machine is concerned."""
    host, _ = outside
    address = "169.254.169.254"
    words = ["ip", "route", "add", f"{address}/32", "via", host]
    name = _namespaces[-1]
    given = ["ip", "-n", name, "addr", "add", f"{address}/32", "dev", "eth0"]
    for command in (words, given):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no such address can be had here: {done.stderr}")
    serve = (
        f'import socket; s = socket.create_server(("{address}", 0))\n'
        "print(s.getsockname()[1], flush=True)\n"
        'while True: c, _ = s.accept(); c.sendall(b"secret"); c.close()'
    )
    inside = ["ip", "netns", "exec", name, "/usr/bin/env", "python3", "-c", serve]
    try:
        with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            yield address, int(server.stdout.readline())
            server.kill()
    finally:
        subprocess.run(["ip", "route", "del", f"{address}/32"], capture_output=True, check=False)


UNDO = """
import socket, struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
    for family, length, address in ((2, 16, "169.254.0.0"), (10, 10, "fe80::")):
        place = socket.inet_pton(family, address)
        rule = struct.pack("8BI", family, length, 0, 0, 0, 0, 0, 7, 0)
        rule += struct.pack("HH", 4 + len(place), 1) + place + struct.pack("HHI", 8, 6, 1)
        kernel.sendall(struct.pack("IHHII", 16 + len(rule), 33, 5, 1, 0) + rule)
        print("undo", -struct.unpack_from("i", kernel.recv(4096), 16)[0])
"""


def test_the_credentials_of_the_cloud_are_out_of_reach(
    node: NodeProcess, metadata: tuple[str, int], outside: tuple[str, int]
) -> None:
    host, port = metadata
    with socket.create_connection(metadata, 5) as connection:  # the machine has them
        assert connection.recv(9) == b"secret"
    mapped = f"::ffff:{host}"
    told = asked(node, f"{host}@{port}", f"{mapped}@{port}", f"{outside[0]}@{outside[1]}")
    assert told == {host: "no", mapped: "no", outside[0]: "outside"}


def test_a_step_cannot_open_what_is_closed(node: NodeProcess, metadata: tuple[str, int]) -> None:
    host, port = metadata
    session = node.completed(Request(process("python3", "-I", "-c", UNDO + ASK, f"{host}@{port}")))
    *undone, told = node.stream(session).splitlines()
    assert undone == [f"undo {errno.EPERM}"] * 2
    assert told == f"{host} no"


def test_link_local_addresses_of_both_families_are_closed(node: NodeProcess) -> None:
    if not shutil.which("ip"):
        pytest.skip("ip is not installed")
    path = f"PATH=$PATH:{Path(str(shutil.which('ip'))).parent}"
    told = node.stream(node.completed(Request(shell(f"{path}; ip rule; ip -6 rule"))))
    for place in link_local.CLOSED:
        assert f"from all to {place.removesuffix('/128')} unreachable" in told
