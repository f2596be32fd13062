"""How data reaches a session and leaves it: one file per URL scheme, and the plan of a file system."""

from __future__ import annotations

from collections.abc import Iterable

from wes_bridge.node.staging.schemes import Schemes


def default_schemes(prefixes: Iterable[str]) -> Schemes:
    """The schemes this package has: ``file``, ``http``, ``https``, ``data``.

    Args:
        prefixes: beginnings of the URLs that may be used (``NodeConfig.data``).
    """
    from wes_bridge.node.staging.allowed import Allowed  # noqa: PLC0415
    from wes_bridge.node.staging.file import FileScheme  # noqa: PLC0415
    from wes_bridge.node.staging.http import HttpScheme  # noqa: PLC0415
    from wes_bridge.node.staging.literal import LiteralScheme  # noqa: PLC0415

    allowed = Allowed(prefixes)
    return Schemes([FileScheme(allowed), HttpScheme(), LiteralScheme()], allowed)
