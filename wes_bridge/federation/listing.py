"""The format of a listing of brokers: a small YAML or JSON file (docs/brokers.md).

A listing is somebody else's word: it can name brokers and what they see, but no secrets; those are in the
site's configuration, with the hosts that may get them.
"""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from wes_bridge.config import BrokerTraits

MAX_LISTING = 4 * 1024**2
"""Bytes of a listing that are read."""


class ListingError(Exception):
    """A listing cannot be used; the text says which and why."""


class ListedBroker(BrokerTraits):
    """One entry; what is not known is ignored, so that listings can grow."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dialect: Literal["native", "reference"] = "native"


class Listing(BaseModel):
    """A listing's content."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    brokers: list[ListedBroker]


def parse_listing(text: bytes, place: str) -> Listing:
    """Read a listing.

    Raises:
        ListingError: names the entry and field that is wrong.
    """
    try:
        data = yaml.load(text, yaml.CSafeLoader)  # the safe loader, in C
        return Listing.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ListingError(f"the listing {place} is not one: {where}: {problem['msg']}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ListingError(f"the listing {place} is neither YAML nor JSON: {error}") from error


def listing_schema() -> dict[str, Any]:
    """The JSON schema of a listing."""
    return Listing.model_json_schema()
