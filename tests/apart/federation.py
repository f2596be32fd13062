"""A service, two nodes and an object store, at sites that share nothing (see ``separation.py``).

All of it is as an administrator sets it up who reads the documentation: certificates of an authority of their
own, a key for each node, a token for the user. Nothing but the standard library is needed here.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.apart.separation import Authority, Separation, Site, started

PORT = 8080
STORE_PORT = 7070
BUCKETS = ("sky", "results")
KEY = "wb-sites"
NODES = ("one", "two")
_READY = re.compile(r"is ready at (http\S+)")
_READY_SECONDS = 120.0


class Server:
    """A server at a site, started again as often as it is wanted.

    Args:
        site: where.
        command: to start it.
        log: what it says.
        env: of its processes.
        show: folders with programs of its own.
    """

    def __init__(
        self,
        site: Site,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        show: Sequence[Path] = (),
    ) -> None:
        self.site = site
        self.log = log
        self._command = list(command)
        self._env = env
        self._show = show
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it; returns when it says that it is ready."""
        ready = threading.Event()
        process = started(self.site, self._command, self.log, self._env, self._show)
        self.process = process

        def follow() -> None:
            assert process.stdout is not None
            with process.stdout as lines, self.log.open("a") as log:
                for line in lines:
                    log.write(line)
                    log.flush()
                    if found := _READY.search(line):
                        self.url = found[1]
                        ready.set()
            ready.set()

        threading.Thread(target=follow, daemon=True).start()
        ready.wait(_READY_SECONDS)
        if not self.url:
            raise OSError(f"{self.site.name} was not ready: {self.log.read_text()[-4000:]}")

    def die(self, *, everything: bool = True) -> None:
        """End it at once, with everything of its site or alone."""
        if self.process is not None:
            if everything:
                self.site.kill()
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """End it as an administrator does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.die()


class Federation:
    """A service, two nodes, a store and the place of a client.

    Args:
        folder: for all of it; root's own.
        node: further settings of both nodes.
        service: further settings of the service.
        store: whether there is an object store, to which outputs of runs go.
        python: of all of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        node: Mapping[str, Any] | None = None,
        service: Mapping[str, Any] | None = None,
        store: bool = True,
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        self._python = python
        self.separation = Separation(folder, python)
        self.authority = Authority(folder / "authority")
        self.client = self.separation.site("client")
        self.nodes: dict[str, Server] = {}
        self._keys = {name: secrets.token_hex(32) for name in NODES}
        self._secret = secrets.token_hex(16)
        self.store = self._store() if store else None
        for name in NODES:
            self.nodes[name] = self._node(name, node or {})
        self.service = self._service(service or {})

    def start(self) -> None:
        """Start everything."""
        for server in self.nodes.values():
            server.start()
        self.service.start()

    def close(self) -> None:
        """End everything."""
        for server in (self.service, *self.nodes.values()):
            server.stop()
        self.separation.close()

    @property
    def url(self) -> str:
        """Of the service."""
        return self.service.url

    @property
    def token(self) -> str:
        """Lets a client in."""
        return (self.service.site.folder / "state" / "token").read_text().strip()

    @property
    def client_environment(self) -> dict[str, str]:
        """Of a client's process, in the client's network."""
        return {"WES_BRIDGE_TOKEN": self.token, "REQUESTS_CA_BUNDLE": str(self.authority.certificate)}

    def node_key(self, name: str) -> str:
        """With which a node can be asked as the service asks it."""
        return self._keys[name]

    @property
    def store_url(self) -> str:
        """Of the object store."""
        return f"http://{self.separation.sites['store'].address}:{STORE_PORT}"

    def objects(self, bucket: str) -> Path:
        """The files of a bucket, as root sees them."""
        return self.separation.sites["store"].folder / "objects" / bucket

    def _wes(self, *words: str) -> list[str]:
        return [self._python, "-m", "wes_bridge.cli.main", *words]

    def _store(self) -> Server:
        site = self.separation.site("store")
        for name in ("objects", *(f"objects/{bucket}" for bucket in BUCKETS)):
            (site.folder / name).mkdir()
            site.own(site.folder / name)
        program = shutil.which("versitygw")
        if program is None:
            raise OSError("no versitygw here (.ci/run installs it where there is Go)")
        at = f"{site.address}:{STORE_PORT}"
        words = [program, "--quiet", "--port", at, "posix", str(site.place / "objects")]
        env = site.environment(ROOT_ACCESS_KEY=KEY, ROOT_SECRET_KEY=self._secret)
        server = Server(site, words, self.folder / "store.log", env, [Path(program).parent])
        server.process = started(site, words, server.log, env, [Path(program).parent])
        with self.client.inside():
            _await_port(site.address, STORE_PORT)
        return server

    def _s3_keys(self, site: Site) -> str:
        text = f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {self._secret}\n"
        return str(site.write("s3-keys", text))

    def _node(self, name: str, more: Mapping[str, Any]) -> Server:
        site = self.separation.site(name)
        tls = self.authority.certify(site)
        settings: dict[str, Any] = {
            "name": name,
            "host": site.address,
            "port": PORT,
            "public_url": f"https://{site.address}:{PORT}",
            "tls": tls,
            "authentication": {
                "services": [{"name": "wes", "file": str(site.write("wes.key", self._keys[name]))}]
            },
            "data": ["https://", "data:"],
            "fetch": {"private_hosts": ["10.77.0.0/24"], "ca_file": str(site.place / "ca.pem")},
            "platforms": ["process"],
            "cores": 8,
            **more,
        }
        if self.store is not None:
            keys = {"file": self._s3_keys(site)}
            settings["s3"] = [{"endpoint": self.store_url, "read": ["sky"], "credentials": keys}]
        words = ["--config", str(site.write("node.yaml", json.dumps(settings)))]
        command = self._wes("node", *words, "--state", str(site.place / "state"))
        return Server(site, command, self.folder / f"{name}.log", self._environment(site))

    def _service(self, more: Mapping[str, Any]) -> Server:
        site = self.separation.site("service")
        users = site.write("users.txt", "")  # nobody has a password: the token lets in
        url = f"https://{site.address}:{PORT}"
        brokers = [
            {
                "name": name,
                "url": f"https://{server.site.address}:{PORT}/",
                "shares_files": False,
                "credentials": {"file": str(site.write(f"{name}.key", self._keys[name]))},
            }
            for name, server in self.nodes.items()
        ]
        settings: dict[str, Any] = {
            "host": site.address,
            "port": PORT,
            "public_url": url,
            "tls": self.authority.certify(site),
            "authentication": {"basic": {"file": str(users)}},
            "nodes": [],
            "brokers": brokers,
            "fetch": {"ca_file": str(site.place / "ca.pem")},
            **more,
        }
        if self.store is not None:
            keys = {"file": self._s3_keys(site)}
            store = {"kind": "s3", "endpoint": self.store_url, "bucket": "results", "credentials": keys}
            settings.setdefault("outputs_store", store)
        config = site.write("service.yaml", json.dumps(settings))
        command = self._wes("serve", "--config", str(config), "--state", str(site.place / "state"), "--quiet")
        return Server(site, command, self.folder / "service.log", self._environment(site))

    def _environment(self, site: Site) -> dict[str, str]:
        return site.environment(SSL_CERT_FILE=str(site.place / "ca.pem"))


@contextmanager
def federation(folder: Path, **settings: Any) -> Iterator[Federation]:
    """A federation that is started, and ended at the end."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = Federation(folder, **settings)
    try:
        found.start()
        yield found
    finally:
        found.close()


def _await_port(address: str, port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            probe.settimeout(5)
            if probe.connect_ex((address, port)) == 0:
                return
        if time.monotonic() > deadline:
            raise OSError(f"nothing answers at {address}:{port}")
        time.sleep(0.05)
