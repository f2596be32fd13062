"""Filling in what a request leaves open, from what the site has configured. What a request says stays."""

from __future__ import annotations

import copy
from typing import Any

from wes_bridge.aggregator.messages import FILLED_IN, Json, message
from wes_bridge.config import AggregatorConfig, DataReplicas, ImageDetails, RequestDefaults
from wes_bridge.model.execution_broker import SIMPLE_COMPUTE


def fill_in(request: Json, broker: str, config: AggregatorConfig) -> tuple[Json, list[Json]]:
    """The request for one broker.

    Args:
        request: as it came, checked; it is not changed.
        broker: name of who will be asked: replicas may be for some brokers only.
        config: what is known here.

    Returns:
        The request to send, and a message for each thing that was filled in.
    """
    filled = copy.deepcopy(request)
    notes = _image(filled, config.images)
    notes += _data(filled, broker, config.data)
    notes += _sizes(filled, config.defaults)
    return filled, notes


def _image(request: Json, known: dict[str, ImageDetails]) -> list[Json]:
    image = (request.get("executable") or {}).get("image")
    locations = (image or {}).get("locations") or []
    name = next((name for name in locations if name in known), None)
    if image is None or name is None:
        return []
    details, notes = known[name], []
    if details.digest and not image.get("digest"):
        image["digest"] = details.digest
        notes.append(_note("executable.image.digest", details.digest))
    if details.locations and len(locations) == 1:
        image["locations"] = list(dict.fromkeys(details.locations))
        notes.append(_note("executable.image.locations", ", ".join(details.locations)))
    return notes


def _data(request: Json, broker: str, known: list[DataReplicas]) -> list[Json]:
    notes = []
    for index, item in enumerate(request.get("data") or []):
        location = item.get("location")
        if not location or item.get("access") == "WRITE":
            continue
        found = _replica(location, broker, known)
        if found is not None:
            item["location"] = found
            notes.append(_note(f"data[{index}].location", found, f", a copy of {location}"))
    return notes


def _replica(location: str, broker: str, known: list[DataReplicas]) -> str | None:
    fitting = [entry for entry in known if location.startswith(entry.prefix)]
    for entry in sorted(fitting, key=lambda entry: -len(entry.prefix)):
        for replica in entry.replicas:
            if not replica.brokers or broker in replica.brokers:
                return replica.url + location.removeprefix(entry.prefix)
    return None


def _sizes(request: Json, defaults: RequestDefaults) -> list[Json]:
    notes = []
    for name, least in (("cores", defaults.cores), ("memory", defaults.memory_gib)):
        compute = request.get("compute") or {"kind": SIMPLE_COMPUTE}
        if least is None or _says_something(compute.get(name)):
            continue
        compute[name] = {"min": least}
        request["compute"] = compute
        notes.append(_note(f"compute.{name}.min", f"{least} GiB" if name == "memory" else least))
    schedule = request.get("schedule") or {}
    requested = schedule.get("requested") or {}
    if defaults.duration and not requested.get("duration"):
        request["schedule"] = schedule | {"requested": requested | {"duration": defaults.duration}}
        notes.append(_note("schedule.requested.duration", defaults.duration))
    return notes


def _says_something(size: Any) -> bool:
    return isinstance(size, dict) and any(value is not None for value in size.values())


def _note(where: str, what: object, why: str = "") -> Json:
    text = "filled in: {where} is {what}" + ("{why}" if why else "")
    return message(FILLED_IN, "INFO", text, where=where, what=what, **({"why": why} if why else {}))
