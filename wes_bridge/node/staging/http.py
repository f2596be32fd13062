"""``http:`` and ``https:`` URLs: downloaded as a stream; outputs are PUT, one request per file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock
from urllib.parse import quote

import httpx

from wes_bridge.model.headers import EXECUTABLE

ATTEMPTS = 4
"""How often a transfer is tried."""
TIMEOUT = 30.0
"""Seconds without a byte until a transfer is given up."""
_CHUNK = 256 * 1024
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpScheme:
    """Files on web servers.

    Args:
        pause: seconds before the second attempt; doubles each time.
    """

    names: tuple[str, ...] = ("http", "https")
    can_store = True

    def __init__(self, pause: float = 0.5) -> None:
        self._pause = pause
        self._client: httpx.Client | None = None
        self._lock = Lock()

    def local(self, location: str) -> Path | None:
        """Never on this machine yet."""
        return None

    def fetch(self, location: str, target: Path, stop: Event) -> None:
        """Download to ``target``; interrupted transfers are tried again."""
        for attempt in range(ATTEMPTS):
            try:
                self._download(location, target, stop)
                return
            except httpx.HTTPStatusError as error:
                if attempt == ATTEMPTS - 1 or error.response.status_code not in _WORTH_RETRYING:
                    raise OSError(f"HTTP {error.response.status_code}") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if attempt == ATTEMPTS - 1 or isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
                    raise OSError(str(error) or type(error).__name__) from error
            if stop.wait(self._pause * 2**attempt):
                raise InterruptedError("stopped")

    def store(self, source: Path, location: str) -> Path | None:
        """PUT a file to ``location``, or each file of a directory below ``location``."""
        if source.is_dir():
            base = location if location.endswith("/") else location + "/"
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    self._put(path, base + quote(path.relative_to(source).as_posix()))
        else:
            self._put(source, location)
        return None

    def _http(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(follow_redirects=True, timeout=TIMEOUT)
            return self._client

    def _download(self, location: str, target: Path, stop: Event) -> None:
        with self._http().stream("GET", location, headers={"Accept-Encoding": "identity"}) as answer:
            answer.raise_for_status()
            size = answer.headers.get("content-length")
            written = 0
            with target.open("wb") as out:
                for chunk in answer.iter_bytes(_CHUNK):
                    out.write(chunk)
                    written += len(chunk)
                    if stop.is_set():
                        raise InterruptedError("stopped")
            if size is not None and "content-encoding" not in answer.headers and written != int(size):
                raise httpx.ReadError(f"{written} of {size} bytes came")
            if answer.headers.get(EXECUTABLE, "").strip().lower() == "true":
                target.chmod(0o755)

    def _put(self, path: Path, location: str) -> None:
        for attempt in range(ATTEMPTS):
            try:
                headers = {"Content-Length": str(path.stat().st_size)}
                answer = self._http().put(location, content=_chunks(path), headers=headers)
                answer.raise_for_status()
                return
            except httpx.HTTPStatusError as error:
                if attempt == ATTEMPTS - 1 or error.response.status_code not in _WORTH_RETRYING:
                    raise OSError(f"HTTP {error.response.status_code} from {location}") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if attempt == ATTEMPTS - 1 or isinstance(error, httpx.InvalidURL):
                    raise OSError(f"{location}: {error or type(error).__name__}") from error
            time.sleep(self._pause * 2**attempt)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
