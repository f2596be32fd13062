"""The proxies that the environment names (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``).

A proxy looks names up itself, so what it connects to cannot be checked here: addresses in URLs are, and names
as far as they are known on this side. The rest is the proxy's own rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (  # type: ignore[attr-defined]  # typeshed has one of the two
    getproxies_environment,
    proxy_bypass_environment,
)

import httpcore

from wes_bridge.fetching.errors import RefusedError, UnknownHostError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.urls import WebUrl


class Proxies:
    """Which proxy is for which URL.

    Args:
        by_scheme: URLs of proxies by scheme (``all``, too), and under ``no`` the hosts that need none.
    """

    def __init__(self, by_scheme: Mapping[str, str]) -> None:
        self._by_scheme = dict(by_scheme)

    @classmethod
    def of_environment(cls) -> Proxies:
        """Those of the environment."""
        return cls(getproxies_environment())

    def proxy_for(self, url: WebUrl) -> str | None:
        """The proxy to ask for a URL; None: there is none."""
        proxy = self._by_scheme.get(url.scheme) or self._by_scheme.get("all")
        if not proxy or proxy_bypass_environment(url.authority, self._by_scheme):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    @staticmethod
    def check(guard: Guard, url: WebUrl, seconds: float) -> None:
        """Refuse a URL that leads to a private address as far as that can be known here.

        Raises:
            RefusedError: it does.
        """
        try:
            guard.resolve(url.host, url.port, seconds)
        except UnknownHostError:
            return  # only the proxy knows such names

    @staticmethod
    def settings(proxy: str) -> httpcore.Proxy:
        """A proxy as httpcore wants it.

        Raises:
            RefusedError: it is not one of HTTP.
        """
        split = urlsplit(proxy)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise RefusedError("a proxy of the environment is of a kind that is not supported")
        auth = None
        if split.username is not None:
            auth = unquote(split.username), unquote(split.password or "")
        plain = urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path or "/", "", ""))
        return httpcore.Proxy(plain, auth)
