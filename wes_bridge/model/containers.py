"""Whether commands run in the container images that tools name: what the site and the run say together."""

from __future__ import annotations

from typing import Literal, get_args

Containers = Literal["required", "preferred", "never"]
"""``required``: each image that a tool names is used, also one that is only a hint. ``preferred``: an image
that is only a hint is left out where no node has a container engine. ``never``: no command runs in a
container; images that are only hints are left out, tools that require one cannot run."""
CONTAINERS: tuple[Containers, ...] = get_args(Containers)
PARAMETER = "containers"
"""The engine parameter by which a run says it."""


class ContainersError(ValueError):
    """A run asks for what is no choice, or for what its site forbids; the text says so in full."""


def read_containers(text: str) -> Containers | None:
    """The choice that a run makes; None when it makes none.

    Raises:
        ContainersError: it is none of the three.
    """
    said = text.strip().lower()
    if not said:
        return None
    for choice in CONTAINERS:
        if said == choice:
            return choice
    raise ContainersError(f"{PARAMETER}: {text[:40]!r} is none of {', '.join(CONTAINERS)}")


def settled(site: Containers, run: Containers | None) -> Containers:
    """What holds for a run. A site that says ``required`` or ``never`` lays down a rule.

    Raises:
        ContainersError: the run asks for something else than the site's rule.
    """
    if run is None or run == site:
        return site
    if site != "preferred":
        raise ContainersError(
            f"{PARAMETER}: this site lays down {site!r} (its setting engine.containers), so a run cannot ask"
            f" for {run!r}; leave the parameter out, or ask the site"
        )
    return run
