"""Putting offers in order, and saying why in words and as data.

The order is total and does not depend on the order of the answers: nodes that failed this step before come
last, then the policy decides, then the earlier finish, the lower price, and last a number made of the step's
and the broker's names, so that the steps of a scatter spread over nodes that are equally good.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wes_bridge.federation.client import Broker
from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key, Policy, known
from wes_bridge.federation.policies.earliest import Earliest
from wes_bridge.federation.policies.registry import load_policy
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import COST_MONETARY

_logger = logging.getLogger(__name__)
_LONGEST_NAME = 200
SHOWN = 10
"""Offers that a task's log shows figures of, and names when it says why."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A usable offer: whose, where its session is, and its figures."""

    broker: Broker
    offer: Session
    url: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates in order of preference, why the first is first, and the figures behind it."""

    ranked: list[Candidate]
    reason: str
    data: dict[str, Any]


def choose(
    candidates: Sequence[Candidate], wish: Wish, step: str, set_back: Mapping[str, int] | None = None
) -> Choice:
    """Order candidates.

    Args:
        candidates: at least one, all within the hard limits.
        wish: names the policy.
        step: the step's name.
        set_back: by broker, how often it failed this step.
    """
    set_back = set_back or {}
    if len(candidates) == 1:
        only = candidates[0]
        reason = "the only offer; " + Earliest().words(only.figures, wish)
        return Choice([only], reason, {"policy": wish.policy, "offers": [_shown(only)]})
    policy, keys, problem = _keys(wish, [candidate.figures for candidate in candidates])
    order = sorted(
        range(len(candidates)),
        key=lambda index: (
            set_back.get(candidates[index].broker.name, 0),
            keys[index],
            _tie(candidates[index], step),
        ),
    )
    ranked = [candidates[index] for index in order]
    data: dict[str, Any] = {
        "policy": wish.policy,
        "offers": [_shown(candidate) for candidate in ranked[:SHOWN]],
    }
    if wish.weights:
        data["weights"] = dict(wish.weights)
    return Choice(ranked, _reason(policy, ranked, wish, set_back) + problem, data)


def _keys(wish: Wish, offers: list[Figures]) -> tuple[Policy, list[Key], str]:
    """The policy, its keys, and what went wrong with it, in which case it is ``earliest``."""
    try:
        policy = load_policy(wish.policy)
        keys = [
            tuple(math.inf if math.isnan(part) else part for part in key) for key in policy.keys(offers, wish)
        ]
        if len({len(key) for key in keys}) == 1 and len(keys) == len(offers):
            return policy, keys, ""
        problem = "its keys do not fit the offers"
    except Exception as error:  # a plug-in may do anything; the step should run
        _logger.exception("policy %s", wish.policy)
        problem = f"{type(error).__name__}: {error}"
    earliest = Earliest()
    return earliest, earliest.keys(offers, wish), f"; the policy {wish.policy} failed ({problem})"


def _tie(candidate: Candidate, step: str) -> tuple[Any, ...]:
    figures, name = candidate.figures, candidate.broker.name
    finish = None if figures.finish is None else float(round(figures.finish))
    price = figures.cost(COST_MONETARY).expected
    spread = hashlib.blake2b(f"{step}\0{name}".encode(), digest_size=8).digest()
    return known(finish), known(price), spread, name, candidate.url


def _reason(policy: Policy, ranked: list[Candidate], wish: Wish, set_back: Mapping[str, int]) -> str:
    best = ranked[0]
    others = [f"{_name(one)}: {policy.words(one.figures, wish)}" for one in ranked[1:SHOWN]]
    if len(ranked) > SHOWN:
        others.append(f"{len(ranked) - SHOWN} more")
    text = f"{policy.title(wish)} of {len(ranked)} offers: {policy.words(best.figures, wish)}"
    text += f" ({'; '.join(others)})"
    failed = sorted({one.broker.name for one in ranked if set_back.get(one.broker.name)})
    return f"{text}; set back because they failed this step: {', '.join(failed)}" if failed else text


def _shown(candidate: Candidate) -> dict[str, Any]:
    return {"node": _name(candidate), **candidate.figures.to_json()}


def _name(candidate: Candidate) -> str:
    """Whose offer it is, with who made it where that is another (an aggregator passes offers on)."""
    maker = maker_of(candidate.offer)
    return f"{candidate.broker.name}/{maker}" if maker else candidate.broker.name


def maker_of(offer: Session) -> str | None:
    """Who made an offer that an aggregator passes on, as it says (native: ``meta.broker``)."""
    return offer.meta.broker[:_LONGEST_NAME] if offer.meta.broker else None
