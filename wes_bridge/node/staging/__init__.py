"""How data reaches a session and leaves it: one file per URL scheme, and the plan of a file system."""

from __future__ import annotations

from collections.abc import Callable

from wes_bridge.config import NodeConfig
from wes_bridge.node.staging.schemes import Schemes


def default_schemes(config: NodeConfig, fetched: Callable[[int], None] = lambda _size: None) -> Schemes:
    """The schemes this package has: ``file``, ``http``, ``https``, ``data``.

    Args:
        config: of the node.
        fetched: is told how many bytes came from other nodes.
    """
    from wes_bridge.node.kept.receiving import KeptScheme  # noqa: PLC0415
    from wes_bridge.node.staging.allowed import Allowed  # noqa: PLC0415
    from wes_bridge.node.staging.file import FileScheme  # noqa: PLC0415
    from wes_bridge.node.staging.http import HttpScheme, transfers  # noqa: PLC0415
    from wes_bridge.node.staging.literal import LiteralScheme  # noqa: PLC0415

    allowed = Allowed(config.data)
    fetcher = transfers(config)
    web = KeptScheme(HttpScheme(fetcher), fetcher, fetched)
    return Schemes([FileScheme(allowed), web, LiteralScheme()], allowed)
