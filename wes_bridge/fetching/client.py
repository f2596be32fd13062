"""The client of threads: guarded, timed, limited GETs, HEADs and PUTs over httpcore.

httpcore is given the parts of a URL, so that it reads none itself. Redirects are followed here, each checked
as the first address was, and credentials stay with their origin.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock

import httpcore

from wes_bridge.fetching.backend import GuardedBackend, within
from wes_bridge.fetching.errors import FetchError, RefusedError, StatusError, TooLargeError, TooSlowError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.fetching.proxies import Proxies
from wes_bridge.fetching.tls import tls_context
from wes_bridge.fetching.unpacking import unpacked
from wes_bridge.fetching.urls import WebUrl

MAX_REDIRECTS = 5
_CONNECTIONS, _KEPT, _KEPT_FOR = 256, 20, 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
Content = Callable[[], Iterator[bytes]]
"""Makes the pieces of a body, anew for each time it is sent."""
Head = list[tuple[str, str]]


class Answer:
    """An answer whose body has not been read yet.

    Attributes:
        url: who answered, after redirects.
        status: of it.
    """

    def __init__(self, url: WebUrl, response: httpcore.Response, limits: Limits) -> None:
        self.url = url
        self.status = response.status
        self._response = response
        self._limits = limits

    def header(self, name: str) -> str | None:
        """The first header of a name (lower case)."""
        wanted = name.encode()
        return next(
            (value.decode("latin-1") for key, value in self._response.headers if key.lower() == wanted), None
        )

    def raise_for_status(self) -> None:
        """Raise StatusError unless it is a success."""
        if not 200 <= self.status < 300:
            raise StatusError(f"HTTP {self.status}", self.status)

    def chunks(self) -> Iterator[bytes]:
        """The body, unpacked.

        Raises:
            FetchError: it stops coming, is too slow, or too large.
        """
        most, size = self._limits.max_bytes, 0
        declared = self.header("content-length") or ""
        if most is not None and declared.isascii() and declared.isdigit() and len(declared) < 20:
            self._refuse_more(int(declared), most)
        for chunk in unpacked(self._response.iter_stream(), self.header("content-encoding") or ""):
            size += len(chunk)
            if most is not None:
                self._refuse_more(size, most)
            yield chunk

    def read(self) -> bytes:
        """The whole body; errors as of :meth:`chunks`."""
        return b"".join(self.chunks())

    @staticmethod
    def _refuse_more(size: int, most: int) -> None:
        if size > most:
            raise TooLargeError(f"larger than {most} bytes (fetch.max_bytes)")


class Fetcher:
    """Asks web servers. For all threads of a process.

    Args:
        guard: says where it may.
        limits: of each request.
        ca_file: authorities that are believed beside the public ones.
        proxies: of the environment.
        keeps: whether connections are kept for the next request.
    """

    def __init__(
        self,
        guard: Guard,
        limits: Limits,
        *,
        ca_file: Path | None = None,
        proxies: Proxies | None = None,
        keeps: bool = True,
    ) -> None:
        self.guard = guard
        self.limits = limits
        self._ca_file = ca_file
        self._proxies = Proxies.of_environment() if proxies is None else proxies
        self._keeps = _KEPT if keeps else 0
        self._pools: dict[tuple[str, str | None], httpcore.ConnectionPool] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        content: Content | None = None,
        length: int | None = None,
        follow: bool = True,
    ) -> Iterator[Answer]:
        """Send a request; redirects are followed, a body only by those that ask for the same method again.

        Args:
            method: of the request.
            url: http or https.
            headers: beside the usual ones.
            credentials: headers for this origin, which no redirect takes to another.
            content: makes the body.
            length: of the body.
            follow: whether redirects are followed.

        Raises:
            RefusedError: nothing may be asked there.
            FetchError: no answer, one that stops, is too slow or too large.
        """
        place = self.guard.check_url(url)
        origin = place.origin
        with _words(), within(self.limits):
            for _ in range(MAX_REDIRECTS + 1):
                secret = credentials or {} if place.origin == origin else {}
                sent = _head(place, {**(headers or {}), **secret}, length)
                with self._send(method, place, sent, content) as response:
                    target = _redirect(response) if follow else None
                    if target is None:
                        yield Answer(place, response, self.limits)
                        return
                    if content is not None and response.status not in _SAME_METHOD:
                        raise FetchError(f"HTTP {response.status}: such a redirect is not followed")
                place = place.join(target)
                self.guard.check(place)
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The whole body at a URL.

        Raises:
            FetchError: see :meth:`open`; StatusError: the answer is no success.
        """
        with self.open("GET", url, headers=headers) as answer:
            answer.raise_for_status()
            return answer.read()

    def _send(
        self, method: str, url: WebUrl, headers: Head, content: Content | None
    ) -> contextlib.AbstractContextManager[httpcore.Response]:
        proxy = self._proxies.proxy_for(url)
        if proxy is not None:
            self._proxies.check(self.guard, url, self.limits.timeout)
        return self._pool(url.scheme, proxy).stream(
            method,
            httpcore.URL(
                scheme=url.scheme.encode(),
                host=url.host.encode(),
                port=None if url.has_usual_port else url.port,
                target=url.target.encode(),
            ),
            headers=headers,
            content=content() if content is not None else None,
            extensions={"timeout": {"pool": self.limits.timeout}},
        )

    def _pool(self, scheme: str, proxy: str | None) -> httpcore.ConnectionPool:
        key = scheme, proxy
        with self._lock:
            if key not in self._pools:
                self._pools[key] = httpcore.ConnectionPool(
                    ssl_context=tls_context(self._ca_file) if scheme == "https" else None,
                    proxy=self._proxies.settings(proxy) if proxy is not None else None,
                    max_connections=_CONNECTIONS,
                    max_keepalive_connections=self._keeps,
                    keepalive_expiry=_KEPT_FOR,
                    network_backend=GuardedBackend(self.guard if proxy is None else None),
                )
            return self._pools[key]


def _head(url: WebUrl, headers: Mapping[str, str], length: int | None) -> Head:
    """The headers of a request; those of httpcore itself must not depend on what it makes of the host."""
    made = {"Host": url.authority, "Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "wes-bridge"}
    if length is not None:
        made["Content-Length"] = str(length)
    if url.user is not None:
        pair = f"{url.user}:{url.password or ''}".encode()
        made["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return list((made | dict(headers)).items())


def _redirect(response: httpcore.Response) -> str | None:
    if response.status not in _REDIRECTS:
        return None
    for name, value in response.headers:
        if name.lower() == b"location":
            return value.decode("utf-8", errors="replace")
    return None


@contextlib.contextmanager
def _words() -> Iterator[None]:
    """httpcore's errors as ours."""
    try:
        yield
    except httpcore.PoolTimeout as error:
        raise FetchError(f"more than {_CONNECTIONS} transfers are under way") from error
    except httpcore.TimeoutException as error:
        raise TooSlowError("the server cannot be reached in time") from error
    except httpcore.UnsupportedProtocol as error:
        raise RefusedError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
        raise FetchError(str(error) or type(error).__name__) from error
