"""How data reaches a session and leaves it: one file per URL scheme, and the plan of a file system."""

from __future__ import annotations

from collections.abc import Callable

from wes_bridge.config import NodeConfig
from wes_bridge.node.staging.schemes import Schemes


def default_schemes(config: NodeConfig, fetched: Callable[[int], None] = lambda _size: None) -> Schemes:
    """The schemes that a node is configured with: ours (``file``, ``http``, ``https``, ``data``, and where
    the site names stores ``s3`` and ``davs``), and those of plug-ins.

    Args:
        config: of the node.
        fetched: is told how many bytes came from other nodes.

    Raises:
        PluginError: one of them cannot be used.
    """
    from wes_bridge.node.kept.scheme import KeptScheme  # noqa: PLC0415
    from wes_bridge.node.staging.allowed import Allowed  # noqa: PLC0415
    from wes_bridge.node.staging.http import transfers  # noqa: PLC0415
    from wes_bridge.node.staging.plugins import Site, configured  # noqa: PLC0415

    allowed = Allowed(config.data)
    schemes = configured(Site(config, allowed))
    fetcher = transfers(config)
    told = [KeptScheme(one, fetcher, fetched) if "https" in one.names else one for one in schemes]
    return Schemes(told, allowed)
