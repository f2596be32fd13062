"""wes-bridge: a GA4GH WES that runs CWL, step by step, on IVOA ExecutionBroker nodes.

``from wes_bridge import WESClient`` gives the small synchronous client (``requests`` only); everything
else is imported from its own room (``wes_bridge.wes``, ``wes_bridge.engine``, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wes_bridge.client import WESClient

__all__ = ["WESClient", "__version__"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command-line client must start in well under 0.3 s."""
    if name == "WESClient":
        from wes_bridge.client import WESClient  # noqa: PLC0415

        return WESClient
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415

        return metadata.version("wes-bridge")
    raise AttributeError(name)
