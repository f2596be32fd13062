"""Where break-outs are tried: a node, and around it all that is worth reaching."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.node.conftest import REPOSITORY, NodeProcess

NOBODY = 65534
SECRET = "wb-canary-of-what-no-step-may-see"
"""In each file that no step may read, and in the node's environment."""


class OtherUsersNode(NodeProcess):
    """A node of an ordinary user, started by root with a Python that this user can run.

    Args:
        state: its folder.
        config: its configuration.
    """

    def start(self) -> Self:
        """As any node; where the machine does not let ordinary users make such networks, it is let."""
        home = Path(sysconfig.get_config_var("prefix"))
        here = self.state.parent / "python"
        here.mkdir(exist_ok=True)
        tun = self.state.parent / "tun"
        script = (
            f"mount --make-rprivate /; mount --bind {home} {here};"
            f" mknod {tun} c 10 200 && chmod 666 {tun} && mount --bind {tun} /dev/net/tun;"
            f" exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
            f' {here}/bin/python{sys.version_info[0]}.{sys.version_info[1]} "$@"'
        )
        arguments = ["-m", "wes_bridge.node.main", "--state-dir", str(self.state)]
        arguments += ["--config-json", json.dumps(self.config), "--end-sessions-on-exit"]
        paths = [str(REPOSITORY), *(path for path in sys.path if "site-packages" in path)]
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", *arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": ":".join(paths),
                "LD_LIBRARY_PATH": str(here / "lib"),
                "HOME": str(self.state.parent),
                **SEEN,
            },
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.search(r"is ready at (http\S+)", line)
        assert match, f"no ready line: {line!r}"
        self.url = match[1]
        return self


SEEN = {"WB_CANARY": SECRET}


@dataclass
class Ground:
    """A node, and what is around it.

    Attributes:
        node: the node.
        user: whose it is.
        folder: a folder of that user's.
        home: as if it were the user's home.
        touched: what somebody wrote to, or said to, that should not have been.
    """

    node: NodeProcess
    user: int
    folder: Path
    home: Path
    wakeup: Path
    abstract: str
    loopback: int
    touched: list[str] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """The node and its keeper."""
        assert self.node.process is not None
        found = [self.node.process.pid]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                text = path.read_bytes()
                if str(self.node.state).encode() in text and b"python" in text:
                    found.append(int(path.parent.name))
        return sorted(set(found))

    def facts(self) -> dict[str, Any]:
        """What an attacker could know."""
        return {
            "secret": SECRET,
            "home": str(self.home),
            "state": str(self.node.state),
            "other_state": str(self.folder / "other"),
            "sessions": str(self.node.state / "sessions"),
            "wakeup": str(self.wakeup),
            "abstract": self.abstract,
            "loopback": self.loopback,
            "port": int(self.node.url.rpartition(":")[2]),
            "pids": self.pids,
        }


@contextlib.contextmanager
def ground(user: int, config: dict[str, Any]) -> Iterator[Ground]:
    """Make one.

    Args:
        user: 0, an ordinary user's number, or who we are.
        config: of the node.
    """
    name = tempfile.mkdtemp(prefix="wb-ground-", dir="/var/tmp")
    folder = Path(name)
    folder.chmod(0o755)
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    other = folder / "other"
    other.mkdir(mode=0o700)
    for path in (
        home / ".ssh" / "id_canary",
        other / "worker.json",
        other / "wes-bridge.db",
        other / "node.db",
    ):
        path.write_text(SECRET)
        path.chmod(0o600)
    state = folder / "state"
    state.mkdir(mode=0o700)
    wakeup = folder / "wakeup"
    wakeup.mkdir(mode=0o700)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        calls = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        calls.bind(str(wakeup / "worker.sock"))
        abstract = f"wb-canary-{os.getpid()}-{user}-{config.get('sandbox', '')}"
        hidden = stack.enter_context(socket.socket(socket.AF_UNIX))
        hidden.bind(f"\0{abstract}")
        hidden.listen()
        canary = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        if user != os.geteuid():
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, user, user)
        settings = {"name": "ground", "cores": 4, "memory_gib": 4, **config}
        kind = NodeProcess if user == os.geteuid() else OtherUsersNode
        node = kind(state, settings, ("--end-sessions-on-exit",))
        os.environ.update(SEEN)
        try:
            stack.callback(node.stop)
            node.start()
            if (state / "token").exists():  # where a node asks who calls
                node.http.headers["Authorization"] = f"Bearer {(state / 'token').read_text().strip()}"
        finally:
            for variable in SEEN:
                os.environ.pop(variable)
        place = Ground(node, user, folder, home, wakeup / "worker.sock", abstract, canary.getsockname()[1])
        for what, listener in (("abstract socket", hidden), ("loopback server", canary)):
            threading.Thread(target=_watch, args=(place, what, listener), daemon=True).start()
        threading.Thread(target=_listen, args=(place, calls), daemon=True).start()
        yield place


def _watch(place: Ground, what: str, listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()
            place.touched.append(what)


def _listen(place: Ground, calls: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            calls.recv(100)
            place.touched.append("wake-up socket")


def users() -> list[Any]:
    """Whose nodes are tried: root's and an ordinary user's where we are root, else only ours."""
    if os.geteuid() != 0:
        return [pytest.param(os.geteuid(), id=pwd.getpwuid(os.geteuid()).pw_name)]
    return [pytest.param(0, id="root"), pytest.param(NOBODY, id="nobody")]


def may_run(user: int) -> str | None:
    """Why a node of another user cannot be started here."""
    if user == os.geteuid():
        return None
    if not shutil.which("setpriv"):
        return "setpriv is not installed"
    paths = [REPOSITORY, *(path for path in sys.path if "site-packages" in path)]
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "test", "-r"]
    for path in paths:
        if subprocess.run([*words, str(path)], check=False).returncode != 0:
            return f"{path} is closed to ordinary users"
    return None
