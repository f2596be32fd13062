"""An issuer of tokens for tests: its keys, its HTTP server, and whatever a forger would sign.

It is a stand-in, so that tokens can be wrong in every way; a real provider is in ``test_provider.py``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

AUDIENCE = "wes-bridge"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(head: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"


@cache
def _first_key() -> RSAKey:
    """Making one takes a while, and tests may share it."""
    return RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256", "use": "sig"})


class TestIssuer:
    """Serves discovery, keys and introspection on loopback."""

    __test__ = False

    def __init__(self) -> None:
        self.keys: list[Any] = [_first_key()]
        self.extra: list[dict[str, Any]] = []
        self.fetches: list[str] = []
        self.opaque: dict[str, dict[str, Any]] = {}
        self.broken = False
        self.claims_to_be: str | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches.append(self.path)
                if issuer.broken:
                    self.send_error(500)
                elif self.path == "/.well-known/openid-configuration":
                    self._send(issuer.description())
                elif self.path == "/jwks":
                    self._send({"keys": [*KeySet(issuer.keys).as_dict()["keys"], *issuer.extra]})
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                body = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                client = base64.b64encode(b"wes:client-secret").decode()
                if self.headers["authorization"] != f"Basic {client}":
                    self.send_error(401)
                    return
                self._send(issuer.opaque.get(body["token"][0], {"active": False}))

            def _send(self, content: object) -> None:
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def description(self) -> dict[str, Any]:
        name = self.claims_to_be or self.url
        return {
            "issuer": name,
            "jwks_uri": f"{self.url}/jwks",
            "introspection_endpoint": f"{self.url}/introspect",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.url, "sub": "alice", "aud": AUDIENCE, "exp": now + 600, "iat": now}
        return {name: value for name, value in (claims | more).items() if value is not None}

    def token(self, key: Any = None, head: dict[str, Any] | None = None, **claims: Any) -> str:
        key = key or self.keys[0]
        header = {"alg": key.alg or "RS256", "kid": key.kid, "typ": "at+jwt", **(head or {})}
        header = {name: value for name, value in header.items() if value is not None}
        if set(header) <= {"alg", "kid", "typ"} and isinstance(header.get("typ", ""), str):
            return jwt.encode(header, self.claims(**claims), key, algorithms=[header["alg"]])
        return self._odd(header, claims, key)

    def _odd(self, header: dict[str, Any], claims: dict[str, Any], key: Any) -> str:
        """Signed properly, under a header that the library would not make."""
        content = unsigned(header, self.claims(**claims))
        signature = key.private_key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{content}.{b64(signature)}"

    def forged_with_hmac(self, secret: bytes, algorithm: str = "HS256", **head: Any) -> str:
        content = unsigned({"alg": algorithm, "typ": "JWT", "kid": "one", **head}, self.claims())
        return f"{content}.{b64(hmac.digest(secret, content.encode(), hashlib.sha256))}"


def new_key(kind: str, name: str) -> Any:
    if kind.startswith("ES"):
        curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[kind]
        return ECKey.generate_key(curve, {"kid": name, "alg": kind})
    if kind in ("EdDSA", "Ed25519"):
        return OKPKey.generate_key("Ed25519", {"kid": name, "alg": kind})
    return RSAKey.generate_key(2048, {"kid": name, "alg": kind})
