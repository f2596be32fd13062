"""How data reaches a session and leaves it: one file per URL scheme, and the plan of a file system."""

from __future__ import annotations

from wes_bridge.config import NodeConfig
from wes_bridge.node.staging.schemes import Schemes


def default_schemes(config: NodeConfig) -> Schemes:
    """The schemes that a node is configured with: ours (``file``, ``http``, ``https``, ``data``, and where
    the site names stores ``s3`` and ``davs``), and those of plug-ins.

    Raises:
        SchemeError: one of them cannot be used.
    """
    from wes_bridge.node.staging.allowed import Allowed  # noqa: PLC0415
    from wes_bridge.node.staging.plugins import Site, configured  # noqa: PLC0415

    allowed = Allowed(config.data)
    return Schemes(configured(Site(config, allowed)), allowed)
