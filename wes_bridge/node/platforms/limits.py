"""Which of its limits on commands a node does not enforce, or only by looking; who shows it is elsewhere.

Most limits are enforced by looking (:mod:`wes_bridge.node.platforms.watch`), so what happens between two
looks is not: that is said, too, but quietly.
"""

from __future__ import annotations

from wes_bridge.config import NodeConfig
from wes_bridge.model.gaps import Gap
from wes_bridge.node.platforms.groups import Groups

_LOOKED_AT = "is looked at now and then, not held by the system"
LEFT_BEHIND = (
    "without a sandbox, processes that a command leaves behind are counted neither in its memory nor in their"
    " number until it ends"
)


def of_processes(*, sandboxed: bool) -> list[Gap]:
    """Of memory and number, where commands are plain processes. Reads files.

    Args:
        sandboxed: whether commands are in a sandbox that no process leaves.
    """
    groups, found = Groups(), []
    if groups.why_no_memory is not None:
        memory = f"the memory of a command and all its processes {_LOOKED_AT}: {groups.why_no_memory}"
        found.append(Gap(what="memory", text=memory, quiet=True))
    if not sandboxed:
        found.append(Gap(what="processes", text=LEFT_BEHIND))
    elif groups.why is not None:
        text = f"the number of a command's processes {_LOOKED_AT}: {groups.why}"
        found.append(Gap(what="processes", text=text, quiet=True))
    return found


def of_disk(config: NodeConfig) -> list[Gap]:
    """Of the room on the disk, on whatever platform."""
    text = f"the room that a session takes on the disk {_LOOKED_AT}"
    if config.session_gib is None:
        text = "a session may fill the node's disk: the setting session_gib is not given"
    return [Gap(what="disk", text=text, quiet=True)]
