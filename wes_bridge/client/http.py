"""HTTP as the WES client needs it: retries where they are safe, typed errors, credentials only at home."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from wes_bridge.client.errors import WESConnectionError, WESError
from wes_bridge.client.kept_tokens import KeptTokens, origin_of

BASE_PATH = "/ga4gh/wes/v1"
SERVER_ERROR = 500
"""From this status on, the server is at fault: it may be well in a moment."""
RETRY_STATUSES = (429, 502, 503, 504)
CHUNK = 1024**2


class BearerAuth(AuthBase):
    """Sends a token; as an auth object, so that a ``.netrc`` entry does not replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token in the request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class SignedInAuth(AuthBase):
    """Sends the token of ``wes-bridge login``, which is renewed when that is due."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token in the request."""
        from wes_bridge.client.sign_in import token_for  # noqa: PLC0415 - most people are not signed in

        token = token_for(self._url)
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request


def _signed_in(url: str) -> AuthBase | None:
    """What is sent where somebody is signed in; None where nobody is."""
    return SignedInAuth(url) if origin_of(url) in KeptTokens().services() else None


class Http:
    """A connection pool to one WES.

    Args:
        url: of the service: its host, or its API's base.
        auth: for ``requests``: a (user, password) pair or an auth object.
        token: bearer token, instead of ``auth``.
        timeout: seconds to connect, and between two bytes.
        retries: attempts after the first for requests that may be sent twice.

    Attributes:
        base: the API's base URL, no slash at its end; known after :meth:`find_base`.
    """

    def __init__(
        self, url: str, auth: Any = None, token: str | None = None, timeout: float = 30.0, retries: int = 5
    ) -> None:
        if "://" not in url:
            url = "http://" + url
        if urlsplit(url).scheme not in ("http", "https"):
            raise WESError(f"{url}: not an http or https URL")
        self.base = url.rstrip("/")
        self._origin = _origin(self.base)
        self._auth = BearerAuth(token) if token else auth or _signed_in(self.base)
        self._timeout = timeout
        retry = Retry(
            total=retries,
            status_forcelist=RETRY_STATUSES,
            backoff_factor=0.05,
            backoff_max=5.0,
            raise_on_status=False,
            redirect=5,
        )
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=16))

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def find_base(self) -> dict[str, Any]:
        """Find the API below the URL given; returns its service-info.

        Raises:
            WESError: there is no WES there.
        """
        given = self.base
        candidates = [given] if given.endswith(BASE_PATH) else [given + BASE_PATH, given]
        problem: WESError | None = None
        for candidate in candidates:
            try:
                info = self.json("GET", candidate + "/service-info")
            except WESConnectionError:
                raise
            except WESError as error:
                if error.status_code in (401, 403):
                    self.base = candidate
                    raise
                if problem is None or (error.status_code or 0) >= SERVER_ERROR:
                    problem = error
                continue
            if "workflow_type_versions" in info or "supported_wes_versions" in info:
                self.base = candidate
                return info
        if problem is not None and (problem.status_code or 0) >= SERVER_ERROR:
            said = f"{given} cannot answer now (HTTP {problem.status_code}): {problem.msg}"
            raise WESError(said, problem.status_code) from problem
        reason = f" ({problem.msg})" if problem else ""
        raise WESError(f"no WES at {given}{reason}: give the URL that ends in {BASE_PATH}", 404)

    def json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """Send a request whose answer is a JSON object. ``url`` may be relative to the base.

        Raises:
            WESError: see :meth:`send`; or the answer is not a JSON object.
        """
        with self.send(method, url, **options) as response:
            try:
                answer = response.json()
            except ValueError:
                answer = None
            if not isinstance(answer, dict):
                raise WESError(
                    f"{response.url} did not answer with a JSON object: not a WES?", response.status_code
                )
            return answer

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | list[tuple[str, str]] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        read_timeout: float | None = None,
    ) -> requests.Response:
        """Send a request; credentials only to the service's own host. ``read_timeout``: in seconds.

        Raises:
            WESConnectionError: no connection, or it broke.
            WESError: the answer is an error; ``msg`` is the service's.
        """
        full = self.absolute(url)
        try:
            response = self._session.request(
                method,
                full,
                params=params,
                data=data,
                headers={"Accept": "application/json", **(headers or {})},
                auth=self._auth if _origin(full) == self._origin else None,
                timeout=(self._timeout, read_timeout or self._timeout),
                stream=stream,
            )
        except requests.RequestException as error:
            raise WESConnectionError(_explain(full, error)) from error
        if response.status_code >= 400:
            with response:
                raise WESError(_message(response), response.status_code)
        return response

    def again(self, method: str, url: str, attempts: int = 4) -> dict[str, Any]:
        """:meth:`json` for a POST that may be sent twice (cancel): tried again when the service was busy."""
        for attempt in range(attempts):
            try:
                return self.json(method, url)
            except WESError as error:
                if attempt + 1 == attempts or error.status_code not in (None, *RETRY_STATUSES):
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def absolute(self, url: str) -> str:
        """``url`` itself; or, when it starts with ``/``, below the base; or relative to the base."""
        if "://" in url:
            return url
        if url.startswith("/"):
            return self.base + url
        return urljoin(self.base + "/", url)

    def pieces(self, response: requests.Response, size: int | None = CHUNK) -> Iterator[bytes]:
        """The body of a streamed response; it is closed afterwards. ``size`` None: what there is, at once.

        Raises:
            WESConnectionError: the connection broke.
        """
        try:
            with response:
                yield from response.iter_content(size)
        except requests.RequestException as error:
            raise WESConnectionError(_explain(response.url, error)) from error


def _origin(url: str) -> tuple[str, str | None, int | None]:
    split = urlsplit(url)
    return split.scheme, split.hostname, split.port or {"http": 80, "https": 443}.get(split.scheme)


def _message(response: requests.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        for key in ("msg", "detail", "message", "title"):
            if isinstance(body.get(key), str) and body[key]:
                return str(body[key])
    return f"{response.request.method} {response.url}: {response.status_code} {response.reason}"


def _explain(url: str, error: requests.RequestException) -> str:
    where = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    if isinstance(error, requests.Timeout):
        return f"{where} did not answer in time"
    reason: Any = error.args[0] if error.args else error
    reason = getattr(reason, "reason", reason)
    text = re.sub(r"^\[Errno -?\d+\] ", "", str(reason).rpartition(": ")[2]) or type(error).__name__
    return f"cannot reach {where}: {text}"
