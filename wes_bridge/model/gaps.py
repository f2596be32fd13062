"""What a node does not enforce of the limits it should set to commands: words that all who tell it share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

FILE = "unenforced.json"
"""In a node's state folder: for the service that it is embedded in."""


class Gap(BaseModel):
    """Something that is not enforced.

    Attributes:
        what: kind of it: ``sandbox``, commands see the machine; ``no_network``, those that should have no
            network do; ``loopback``, those with one reach the machine's loopback interface; ``link_local``,
            containers with one reach a cloud's credentials service; ``user``, commands are root's;
            ``memory``, ``processes``, ``disk``, limits of those.
        text: the same in a sentence, with the reason.
        quiet: whether it is told only where somebody asks what is not enforced, and not in the log of each
            task: it is enforced by looking, or the node's configuration does not want it.
    """

    model_config = ConfigDict(frozen=True)

    what: Literal["sandbox", "no_network", "loopback", "link_local", "user", "memory", "processes", "disk"]
    text: str
    quiet: bool = False


GAPS = TypeAdapter(list[Gap])
"""What is in the file."""
