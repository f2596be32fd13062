"""``cheapest``: the lowest price."""

from __future__ import annotations

from collections.abc import Sequence

from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key, known
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import COST_MONETARY


class Cheapest:
    """Lowest expected cost (the middle of what is quoted), then the lowest possible one."""

    def title(self, _wish: Wish) -> str:
        """See :class:`~wes_bridge.federation.policies.base.Policy`."""
        return "cheapest"

    def keys(self, offers: Sequence[Figures], _wish: Wish) -> list[Key]:
        """Offers without a price come last."""
        prices = [offer.cost(COST_MONETARY) for offer in offers]
        return [known(price.expected) + known(price.most) for price in prices]

    def words(self, offer: Figures, _wish: Wish) -> str:
        """Its price."""
        price = offer.cost(COST_MONETARY).expected
        return "names no price" if price is None else f"costs {price:.6g}"
