"""What a request may ask for when it wants an output kept; see ``Data.keep``."""

from __future__ import annotations

from wes_bridge.data.hashing import ALGORITHMS
from wes_bridge.model.data_urls import is_output_name
from wes_bridge.model.execution_broker import SIMPLE_DATA, Data, Message
from wes_bridge.model.units import parse_duration
from wes_bridge.node import messages
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.messages import message


def check_lease(data: Data) -> None:
    """Check what is wrong whatever the node.

    Raises:
        BadRequestError: the lease is no duration.
    """
    if data.keep is not None and data.keep.lease is not None:
        lease_seconds(data.keep.lease, "keep.lease")


def lease_seconds(text: str, what: str) -> float:
    """The seconds of a lease.

    Raises:
        BadRequestError: it is no positive duration.
    """
    try:
        seconds = parse_duration(text).total_seconds()
    except (ValueError, OverflowError) as error:
        raise BadRequestError(f"{what}: {error}") from error
    if seconds <= 0:
        raise BadRequestError(f"{what}: not a positive duration: {text}")
    return seconds


def check_keep(data: Data) -> list[Message]:
    """Why an output cannot be kept; empty when it can."""
    meta, keep = data.meta, data.keep
    name = output_name(data)
    reason = None
    if data.kind != SIMPLE_DATA:
        reason = "only a simple data resource can be kept"
    elif data.access != "WRITE":
        reason = "only an output can be kept: say access: WRITE"
    elif data.location:
        reason = "it has a location, and is to be kept here: leave one of them out"
    elif not is_output_name(name):
        reason = (
            f"the name {str(meta.name if meta else '')[:80]!r} can be no part of a URL: use letters, digits,"
            " '.', '_' and '-', 128 at most, beginning with a letter, a digit or '_'"
        )
    else:
        unknown = sorted(set((keep.checksums if keep else None) or ()) - ALGORITHMS)
        if unknown:
            reason = f"the checksum {unknown[0][:40]} is not known here; {', '.join(sorted(ALGORITHMS))} are"
    if reason is None:
        return []
    return [message(messages.INVALID_VALUE, "data resource {name}: {reason}", name=name[:128], reason=reason)]


def output_name(data: Data) -> str:
    """What a kept output is called: its resource's name, else the UUID; empty where it has neither."""
    meta = data.meta
    if meta is None:
        return ""
    return meta.name or (str(meta.uuid) if meta.uuid else "")
