"""On a laptop nobody types a token, and no other user of the machine gets in."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.auth.conftest import API, STRANGER, ask_as, raw, urls_of
from tests.service.conftest import Service
from wes_bridge.auth import peers
from wes_bridge.auth.peers import Connection
from wes_bridge.cli.credentials import credentials

SERVED = ("/", "/docs", "/metrics", f"{API}/ui/", f"{API}/openapi.json", f"{API}/service-info", f"{API}/runs")
BROKERS = (
    "/",
    "/bookings",
    "/status",
    "/sessions/x",
    "/streams/x/stdout",
    "/openapi.json",
    "/ui/",
    "/links/x",
)


def test_the_same_user_needs_no_token(service: Service) -> None:
    for path in SERVED:
        assert httpx.get(service.url + path, follow_redirects=True).status_code == 200, path
    for url in urls_of(service).values():
        assert httpx.get(url + "/health").status_code == 200


def test_credentials_that_clients_always_send_do_not_matter(service: Service) -> None:
    for value in ("Bearer made-up", "Basic dXNlcjpwYXNz", "Nonsense", ""):
        answer = httpx.get(f"{service.url}{API}/runs", headers={"Authorization": value})
        assert answer.status_code == 200, value


def test_another_user_is_a_stranger_everywhere(service: Service, as_stranger: list[str]) -> None:
    urls = urls_of(service)
    here = urls.pop("service")
    places = [f"{here}{path}" for path in SERVED]
    places += [f"{url}{path}" for url in urls.values() for path in BROKERS]
    answers = ask_as(as_stranger, *(("GET", place, {}, None) for place in places))
    for place, (status, text) in zip(places, answers, strict=True):
        assert status == 401, (place, status, text)
        assert "token" in json.loads(text)["msg"]


def test_another_user_changes_nothing(service: Service, as_stranger: list[str], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("as it was")
    tmp_path.chmod(0o777)
    body = {"executable": {"kind": "x", "command": ["sh", "-c", f"echo changed > {canary}"]}, "data": []}
    kinds = {"Content-Type": "application/json"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    submission = "workflow_type=CWL&workflow_type_version=v1.2&workflow_url=data:,x&workflow_params={}"
    before = httpx.get(f"{service.url}{API}/runs").json()
    node = urls_of(service)["here"]
    answers = ask_as(
        as_stranger,
        ("POST", f"{service.url}{API}/runs", form, submission),
        ("POST", f"{node}/direct", kinds, json.dumps(body)),
        ("POST", f"{node}/requests", kinds, json.dumps(body)),
        ("POST", f"{node}/admin/drain", kinds, "{}"),
    )
    assert [status for status, _ in answers] == [401] * 4
    assert canary.read_text() == "as it was"
    assert httpx.get(f"{service.url}{API}/runs").json() == before
    assert httpx.get(f"{node}/status").json()["state"] == "open"


def test_a_stranger_learns_only_whether_it_is_well(service: Service, as_stranger: list[str]) -> None:
    for url in urls_of(service).values():
        [(status, text)] = ask_as(as_stranger, ("GET", f"{url}/health", {}, None))
        assert (status, json.loads(text)) == (200, {"status": "ok"})


def test_the_token_in_the_state_folder_opens_to_others(service: Service, as_stranger: list[str]) -> None:
    file = service.state / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert len(token) >= 32
    runs = f"{service.url}{API}/runs"
    password = base64.b64encode(f"anybody:{token}".encode()).decode()
    for header in (f"Bearer {token}", f"bearer  {token}", f"Basic {password}"):
        [(status, _)] = ask_as(as_stranger, ("GET", runs, {"Authorization": header}, None))
        assert status == 200, header
    wrong = base64.b64encode(b"anybody:anything").decode()
    for header in (f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {wrong}", "Basic !", "Bearer", token):
        [(status, _)] = ask_as(as_stranger, ("GET", runs, {"Authorization": header}, None))
        assert status == 401, header


def test_commands_find_the_token_of_another_users_service(
    service: Service, as_stranger: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's commands, here, for a service whose folder belongs to somebody else."""
    token = service.state / "token"
    monkeypatch.setenv("WES_BRIDGE_STATE_DIR", str(service.state))
    assert credentials(service.url) == {}  # it is ours: none is needed
    os.chown(token, STRANGER, STRANGER)
    try:
        assert credentials(service.url) == {"token": token.read_text().strip()}
        for elsewhere in ("http://127.0.0.1:1", "http://wes.example.org", service.url + "0", "nonsense"):
            assert credentials(elsewhere) == {}, elsewhere
        monkeypatch.setattr("wes_bridge.cli.credentials._is_locked", lambda _file: False)
        assert credentials(service.url) == {}  # it has died: anybody may be at its port
    finally:
        os.chown(token, os.getuid(), os.getgid())
    monkeypatch.setenv("WES_BRIDGE_TOKEN_FILE", str(token))
    assert credentials("http://wes.example.org") == {"token": token.read_text().strip()}


def test_each_server_has_a_token_of_its_own_and_nodes_know_their_service(service: Service) -> None:
    folders = [service.state, service.state / "nodes/here", service.state / "aggregator"]
    tokens = {(folder / "token").read_text() for folder in folders}
    assert len(tokens) == 3
    key = service.state / "service-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text() not in tokens


def test_what_a_proxy_passes_on_is_not_our_users(service: Service) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"):
        status, text = raw(service.url, f"Host: {service.url[7:]}", f"{name}: 192.0.2.1", path=f"{API}/runs")
        assert status == 401, (name, text)


def test_a_program_in_a_sandbox_is_a_stranger(service: Service, need_bwrap: None) -> None:
    words = [
        "bwrap",
        "--bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--unshare-user",
        "--unshare-pid",
        "--proc",
        "/proc",
    ]
    hide = "import ctypes; ctypes.CDLL(None).prctl(4, 0)\n"  # PR_SET_DUMPABLE: nobody can see what it holds
    node = urls_of(service)["here"]
    [(status, _)] = ask_as(words, ("GET", f"{node}/bookings", {}, None))
    assert status == 401
    code = f"{hide}import socket; c = socket.create_connection(('127.0.0.1', {node.rpartition(':')[2]}))\n"
    code += "c.sendall(b'GET /bookings HTTP/1.0\\r\\n\\r\\n'); print(c.recv(100))"
    command = [*words, sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert "401" in done.stdout, done.stderr
    assert httpx.get(f"{node}/bookings").status_code == 200


def test_who_is_outside_of_our_container_is_a_stranger(need_bwrap: None) -> None:
    """A server in a container with the machine's network does not see who else is root out there."""
    code = """
import asyncio, socket
from wes_bridge.auth.peers import Connection
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
for outside in (True, False):
    own = None if outside else socket.create_connection(server.getsockname())
    accepted, remote = server.accept()
    print(asyncio.run(Connection(accepted.getsockname(), remote).of_own_user()), flush=True)
"""
    words = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--proc", "/proc"]
    command = [*words, sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        with socket.create_connection(("127.0.0.1", int(server.stdout.readline()))):
            assert server.stdout.readline() == "False\n"
        assert server.stdout.readline() == "True\n"


@pytest.fixture
def need_bwrap() -> None:
    if subprocess.run(["bwrap", "--bind", "/", "/", "--unshare-user", "true"], check=False).returncode:
        pytest.skip("bubblewrap does not work here")


# ---- the kernel's word -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.8.9.10"])
@pytest.mark.parametrize("ask", [peers._ask, peers._look])
def test_the_kernel_tells_whose_a_connection_is(address: str, ask: object) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
        near, far = client.getsockname()[:2], server.getsockname()[:2]
        assert ask(near, far) == (os.getuid(), os.fstat(client.fileno()).st_ino)  # type: ignore[operator]
        assert ask(far, near) == (os.getuid(), os.fstat(accepted.fileno()).st_ino)  # type: ignore[operator]
        assert ask((near[0], 1), far) is None  # type: ignore[operator]
        client.close()
        assert peers.owner(near, far) is None  # the kernel says root's
        accepted.close()


def test_an_ipv4_client_of_an_ipv6_server_is_found() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, remote = server.accept()
            with accepted:
                local = accepted.getsockname()[:2]
                inode = os.fstat(client.fileno()).st_ino
                for ask in (peers._ask, peers._look):
                    assert ask(remote[:2], local) == (os.getuid(), inode)
                assert Connection(local, remote[:2]).is_loopback


def test_a_client_that_has_gone_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        connection = Connection(accepted.getsockname(), client.getsockname())
        client.close()
        assert not asyncio.run(connection.of_own_user())
        accepted.close()


def test_other_addresses_are_not_looked_at() -> None:
    assert not Connection(("192.0.2.1", 80), ("192.0.2.1", 4000)).is_loopback
    assert not Connection(("127.0.0.1", 80), ("192.0.2.1", 4000)).is_loopback


def test_a_request_and_gone_is_nobodys(service: Service, as_stranger: list[str]) -> None:
    """The kernel says that a socket without a program is root's; the request may be read after that."""
    port = int(urls_of(service)["here"].rpartition(":")[2])
    code = f"""
import socket
for _ in range(100):
    c = socket.create_connection(('127.0.0.1', {port}))
    c.sendall(b'POST /admin/drain HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n')
    c.close()
"""
    subprocess.run([*as_stranger, "/usr/bin/python3", "-c", code], check=True, timeout=60, cwd="/")
    assert httpx.get(f"http://127.0.0.1:{port}/status").json()["state"] == "open"
