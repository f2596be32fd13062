"""Platform plug-ins: what runs a session's command. One file each, entry point ``wes_bridge.platforms``."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from wes_bridge.config import NodeConfig
from wes_bridge.node.platforms.base import Platform

GROUP = "wes_bridge.platforms"


class UnknownPlatformError(ValueError):
    """The configuration names a platform that is not installed."""


def load_platforms(config: NodeConfig, state: Path) -> list[Platform]:
    """The platforms a node is configured with, in that order.

    Args:
        config: names them.
        state: the node's state directory.

    Raises:
        UnknownPlatformError: lists what is installed.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    platforms: list[Platform] = []
    for name in config.platforms:
        if name not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise UnknownPlatformError(f"no platform {name!r} is installed; there are: {known}")
        platforms.append(installed[name].load()(config, state))
    return platforms
