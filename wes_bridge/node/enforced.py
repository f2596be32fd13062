"""What a node cannot enforce of the limits it should set to commands, in words: one list for all who tell it.

Platforms say what they cannot do (:meth:`wes_bridge.node.platforms.base.Platform.gaps`); the log at the
start, ``GET /status``, service-info and the messages of sessions show the same words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from wes_bridge.private_files import private_file

FILE = "unenforced.json"
"""In a node's state folder: for the service that it is embedded in."""


class Gap(BaseModel):
    """Something that is not enforced.

    Attributes:
        what: kind of it: ``sandbox``, commands see the machine; ``no_network``, those that should have no
            network do; ``loopback``, those with one reach the machine's loopback interface; ``user``,
            commands are root's; ``memory``, ``processes``, limits of those.
        text: the same in a sentence, with the reason.
    """

    model_config = ConfigDict(frozen=True)

    what: Literal["sandbox", "no_network", "loopback", "user", "memory", "processes"]
    text: str


_GAPS = TypeAdapter(list[Gap])


def of_the_user() -> list[Gap]:
    """What is not enforced since of who we are."""
    if os.geteuid() != 0:
        return []
    text = (
        "the node runs as root, and so do its commands, with root's rights over files; run it as another user"
    )
    return [Gap(what="user", text=text)]


def write(state: Path, gaps: Iterable[Gap]) -> None:
    """Leave word in the state folder."""
    file = state / FILE
    private_file(file)
    file.write_text(json.dumps([gap.model_dump() for gap in gaps]))


def read(state: Path) -> list[Gap]:
    """What a node has left word of; nothing while it has not."""
    try:
        return _GAPS.validate_json((state / FILE).read_bytes())
    except (OSError, ValidationError):
        return []
