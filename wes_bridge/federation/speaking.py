"""Which dialect a configured broker is spoken to in."""

from __future__ import annotations

from wes_bridge.config import BrokerConfig
from wes_bridge.federation.dialect import NATIVE, Dialect
from wes_bridge.federation.reference import Reference, Shared


def dialect_of(broker: BrokerConfig, default_image: str | None) -> Dialect:
    """The dialect of a broker.

    Args:
        broker: its configuration.
        default_image: of the service, for tools that name none.
    """
    if broker.dialect == "native":
        return NATIVE
    return Reference(Shared(broker.shared), broker.max_sessions, default_image)
