"""Certificates are always verified, for the name in the URL; a site can believe an authority of its own."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import FetchError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.fetching.proxies import Proxies

x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402


@dataclass
class Site:
    """An https server on loopback whose certificate is for ``archive.example``."""

    port: int
    ca: Path
    names: list[str | None]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a site's own")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("archive.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca, secret = tmp_path / "ca.pem", tmp_path / "key.pem"
    ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, secret)
    seen: list[str | None] = []
    context.sni_callback = lambda _socket, wanted, _context: seen.append(wanted)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere")
            except OSError:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield Site(listener.getsockname()[1], ca, seen)
    listener.close()


def fetch(site: Site, host: str, ca: Path | None) -> bytes:
    def resolver(_host: str, port: int, _family: int) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    guard = Guard(PrivateHosts(["127.0.0.0/8"]), resolver)
    return Fetcher(guard, Limits(5.0), ca_file=ca, proxies=Proxies({})).get(f"https://{host}:{site.port}/")


def test_a_site_s_own_authority_is_believed_where_it_says_so(site: Site) -> None:
    assert fetch(site, "archive.example", site.ca) == b"here"
    assert site.names == ["archive.example"]  # not the address that is connected to


def test_no_other_authority_is(site: Site) -> None:
    with pytest.raises(FetchError, match="certificate verify failed"):
        fetch(site, "archive.example", None)


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1", "archive.example.org"])
def test_a_certificate_for_another_name_is_refused(site: Site, host: str) -> None:
    with pytest.raises(FetchError, match="certificate"):
        fetch(site, host, site.ca)
