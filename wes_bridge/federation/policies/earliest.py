"""``earliest``: done first. Start, with preparation and data movement, plus duration."""

from __future__ import annotations

from collections.abc import Sequence

from wes_bridge.federation.figures import Figures
from wes_bridge.federation.policies.base import Key, known
from wes_bridge.model.preferences import Wish
from wes_bridge.model.units import spell_seconds


class Earliest:
    """Lowest finish time, in whole seconds; then lowest start."""

    def title(self, _wish: Wish) -> str:
        """See :class:`~wes_bridge.federation.policies.base.Policy`."""
        return "earliest"

    def keys(self, offers: Sequence[Figures], _wish: Wish) -> list[Key]:
        """Offers that do not say when they are done come last."""
        return [known(_whole(offer.finish)) + known(_whole(offer.start)) for offer in offers]

    def words(self, offer: Figures, _wish: Wish) -> str:
        """When it is done."""
        if offer.finish is None:
            return "does not say when it is done"
        return f"starts in {_told(offer.start or 0.0)}, done in {_told(offer.finish)}"


def _told(seconds: float) -> str:
    return spell_seconds(max(0.0, seconds), tenths=True)


def _whole(seconds: float | None) -> float | None:
    """Answers that differ by fractions of a second were only asked at different times."""
    return None if seconds is None else float(round(seconds))
