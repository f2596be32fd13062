"""Messages of a node: a kind, a template, the values for it, and the filled-in text.

Kinds starting ``urn:wes-bridge:`` are ours; the others are those the reference broker uses.
"""

from __future__ import annotations

from typing import Literal

from wes_bridge.model.execution_broker import UNENFORCED as UNENFORCED_KIND
from wes_bridge.model.execution_broker import Message
from wes_bridge.model.units import utcnow
from wes_bridge.redaction import redacted

Level = Literal["DEBUG", "INFO", "WARN", "ERROR", "OTHER"]

EXECUTABLE_REQUIRED = "urn:executable-required"
MISSING_VALUE = "urn:missing-value"
INVALID_VALUE = "urn:invalid-value"
NOT_SUPPORTED = "urn:not-supported"
RESOURCE_LIMIT = "urn:resource-limit"
IMAGE_UNAVAILABLE = "urn:image-unavailable"
IMAGE_DIGEST = "urn:image-digest-mismatch"
UNKNOWN_TYPE = "uri:unknown-type"
UNKNOWN_URL = "uri:unknown-url"
NO_TOKEN = "urn:wes-bridge:no-token-of-the-user"  # noqa: S105  # a name
RESOURCE_NOT_FOUND = "uri:resource-not-found"
CONSTRAINT = "urn:wes-bridge:constraint-not-met"
NO_SLOT = "urn:wes-bridge:no-slot"
SLOT_TAKEN = "urn:wes-bridge:slot-taken"
SLOT_OVER = "urn:wes-bridge:slot-over"
BOOKING_ENDED = "urn:wes-bridge:booking-ended"
ADVANCED = "urn:wes-bridge:advanced"
DRAINING = "urn:wes-bridge:draining"
DISK_FULL = "urn:wes-bridge:disk-full"
EXIT_CODE = "urn:wes-bridge:exit-code"
SIGNAL = "urn:wes-bridge:signal"
TIME_LIMIT = "urn:wes-bridge:time-limit"
MEMORY_LIMIT = "urn:wes-bridge:memory-limit"
PROCESS_LIMIT = "urn:wes-bridge:process-limit"
DISK_LIMIT = "urn:wes-bridge:disk-limit"
STAGING = "urn:wes-bridge:staging-failed"
RELEASING = "urn:wes-bridge:releasing-failed"
UNUSABLE = "urn:wes-bridge:output-unusable"
PLATFORM = "urn:wes-bridge:platform-failed"
LOST = "urn:wes-bridge:process-lost"
CANCELLING = "urn:wes-bridge:cancelling"
STOPPED = "urn:wes-bridge:stopped-by-client"
ILLEGAL_UPDATE = "urn:wes-bridge:illegal-update"
UNENFORCED = UNENFORCED_KIND
UNUSED = "urn:wes-bridge:unused"
ENGINE_FAILED = "urn:wes-bridge:engine-failed"
COMMAND_NOT_FOUND = "urn:wes-bridge:command-not-found"
UNSEEN = "urn:wes-bridge:path-not-shown"
NO_NETWORK = "urn:wes-bridge:no-network"
RESTARTED = "urn:wes-bridge:restarted"
INTERNAL = "urn:wes-bridge:internal-error"


def message(kind: str, template: str, level: Level = "ERROR", /, **values: object) -> Message:
    """Make a message.

    Args:
        kind: its type.
        template: text with ``{name}`` where values go.
        level: its level.
        **values: the values; their text is kept.
    """
    texts = {name: redacted(str(value)) for name, value in values.items()}
    text = template
    for name, value in texts.items():
        text = text.replace("{" + name + "}", value)
    return Message(
        kind=kind, time=utcnow(), level=level, template=template, values=texts or None, message=text
    )
