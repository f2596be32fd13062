"""``balanced``: a weighted mix of all measures.

Each measure is scaled so that the best of the offers at hand has 0 and the worst has 1; an offer that does
not say has 1 too. The lowest weighted mean wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY, COST_MONETARY, METRIC_COMPUTE, METRIC_IO

DEFAULT_WEIGHTS: Mapping[str, float] = {"time": 2.0, "cost": 1.0, "carbon": 1.0, "data": 1.0}


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


_MEASURES: dict[str, Callable[[Figures], float | None]] = {
    "time": lambda offer: offer.finish,
    "cost": lambda offer: offer.cost(COST_MONETARY).expected,
    "energy": lambda offer: offer.cost(COST_ENERGY).expected,
    "carbon": lambda offer: offer.cost(COST_CARBON).expected,
    "performance": lambda offer: _negative(offer.metric(METRIC_COMPUTE).expected),
    "throughput": lambda offer: _negative(offer.metric(METRIC_IO).expected),
    "data": lambda offer: None if offer.moved_unknown else float(offer.moved),
}


class Balanced:
    """Lowest weighted mean of scaled measures."""

    def title(self, _wish: Wish) -> str:
        """See :class:`~wes_bridge.federation.policies.base.Policy`."""
        return "best balanced"

    def keys(self, offers: Sequence[Figures], wish: Wish) -> list[Key]:
        """The mean, rounded: an order must not hang on the last bit of a sum."""
        weights = wish.weights or DEFAULT_WEIGHTS
        largest = max(weights.values())
        shares = {name: weight / largest for name, weight in weights.items() if weight}
        total = sum(shares.values())
        columns = {name: _scaled([_MEASURES[name](offer) for offer in offers]) for name in sorted(shares)}
        return [
            (round(sum(shares[name] * column[index] for name, column in columns.items()) / total, 9),)
            for index in range(len(offers))
        ]

    def words(self, offer: Figures, wish: Wish) -> str:
        """What it was weighed by."""
        said = []
        for name in wish.weights or DEFAULT_WEIGHTS:
            value = _MEASURES[name](offer)
            said.append(f"{name} {'unknown' if value is None else f'{abs(value):.4g}'}")
        return ", ".join(said)


def _scaled(values: list[float | None]) -> list[float]:
    there = [value for value in values if value is not None]
    best, worst = min(there, default=0.0), max(there, default=0.0)
    if best == worst:  # all who say anything say the same
        return [1.0 if value is None else 0.0 for value in values]
    return [1.0 if value is None else (value - best) / (worst - best) for value in values]
