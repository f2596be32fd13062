"""What a node cannot enforce, found out once, in words: one list for all who tell it.

Platforms say what they cannot do (:meth:`wes_bridge.node.platforms.base.Platform.gaps`); the log at the
start, ``GET /status``, service-info and the messages of sessions show the same words; of those that are
quiet (:class:`~wes_bridge.model.gaps.Gap`) sessions have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wes_bridge.config import NodeConfig
from wes_bridge.model.gaps import FILE, GAPS, Gap
from wes_bridge.node.platforms.limits import of_disk
from wes_bridge.private_files import private_file


class UnsafeError(OSError):
    """The node must not start: it would run the commands of strangers without a sandbox."""


def of_the_node(config: NodeConfig) -> list[Gap]:
    """What is not enforced on any platform: as the configuration says, and since of who we are."""
    found = of_disk(config)
    if os.geteuid() != 0:
        return found
    text = (
        "the node runs as root, and so do its commands, with root's rights over files; run it as another user"
    )
    return [*found, Gap(what="user", text=text)]


def check(config: NodeConfig, gaps: Iterable[Gap]) -> None:
    """Whether a node may start with what it cannot enforce.

    Raises:
        UnsafeError: it may not, unless its configuration says that it shall.
    """
    reasons = [gap.text for gap in gaps if gap.what == "sandbox"]
    if reasons and config.sandbox == "auto" and (why := config.serves_others):
        raise UnsafeError(
            f"{why}, and {reasons[0]}: each of them could read and change all that this user can. Install"
            " bubblewrap, or say that this is what you want (sandbox: none, --sandbox none)"
        )


def write(state: Path, gaps: list[Gap]) -> None:
    """Leave word in the state folder."""
    private_file(state / FILE)
    (state / FILE).write_bytes(GAPS.dump_json(gaps))
