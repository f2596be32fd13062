"""The aggregator as an ASGI application: ``api`` answers the operations of our OpenAPI documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wes_bridge.aggregator.aggregator import Aggregator
from wes_bridge.aggregator.api import Api
from wes_bridge.config import AggregatorConfig
from wes_bridge.surface.app import BrokerApp, load_document

_NODE_ONLY = ("/status", "/bookings", "/admin/drain", "/admin/open")
"""What a node's admin asks of the node itself."""


class AggregatorApp(BrokerApp):
    """An ASGI application around an :class:`Aggregator`.

    Paths may begin with the path of ``public_url``: a reverse proxy may take it away, or leave it.

    Attributes:
        aggregator: the aggregator.
    """

    def __init__(self, aggregator: Aggregator) -> None:
        self.aggregator = aggregator
        public = aggregator.config.public_url
        self._prefix = urlsplit(str(public)).path.rstrip("/") if public else ""
        super().__init__("aggregator", aggregator, Api(aggregator), _document(), aggregator.config.limits)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        if self._prefix and scope["type"] == "http" and scope["path"].startswith(self._prefix + "/"):
            path, raw = scope["path"][len(self._prefix) :], scope.get("raw_path") or b""
            raw = raw.removeprefix(self._prefix.encode()) if raw else path.encode()
            scope = {**scope, "path": path, "raw_path": raw}
        await super().__call__(scope, receive, send)


def create_app(config: AggregatorConfig, state_dir: Path) -> AggregatorApp:
    """The ASGI application of one aggregator; its lifespan starts and stops it.

    Args:
        config: of the aggregator.
        state_dir: folder of its database.
    """
    return AggregatorApp(Aggregator(config, state_dir))


def _document() -> dict[str, Any]:
    """The ExecutionBroker's document, and what an aggregator has beside."""
    document = load_document("execution-broker.yaml")
    more = load_document("aggregator.yaml")
    for path in _NODE_ONLY:
        del document["paths"][path]
    document["info"] = more["info"]
    document["paths"] |= more["paths"]
    return document
