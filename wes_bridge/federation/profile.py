"""What the site says of a broker beside its URL: what it can see, what is there already, its images, labels.

From this a broker that cannot run a step is left out before it is asked, with the reason in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wes_bridge.model.execution_broker import Image
from wes_bridge.model.preferences import Wish
from wes_bridge.model.step_plan import StagedFile, StepPlan


@dataclass(frozen=True)
class Profile:
    """What is known of a broker.

    Attributes:
        data: URL prefixes of inputs and outputs that it can reach; None: all.
        holds: URL prefixes of data that is there already and need not be moved.
        images: images by the name that workflows use.
        registries: prefixes of image names it can pull beside ``images``; None: all.
        labels: what the site says of it, for ``only`` and ``never``.
        hosts: other hosts (``host`` or ``host:port``) that its sessions may be at; never sent credentials.
    """

    data: tuple[str, ...] | None = None
    holds: tuple[str, ...] = ()
    images: Mapping[str, Image] = field(default_factory=dict)
    registries: tuple[str, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset()


def unfit(name: str, profile: Profile, plan: StepPlan, image: str | None) -> str | None:
    """Why a broker need not be asked: it is not wanted, or cannot see the data or the image. None: ask it."""
    if plan.wish.picks_nodes:
        reason = _unwanted(name, profile.labels, plan.wish)
        if reason:
            return reason
    if profile.data is not None:
        for url in _urls(plan):
            if not url.startswith(profile.data):
                return f"it cannot reach {url} (it reaches {', '.join(profile.data) or 'nothing'})"
    if image is None or profile.registries is None or image in profile.images:
        return None
    if image.startswith(profile.registries):
        return None
    return f"it does not have the image {image} (it has those of {', '.join(profile.registries) or 'none'})"


def to_move(profile: Profile, plan: StepPlan, holds: Callable[[StagedFile], bool]) -> tuple[int, int]:
    """Bytes of inputs that are not there yet, and the number of inputs not there whose size is not known.

    Args:
        profile: what the site says that the broker has.
        plan: the step.
        holds: whether its nodes keep an input, from an earlier step.
    """
    moved = unknown = 0
    for item in plan.staged:
        if item.url is None or (profile.holds and item.url.startswith(profile.holds)) or holds(item):
            continue
        if item.size is None:
            unknown += 1
        else:
            moved += item.size
    return moved, unknown


def _urls(plan: StepPlan) -> list[str]:
    return [item.url for item in plan.staged if item.url is not None] + [plan.output_url]


def _unwanted(name: str, labels: Mapping[str, str], wish: Wish) -> str | None:
    own = {name, *(f"{key}={value}" for key, value in labels.items())}
    for names in wish.only:
        if own.isdisjoint(names):
            return f"the run asks only for {', '.join(names) or 'no node at all'}"
    unwanted = own.intersection(wish.never)
    return f"the run asks never for {', '.join(sorted(unwanted))}" if unwanted else None
