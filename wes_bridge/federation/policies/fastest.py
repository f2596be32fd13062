"""``fastest``: the best hardware, by the metrics that nodes promise."""

from __future__ import annotations

from collections.abc import Sequence

from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key, wanted
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import METRIC_COMPUTE, METRIC_IO


class Fastest:
    """Highest compute performance, then highest I/O throughput."""

    def title(self, _wish: Wish) -> str:
        """See :class:`~wes_bridge.federation.policies.base.Policy`."""
        return "fastest"

    def keys(self, offers: Sequence[Figures], _wish: Wish) -> list[Key]:
        """Offers without metrics come last."""
        return [
            wanted(offer.metric(METRIC_COMPUTE).expected) + wanted(offer.metric(METRIC_IO).expected)
            for offer in offers
        ]

    def words(self, offer: Figures, _wish: Wish) -> str:
        """Its metrics, as far as quoted."""
        compute, throughput = offer.metric(METRIC_COMPUTE).expected, offer.metric(METRIC_IO).expected
        said = [f"performance {compute:.6g}"] if compute is not None else []
        said += [f"I/O {throughput:.6g} MB/s"] if throughput is not None else []
        return ", ".join(said) or "promises no performance"
