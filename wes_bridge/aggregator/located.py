"""Where a broker finds inputs that one of our brokers keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wes_bridge.aggregator.messages import Json


@dataclass(frozen=True)
class KeptInput:
    """An input that one of our brokers keeps.

    Attributes:
        broker: which.
        url: of it there.
        signed: one with which the other brokers can read it; None: there is none.
    """

    broker: str
    url: str
    signed: str | None


def located(request: Json, broker: str, inputs: Mapping[str, KeptInput]) -> None:
    """Write into a request where one broker finds the inputs that our brokers keep."""
    for data in request.get("data") or []:
        found = inputs.get(data.get("location") or "")
        if found is None:
            continue
        place = found.url if found.broker == broker else found.signed
        if place is not None:
            data["location"] = place
