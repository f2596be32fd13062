"""Steps that wait for each other in a circle, found in one look at each link.

cwltool's check keeps what it has seen in lists, which makes it quadratic, and calls itself once for each step
of a chain, so that a chain of a thousand steps exceeds what Python allows. It must not know what steps do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cwltool.checker import get_step_id
from cwltool.utils import aslist
from schema_salad.exceptions import ValidationException

Links = dict[str, dict[str, None]]
"""The steps that each step's outputs go to, in order, each once."""


def circular_dependency_checker(step_inputs: list[Any]) -> None:
    """Refuse a workflow in which a step waits for itself, directly or through others.

    Args:
        step_inputs: the inputs of all its steps, with their sources.

    Raises:
        ValidationException: names the steps of each circle.
    """
    circles = list(_circles(_links(step_inputs)))
    if circles:
        listed = "\n".join(map(str, circles))
        raise ValidationException(f"The following steps have circular dependency:\n{listed}")


def _links(step_inputs: list[Any]) -> Links:
    links: Links = {}
    for port in step_inputs:
        if "source" in port:
            after = get_step_id(port["id"])
            for source in aslist(port["source"]):
                links.setdefault(get_step_id(source), {})[after] = None
            links.setdefault(after, {})
    return links


def _circles(links: Links) -> Iterator[list[str]]:
    """Each circle that a walk along the links comes upon."""
    done: set[str] = set()
    for start in links:
        if start in done:
            continue
        path = {start: iter(links[start])}  # in the order of the walk
        while path:
            here = next(reversed(path))
            following = next(path[here], None)
            if following is None:
                done.add(here)
                del path[here]
            elif following in path:
                steps = list(path)
                yield steps[steps.index(following) :]
            elif following not in done:
                path[following] = iter(links[following])
