"""``greenest``: the least carbon, else the least energy."""

from __future__ import annotations

from collections.abc import Sequence

from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key, known
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY


class Greenest:
    """Lowest carbon, then lowest energy; offers that quote no carbon come after those that do."""

    def title(self, _wish: Wish) -> str:
        """See :class:`~wes_bridge.federation.policies.base.Policy`."""
        return "greenest"

    def keys(self, offers: Sequence[Figures], _wish: Wish) -> list[Key]:
        """Carbon, then energy."""
        return [
            known(offer.cost(COST_CARBON).expected) + known(offer.cost(COST_ENERGY).expected)
            for offer in offers
        ]

    def words(self, offer: Figures, _wish: Wish) -> str:
        """Carbon and energy, as far as quoted."""
        carbon, energy = offer.cost(COST_CARBON).expected, offer.cost(COST_ENERGY).expected
        said = [f"{carbon:.6g} g of CO2"] if carbon is not None else []
        said += [f"{energy:.6g} kWh"] if energy is not None else []
        return ", ".join(said) or "quotes neither carbon nor energy"
