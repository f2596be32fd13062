"""A node's keeper starts what its node asks for, and nothing for anybody else."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wes_bridge.node.platforms.keeping import Keeping

ASK = """
import json, os, socket, sys
place, secret, made = sys.argv[1:]
ask = {"start": made + ".command", "argv": ["touch", made], "env": {}, "program": "/bin/touch", "cwd": "/"}
if secret:
    ask["secret"] = secret
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(place)
    connection.settimeout(30)
    try:
        socket.send_fds(connection, [json.dumps({**ask, "cpus": None}).encode() + b"\\n"], [0, 1, 2])
        answer = connection.recv(100)
        answer += connection.recv(100) if answer else b""
        print(answer.decode())
    except ConnectionError:
        print()
"""
"""As a step would: asks the keeper to make a file, and tells its answer."""


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    made.open()
    yield made
    made.close()


def ask(state: Path, secret: str, *around: str) -> tuple[str, bool]:
    """What the keeper answers, and whether it did what was asked."""
    made = state / "made"
    command = [*around, sys.executable, "-I", "-S", "-c", ASK, str(state / "keeper"), secret, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), made.exists()


def test_who_knows_the_secret_is_served(keeping: Keeping, tmp_path: Path) -> None:
    """The others below are refused for what they are, not because the question is no good."""
    answer, made = ask(tmp_path, (tmp_path / "keeper.key").read_text())
    assert (answer.split()[0], answer.split()[-2:], made) == ("running", ["ended", "0"], True)


@pytest.mark.parametrize("secret", ["", "0" * 64, "é"])
def test_who_does_not_is_not(keeping: Keeping, tmp_path: Path, secret: str) -> None:
    assert ask(tmp_path, secret) == ("", False)
    assert "does not have the node's secret" in (tmp_path / "keeper.log").read_text()


@pytest.mark.parametrize("kind", ["--pid", "--user"])
def test_a_process_of_another_sandbox_is_not_though_it_knows_the_secret(
    keeping: Keeping, tmp_path: Path, kind: str
) -> None:
    around = ["unshare", "--fork", kind, *(["--map-root-user"] if os.geteuid() or kind == "--user" else [])]
    if subprocess.run([*around, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make namespaces here")
    assert ask(tmp_path, (tmp_path / "keeper.key").read_text(), *around) == ("", False)
    assert "is not the node's" in (tmp_path / "keeper.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another user")
def test_another_user_is_not_though_they_know_the_secret() -> None:
    """Here with the folder and the socket as open as a mistake could make them."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no Python that another user may run")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        state = Path(name)
        keeping = Keeping(state)
        keeping.open()
        state.chmod(0o777)
        (state / "keeper").chmod(0o777)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-I", "-S"]
        command += ["-c", ASK, str(state / "keeper"), (state / "keeper.key").read_text(), str(state / "made")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        keeping.close()
        assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
        assert not (state / "made").exists()
        assert "of user 65534 is not the node's" in (state / "keeper.log").read_text()


def test_a_stranger_who_is_slow_holds_up_nobody(keeping: Keeping, tmp_path: Path) -> None:
    """A question that has not come whole is waited for only when a node's process sends it."""
    around = ["unshare", "--fork", "--pid", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*around, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make namespaces here")
    hold = (
        "import contextlib, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "with contextlib.suppress(OSError): s.send(b'{')\n"  # it may have been turned away already
        "print('asked', flush=True); sys.stdin.read()\n"
    )
    command = [*around, sys.executable, "-I", "-S", "-c", hold, str(tmp_path / "keeper")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "asked\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "keeper"))
            connection.settimeout(3)  # less than the keeper's patience
            question = {"secret": (tmp_path / "keeper.key").read_text(), "hold": True}
            connection.sendall(json.dumps(question).encode() + b"\n")
            assert connection.recv(64) == b"held\n"
        stranger.communicate("")


def test_the_secret_is_the_users_alone_and_on_no_command_line(keeping: Keeping, tmp_path: Path) -> None:
    key = tmp_path / "keeper.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text()) >= 32
    for name in ("cmdline", "environ"):
        assert key.read_bytes() not in Path(f"/proc/{keeping.pid}/{name}").read_bytes()


def test_a_secret_that_others_could_read_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "keeper.key").write_text("a" * 64)
    (tmp_path / "keeper.key").chmod(0o644)
    keeping = Keeping(tmp_path)
    keeping.open()
    keeping.close()
    assert stat.S_IMODE((tmp_path / "keeper.key").stat().st_mode) == 0o600
