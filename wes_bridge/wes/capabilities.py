"""What this service can run: languages, versions, engine, URL schemes."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from wes_bridge.config import ServiceConfig
from wes_bridge.model.locations import scheme_of

LANGUAGE = "CWL"
VERSIONS = ("v1.0", "v1.1", "v1.2")
WES_VERSION = "1.1.0"
ENGINE = "cwltool"


@cache
def engine_versions() -> dict[str, tuple[str, ...]]:
    """Versions by engine. The library is not imported for this: that would take a second."""
    return {ENGINE: (metadata.version(ENGINE),)}


def protocols(config: ServiceConfig) -> list[str]:
    """URL schemes that workflows and inputs may use."""
    found = ["http", "https", "data"] + (["file"] if config.fetch.files else [])
    reads = [place for node in config.nodes for place in node.reads]
    reads += [place for broker in config.brokers for place in broker.data or ()]
    others = (scheme for place in reads if (scheme := scheme_of(place)) not in ("", "file"))
    return list(dict.fromkeys([*found, *others]))
