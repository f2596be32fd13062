"""Servers that other machines can reach: they want credentials and TLS, or they do not start."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.auth.conftest import API, Starter, raw
from tests.node.conftest import Starter as NodeStarter
from tests.waiting import until
from wes_bridge import WESClient
from wes_bridge.cli.main import cli
from wes_bridge.surface import tls
from wes_bridge.wes.document import BASE_PATH

RUNS = f"{API}/runs"
TOOL = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: echo, inputs: [], outputs: []}"


class Authority:
    """A test CA, and certificates of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        made = self._certificate(self._name, self._key.public_key(), is_authority=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if not is_authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def make(self, name: str) -> dict[str, str]:
        """A certificate and its key, as the configuration names them."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._certificate(subject, key.public_key(), is_authority=False)
        certificate, secret = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return {"certificate": str(certificate), "key": str(secret)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


# ---- what does not start ---------------------------------------------------------------------------------

OPEN = ("0.0.0.0", "::", "192.0.2.7", "node.example.org", "")


@pytest.mark.parametrize("host", OPEN)
@pytest.mark.parametrize("command", ["serve", "node", "aggregate"])
def test_no_server_stands_open(command: str, host: str, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    more = {"aggregate": {"brokers": [{"name": "a", "url": "http://127.0.0.1:1"}]}, "node": {"data": []}}
    config.write_text(json.dumps({"host": host, **more.get(command, {})}, indent=1))
    done = CliRunner().invoke(cli, [command, "--config", str(config), "--print-config"])
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(
        f"error: {config}:2: host: {host or 'every address'} can be reached from other machines"
    )
    assert "authentication:" in line and "tls:" in line and "behind_proxy" in line and "127.0.0.1" in line


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"authentication": {"keys": True}}, "encrypt"),
        ({"behind_proxy": True}, "who is let in"),
        ({"behind_proxy": True, "authentication": {"same_user": True}}, "who is let in"),
    ],
)
def test_half_of_it_is_not_enough(config: dict[str, object], missing: str, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"host": "0.0.0.0", **config}))
    done = CliRunner().invoke(cli, ["serve", "--config", str(file), "--print-config"])
    assert done.exit_code == 2 and missing in done.stderr


def test_both_are_enough(tmp_path: Path, authority: Authority) -> None:
    keys = {"authentication": {"keys": True}, "host": "0.0.0.0"}
    for config in ({"behind_proxy": True}, {"tls": authority.make("ok")}):
        file = tmp_path / "c.json"
        file.write_text(json.dumps(keys | config))
        done = CliRunner().invoke(cli, ["serve", "--config", str(file), "--print-config"])
        assert done.exit_code == 0, done.stderr


def test_an_embedded_node_does_not_stand_open_either(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"nodes": [{"host": "0.0.0.0", "data": ["https://"]}]}))
    done = CliRunner().invoke(cli, ["serve", "--config", str(file), "--print-config"])
    assert done.exit_code == 2 and "nodes[0].host: 0.0.0.0 can be reached" in done.stderr


def test_certificates_that_cannot_be_used_are_told(tmp_path: Path, authority: Authority) -> None:
    good, other = authority.make("good"), authority.make("other")
    wrong = {
        "no such": {"certificate": "/no/such/file", "key": good["key"]},
        "do not match": {"certificate": good["certificate"], "key": other["key"]},
        "no PEM": {"certificate": good["key"], "key": good["key"]},
        "no authority": {**good, "client_ca": "/no/such/file"},
    }
    for what, config in wrong.items():
        file = tmp_path / "c.json"
        file.write_text(json.dumps({"tls": config}))
        done = CliRunner().invoke(cli, ["serve", "--config", str(file), "--print-config"])
        assert done.exit_code == 2 and ": tls: " in done.stderr, (what, done.stderr)


# ---- TLS -------------------------------------------------------------------------------------------------


def test_a_service_with_a_certificate(
    start_service: Starter, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = start_service(tls=authority.make("service"), authentication={"keys": True})
    assert site.url.startswith("https://127.0.0.1:")
    done = CliRunner().invoke(cli, ["keys", "create", "robot", "--state", str(site.state)])
    context = ssl.create_default_context(cafile=str(authority.file))
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    with httpx.Client(verify=context) as http:
        until(lambda: http.get(site.url + RUNS, headers=headers).status_code == 200)
        assert http.get(site.url + RUNS).status_code == 401
        info = http.get(f"{site.url}{API}/service-info").json()
        assert info["auth_instructions_url"] == f"{site.url}/auth"
    with pytest.raises(httpx.ConnectError):
        httpx.get(site.url + RUNS)
    with pytest.raises(httpx.HTTPError):
        httpx.get(site.url.replace("https", "http") + RUNS)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    (tmp_path / "t.cwl").write_text(TOOL)
    with WESClient(site.url, token=done.stdout.strip()) as client:
        run_id = client.submit(tmp_path / "t.cwl", {})
        assert client.wait(run_id, timeout=120) == "COMPLETE"
    site.stop()


def test_a_node_with_a_certificate_that_wants_one_of_its_clients(
    start_node: NodeStarter, authority: Authority, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("s" * 40)
    services = {"services": [{"name": "wes", "file": str(key)}], "same_user": False}
    config = {**authority.make("node"), "client_ca": str(authority.file)}
    node = start_node(tls=config, authentication=services)
    assert node.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(authority.file))
    headers = {"Authorization": "Bearer " + "s" * 40}
    with httpx.Client(verify=context) as http, pytest.raises(httpx.HTTPError):
        http.get(node.url + "/status", headers=headers)
    mine = authority.make("client")
    context.load_cert_chain(mine["certificate"], mine["key"])
    with httpx.Client(verify=context) as http:
        assert http.get(node.url + "/status", headers=headers).status_code == 200
        assert http.get(node.url + "/status").status_code == 401


def test_a_renewed_certificate_is_taken_up(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_AGAIN", 0.01)
    config = tls.TlsConfig.model_validate(authority.make("renewed"))
    context = tls.server_context(config)

    async def seen(port: int) -> bytes:
        client = ssl.create_default_context(cafile=str(authority.file))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        assert isinstance(certificate, bytes)
        return certificate

    async def look() -> None:
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        task = asyncio.create_task(tls.keep_certificate(context, config))
        before = await seen(port)
        config.key.write_text("broken")  # half of a renewal: the old one stays
        await asyncio.sleep(0.1)
        assert await seen(port) == before
        authority.make("renewed")
        async with asyncio.timeout(30):
            while await seen(port) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        task.cancel()
        server.close()

    asyncio.run(look())


# ---- a proxy in front ------------------------------------------------------------------------------------


@pytest.fixture
def nginx(tmp_path: Path, authority: Authority) -> Iterator[Callable[[str], str]]:
    """Starts nginx with TLS before a URL; gives its own."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        files = authority.make("proxy")
        (tmp_path / "nginx.conf").write_text(
            f"""
            {"user root;" if os.getuid() == 0 else ""}
            daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}
            http {{
              access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
              fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
              server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {files["certificate"]}; ssl_certificate_key {files["key"]};
                location / {{
                  proxy_pass {url};
                  proxy_set_header Host $http_host;
                  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                  proxy_set_header X-Forwarded-Proto $scheme;
                }}
              }}
            }}
            """
        )
        started.append(subprocess.Popen([program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]))
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        return f"https://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def test_behind_nginx(
    start_service: Starter,
    nginx: Callable[[str], str],
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The proxy runs as our own user, and yet its clients are strangers."""
    site = start_service(behind_proxy=True, authentication={"keys": True})
    url = nginx(site.url)
    done = CliRunner().invoke(cli, ["keys", "create", "robot", "--state", str(site.state)])
    token = done.stdout.strip()
    context = ssl.create_default_context(cafile=str(authority.file))
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(verify=context) as http:
        until(lambda: http.get(url + RUNS, headers=headers).status_code == 200)
        assert http.get(url + RUNS).status_code == 401
        assert http.get(url + RUNS, headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
        assert (
            http.get(url + RUNS, headers={**headers, "Origin": "https://evil.example.org"}).status_code == 403
        )
        own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
        assert http.get(url + RUNS, headers=headers | own).status_code == 200
        info = http.get(f"{url}{API}/service-info").json()
        assert info["auth_instructions_url"] == f"{url}/auth"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    (tmp_path / "t.cwl").write_text(TOOL)
    with WESClient(url, token=token) as client:
        run_id = client.submit(tmp_path / "t.cwl", {})
        assert client.wait(run_id, timeout=120) == "COMPLETE"
        assert url + BASE_PATH in client.run(run_id)["run_log"]["stdout"]
    site.stop()


def test_a_proxy_that_nobody_named_is_not_believed(
    start_service: Starter, nginx: Callable[[str], str], authority: Authority
) -> None:
    """On a laptop: what comes through a proxy is not taken for its user."""
    site = start_service()
    url = nginx(site.url)
    with httpx.Client(verify=ssl.create_default_context(cafile=str(authority.file))) as http:
        assert http.get(url + RUNS).status_code == 401
        token = (site.state / "token").read_text().strip()
        assert http.get(url + RUNS, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert raw(site.url, f"Host: {site.url[7:]}", path=RUNS)[0] == 200
    site.stop()
