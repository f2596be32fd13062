"""What a node does not enforce of its limits on commands, in sentences; who shows them is elsewhere.

Most limits are enforced by looking (:mod:`wes_bridge.node.platforms.watch`), so what happens between two
looks is not: that is said, too.
"""

from __future__ import annotations

from wes_bridge.config import NodeConfig
from wes_bridge.node.platforms.groups import Groups

_LOOKED_AT = "is looked at a few times a second, not held by the system"


def unenforced(config: NodeConfig, *, sandboxed: bool) -> dict[str, str]:
    """What is not, or not fully, enforced: kind of limit (memory, processes, disk) -> why, in a sentence.

    Args:
        config: of the node.
        sandboxed: whether commands are in a sandbox that no process leaves.
    """
    found = {}
    why = Groups().why
    if why is not None:
        found["processes"] = f"the number of a command's processes {_LOOKED_AT}: {why}"
    if not sandboxed:
        found["processes"] = (
            "without a sandbox, processes that a command leaves behind are counted neither in its memory nor"
            " in their number until it ends"
        )
    found["memory"] = f"the memory of a command and all its processes {_LOOKED_AT}"
    if config.session_gib is None:
        found["disk"] = "a session may fill the node's disk: the setting session_gib is not given"
    return found
