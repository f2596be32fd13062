"""Whether a node takes anything new: open, or draining. A restart does not open it again."""

from __future__ import annotations

from datetime import datetime

from wes_bridge.model.execution_broker import Message
from wes_bridge.model.units import format_instant, parse_instant, utcnow
from wes_bridge.node import messages
from wes_bridge.node.messages import message
from wes_bridge.store import node_sessions as store
from wes_bridge.store.database import Database
from wes_bridge.store.writer import Writer

_KEY = "draining since"


class Door:
    """The node's.

    Attributes:
        draining: since when nothing new is taken; None while it is open.
    """

    def __init__(self) -> None:
        self.draining: datetime | None = None

    def load(self, database: Database) -> None:
        """Find it as it was left. Blocks on the database."""
        since = store.get_note(database, _KEY)
        self.draining = parse_instant(since) if since else None

    async def drain(self, writer: Writer) -> None:
        """Close it for what is new; what was accepted goes on."""
        if self.draining is not None:
            return
        self.draining = utcnow()
        since = format_instant(self.draining)
        await writer(lambda connection: store.set_note(connection, _KEY, since))

    async def open(self, writer: Writer) -> None:
        """Open it again."""
        self.draining = None
        await writer(lambda connection: store.set_note(connection, _KEY, None))

    def refusal(self) -> Message | None:
        """What to tell who comes while it is closed."""
        if self.draining is None:
            return None
        text = "this node is being drained since {since} and takes nothing new; ask another"
        return message(messages.DRAINING, text, since=format_instant(self.draining))
