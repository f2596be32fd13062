"""What a platform is: something that can run a session's command. One file each beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from wes_bridge.model.execution_broker import ExecutionRequest, Message, Session
from wes_bridge.model.gaps import Gap
from wes_bridge.node.layout import SessionFolder
from wes_bridge.node.platforms.processes import Roots
from wes_bridge.node.staging.plan import Tree

PAUSES = (0.02, 0.1, 0.3)
"""Seconds before each further try to begin a command whose place could not be made: a mount that another
program takes away meanwhile, as container engines do with each container, lets a sandbox fail."""


@dataclass
class Job:
    """A session as a platform sees it.

    Attributes:
        uuid: the session's.
        session: the session; platforms read it and may add messages.
        folder: its folder.
        tree: its file system.
        owner: whose it is; empty when nobody is told from others.
    """

    uuid: str
    session: Session
    folder: SessionFolder
    tree: Tree
    owner: str = ""


class Platform(Protocol):
    """Runs commands. Registered under the entry point ``wes_bridge.platforms`` as a callable that takes
    the node's configuration and its state directory.

    Attributes:
        name: as in the configuration.
        kinds: kinds of executables it runs.
        links: whether staged inputs become symbolic links; false when the platform mounts them.
        shields: whether a command cannot change inputs that it was given to read, so that they may be shared.

    Three more words may be left out. ``leaves_open``: whether what a command has handed to another one stays
    open, to write, after its end; False. ``shows``: paths of the machine that every command sees; none.
    ``shares_network(job)``: whether its command is in a network with others; it is not.
    """

    name: str
    kinds: frozenset[str]
    links: bool
    shields: bool

    async def open(self) -> None:
        """The node is starting."""

    async def unavailable(self) -> str | None:
        """What is missing here for anything of these kinds to run; None when nothing is.

        Clients may then ask for another kind, so it is not for what is only out of order: :meth:`check` says
        that.
        """

    async def gaps(self) -> list[Gap]:
        """What it cannot enforce here. May wait a little until it is known."""

    async def check(self, request: ExecutionRequest) -> list[Message]:
        """What speaks against running ``request``: messages of level ERROR refuse it, others inform."""

    async def prepare(self, session: Session) -> None:
        """Get ready what the command needs besides its data (an image).

        Raises:
            PlatformError: it cannot be had.
        """

    def start(self, job: Job) -> None:
        """Start the command. Runs in a thread.

        Raises:
            NotBegunError: the platform could not begin it, but perhaps can when asked again.
            PlatformError, CommandNotFoundError: it cannot be started.
        """

    def ends_within(self, job: Job, seconds: float) -> bool:
        """Wait a little for the end of a command just started. Runs in a thread.

        Quick commands are then done with in the thread that started them. A platform that cannot tell
        without asking somebody says False at once.

        Returns:
            Whether it has ended; :meth:`wait` says how.

        Raises:
            NotBegunError: the platform could not begin it, but perhaps can by another :meth:`start`.
        """

    async def find(self, uuid: str, folder: SessionFolder) -> bool:
        """Whether a session's command was ever started, perhaps by an earlier process of this node."""

    def watched(self, job: Job) -> Roots | None:
        """The processes whose memory the node must watch; None when the platform does."""

    async def wait(self, job: Job) -> int | None:
        """Wait for the command's end.

        Returns:
            Its exit code (128 + n when signal n ended it); None when nobody knows it.

        Raises:
            PlatformError: the platform, not the command, failed.
        """

    async def kill(self, uuid: str, folder: SessionFolder, grace: float) -> None:
        """End the command and everything it started.

        Args:
            uuid: of which session.
            folder: its folder.
            grace: seconds between asking (SIGTERM) and forcing (SIGKILL).
        """

    async def close(self) -> None:
        """The node is stopping; commands go on."""
