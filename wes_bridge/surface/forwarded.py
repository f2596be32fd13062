"""What a client behind a reverse proxy calls this server, by what the proxy says, if it is believed.

Headers: ``Forwarded`` (RFC 7239), else ``X-Forwarded-Proto``, ``-Host``, ``-Port`` and ``-Prefix``. They are
looked at only when the peer's address is trusted, and of several entries the one counts that the outermost
trusted proxy made: what stands before it came from the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.requests import Request

from wes_bridge.surface import http

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+")
_PAIR = re.compile(r"\s*([A-Za-z-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;,\"]*))\s*(;|,|$)")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """Which proxies are believed, and what that makes of a request.

    Args:
        public_url: what clients call this server; when given, nothing else counts.
        trusted: addresses or networks of proxies.

    Raises:
        ValueError: one of them is no network.
    """

    def __init__(self, public_url: str | None, trusted: Sequence[str]) -> None:
        self._public = public_url.rstrip("/") if public_url else None
        self._networks: list[_Network] = [ipaddress.ip_network(text, strict=False) for text in trusted]

    def base(self, request: Request) -> str:
        """The URL, without final ``/``, below which the client sees this server."""
        if self._public:
            return self._public
        plain = http.base_url(request, None)
        if request.client is None or not self._is_trusted(request.client.host):
            return plain
        scheme, _, host = plain.partition("://")
        told = self._forwarded(request) or self._x_forwarded(request)
        if told.get("proto", "").lower() in ("http", "https"):
            scheme = told["proto"].lower()
        if _HOST.fullmatch(told.get("host", "")):
            host = told["host"]
        prefix = self._outermost(request, "x-forwarded-prefix").rstrip("/")
        return f"{scheme}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"

    def _forwarded(self, request: Request) -> dict[str, str]:
        entries = _entries(", ".join(request.headers.getlist("forwarded")))
        found: dict[str, str] = {}
        for entry in reversed(entries):
            found = entry
            if not self._is_trusted(_address(entry.get("for", ""))):
                break
        return found

    def _x_forwarded(self, request: Request) -> dict[str, str]:
        host = self._outermost(request, "x-forwarded-host")
        port = self._outermost(request, "x-forwarded-port")
        scheme = self._outermost(request, "x-forwarded-proto")
        usual = {"http": "80", "https": "443"}.get(scheme.lower())
        if host and port.isdigit() and port != usual and not re.search(r":\d+$", host):
            host = f"{host}:{port}"
        return {"host": host, "proto": scheme}

    def _outermost(self, request: Request, name: str) -> str:
        """The value the outermost trusted proxy gave; how many are trusted, ``X-Forwarded-For`` tells."""
        values = _values(request, name)
        if not values:
            return ""
        trusted = 1
        for address in reversed(_values(request, "x-forwarded-for")):
            if not self._is_trusted(_address(address)):
                break
            trusted += 1
        return values[-min(trusted, len(values))]

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._networks)


def _values(request: Request, name: str) -> list[str]:
    return [part.strip() for part in ",".join(request.headers.getlist(name)).split(",") if part.strip()]


def _entries(header: str) -> list[dict[str, str]]:
    """The entries of a ``Forwarded`` header; none when it is malformed."""
    entries: list[dict[str, str]] = [{}] if header.strip() else []
    position = 0
    while position < len(header):
        match = _PAIR.match(header, position)
        if match is None or match.end() == position:
            return []
        value = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        entries[-1][match[1].lower()] = value
        position = match.end()
        if match[4] == "," and position < len(header):
            entries.append({})
    return entries


def _address(node: str) -> str:
    """The address in a ``for`` parameter: without port and brackets."""
    match = re.fullmatch(r"\[([^\]]*)\](?::\w+)?|([^:]*)(?::\w+)?", node.strip())
    return (match[1] or match[2] or "") if match else node.strip()
