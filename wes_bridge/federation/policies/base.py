"""What a policy is: it gives each offer a key; the offer with the lowest is best.

A policy knows figures and wishes, and nothing of brokers, requests or clocks. Ties, limits and nodes that
failed before are not its business: :mod:`wes_bridge.federation.choosing` sees to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wes_bridge.federation.figures import Figures
from wes_bridge.model.preferences import Wish

Key = tuple[float, ...]


class Policy(Protocol):
    """Orders offers."""

    def title(self, wish: Wish) -> str:
        """The word for the best: ``cheapest``."""

    def keys(self, offers: Sequence[Figures], wish: Wish) -> Sequence[Key]:
        """One key for each offer, all of the same length; the lowest is best.

        The key of an offer must not depend on the order of ``offers``.
        """

    def words(self, offer: Figures, wish: Wish) -> str:
        """What counts of an offer: ``costs 0.02``."""


def known(value: float | None) -> Key:
    """A key in which what is not known comes after everything that is."""
    return (1.0, 0.0) if value is None else (0.0, value)


def wanted(value: float | None) -> Key:
    """As :func:`known`, where more is better."""
    return known(None if value is None else -value)
