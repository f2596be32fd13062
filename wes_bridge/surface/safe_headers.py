"""Headers that every answer has, whoever made it: what a browser must not do with it.

What a handler says itself counts. Nothing is a page but what says ``text/html``, and that is ours: bytes of
runs, nodes and brokers are never sent as such (see :func:`inert_type`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from wes_bridge.surface.asgi import AsgiApp

INERT = "default-src 'none'; sandbox"
"""The policy (CSP) of what is no page: it loads nothing, and is of no origin."""
_PAGE = "frame-ancestors 'none'; object-src 'none'; base-uri 'none'"
_SHOWN = frozenset(
    {"text/plain", "text/csv", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)
"""Types of files that a browser may show, since it runs nothing that is in them."""
_BYTES = "application/octet-stream"
_HTML, _ASSETS = b"text/html", (b"text/css", b"text/javascript", b"application/javascript", b"image/")
Headers = list[tuple[bytes, bytes]]


class SafeHeaders:
    """Adds the headers to the answers of an application.

    Args:
        app: the application.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_safe(list(message.get("headers") or ()))
            await send(message)

        await self._app(scope, receive, send_safely)


def _with_safe(headers: Headers) -> Headers:
    given = {name.lower(): value for name, value in headers}
    kind = given.get(b"content-type", b"")
    wanted = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
    policy = _PAGE if kind.startswith(_HTML) else INERT
    wanted.append((b"content-security-policy", policy.encode()))
    if not kind.startswith(_ASSETS):  # of the interface: they hold nothing that is anybody's
        wanted.append((b"cache-control", b"no-store"))
    return headers + [(name, value) for name, value in wanted if name not in given]


def inert_type(media_type: str) -> tuple[str, str]:
    """How bytes that others made are sent: their type as far as it does no harm, and the disposition.

    Args:
        media_type: what they are said to be.

    Returns:
        The type, and ``inline`` for what a browser may show, else ``attachment``.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind in _SHOWN:
        return media_type, "inline"
    return (_BYTES if _is_active(kind) else media_type), "attachment"


def _is_active(kind: str) -> bool:
    return "html" in kind or "xml" in kind or "script" in kind or "svg" in kind or not kind.isascii()
